// SPDX-License-Identifier: Apache-2.0
// CPUs and nodes that come and go: the root first, then every set in pre-order.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

void tell(world& w, const char* what, const group& g, std::string text) {
    if (w.trace) w.trace->push_back({what, path_of(g), std::move(text)});
}
std::string cpus_text(const cpumask& m) { return "CPUs \"" + m.list() + "\""; }
std::string nodes_text(const nodemask& m) { return "nodes \"" + m.list() + "\""; }
template <class Mask, class Text>
std::string went(const Mask& was, const Mask& is, Text text) { return was == is ? text(is) + " as before" : text(was) + " -> " + text(is); }

/// What makes the work: an event, and how it comes to run.
void tell_event(world& w, const std::string& event) {
    if (!w.trace) return;
    const bool later = w.profile == kernel::v6_1;
    tell(w, "notify", *w.root, event);
    tell(w, "work", *w.root, later ? "the work item is queued, once however many events come before it runs; it runs" : "the work is done at once, by whoever takes the CPU or the memory up or down");
    tell(w, "lock", *w.root, "the tree is locked");
}

/// The root's new CPUs. When partitions hold all that is left, they have to ask anew.
void update_root_cpus(world& w) {
    group& root = *w.root;
    if (w.v1) root.own.cpus = w.active;
    cpumask& gone = w.kernel_rules().hands_down ? root.handed_down : w.sub_cpus;
    // CPUs that partitions have taken count as changed even where the root's own mask stays.
    tell(w, "compare", root, went(root.effective_cpus | gone, w.active, cpus_text) + (gone.empty() ? "" : ", " + cpus_text(gone) + " of them given to partitions"));
    if (w.active.subset_of(gone)) gone = {};
    tell(w, "publish", root, "under the callback lock: effective " + went(root.effective_cpus, w.active - gone, cpus_text));
    root.effective_cpus = w.active - gone;
    tell(w, "unlock", root, "the tree is let go; each set below is locked for itself");
}

/// Tasks of an emptied set of version 1 move to the nearest set above that has CPUs and nodes.
void rescue_tasks(world& w, group& g) {
    group* to = g.parent;
    while (!to->is_root() && (to->own.cpus.empty() || to->own.mems.empty())) to = to->parent;
    if (!g.tasks.empty()) tell(w, "move", g, std::to_string(g.tasks.size()) + " tasks to \"" + path_of(*to) + "\": nothing is left here");
    while (!g.tasks.empty()) move_task(w, w.tasks.find(*g.tasks.begin())->second, *to);
}

void shrink_v1(world& w, group& g) {
    const cpumask cpus = g.own.cpus & g.parent->effective_cpus;
    const nodemask mems = g.own.mems & g.parent->effective_mems;
    const bool new_cpus = cpus != g.effective_cpus, new_mems = mems != g.effective_mems;
    if (!new_cpus && !new_mems) return;
    g.own.cpus = g.effective_cpus = cpus;
    g.own.mems = g.effective_mems = mems;
    if (new_cpus && !cpus.empty()) update_tasks(w, g);
    if (new_mems && !mems.empty()) update_task_mems(w, g);
    if (cpus.empty() || mems.empty()) rescue_tasks(w, g);
}

/// A partition meets the machine's new CPUs: it may fall, or rise again. Returns its effective CPUs.
cpumask update_partition(world& w, group& g) {
    group& parent = *g.parent;
    cpumask cpus = g.remote || (g.valid() && parent.valid()) ? partition_cpus(w, g) : member_cpus(g);
    const bool none_taken = w.sub_cpus.empty();
    if (g.remote && (none_taken || (cpus.empty() && populated(w, g)))) {
        g.reason = partition_reason::hotplug;
        disable_remote(w, g);
        cpus = member_cpus(g);
    }
    // The reason of a local one that falls here is the one recorded last, if any.
    const bool falls = g.local() && (!parent.valid() || starves(w, parent, g, cpus) || w.sub_cpus.empty());
    const bool tries = !falls && parent.valid() && g.invalid() && !g.own.granted.empty();
    if (falls) invalidate_local(w, g);
    else if (tries) update_local(w, g, nullptr);
    return falls || (tries && g.valid()) ? partition_cpus(w, g) : cpus;
}

void update_v2(world& w, group& g) {
    const bool partition = g.state != partition_state::member;
    cpumask cpus = w.kernel_rules().hands_down ? meet_machine_6_1(w, g) : partition ? update_partition(w, g) : member_cpus(g);
    nodemask mems = g.own.mems & g.parent->effective_mems;
    const bool new_cpus = cpus != g.effective_cpus, new_mems = mems != g.effective_mems;
    // Looked at before the parent's are taken for none: a partition that falls with no CPUs has none still.
    if (!new_cpus && !new_mems) return;
    if (cpus.empty() && !g.valid()) cpus = g.parent->effective_cpus;
    if (mems.empty()) mems = g.parent->effective_mems;
    g.effective_cpus = cpus;
    if (new_cpus) update_tasks(w, g);
    if (new_mems) {
        g.effective_mems = mems;
        update_task_mems(w, g);
    }
}

void update_all(world& w) {
    group* top = w.root.get();
    for (group* at = next_cpuset(top, top); at; at = next_cpuset(at, top)) {
        const cpumask cpus = at->effective_cpus;
        const nodemask mems = at->effective_mems;
        const partition_state state = at->state;
        if (w.v1) shrink_v1(w, *at);
        else update_v2(w, *at);
        if (!w.trace) continue;
        std::string text = went(cpus, at->effective_cpus, cpus_text);
        if (mems != at->effective_mems) text += ", " + went(mems, at->effective_mems, nodes_text);
        if (state != at->state) text += ", partition \"" + partition_text(state, partition_reason::none, w.profile) + "\" -> \"" + partition_text(at->state, at->reason, w.profile) + "\"";
        tell(w, "visit", *at, text + (at->tasks_below && (cpus != at->effective_cpus || mems != at->effective_mems) ? ", tasks follow" : ""));
    }
}

void finish(world& w) {
    if (!w.trace) return make_domains(w);
    const bool due = w.domains_due;
    make_domains(w);
    std::string text;
    for (const cpumask& d : w.domains) text += (text.empty() ? "" : "; ") + d.list();
    tell(w, "domains", *w.root, due ? "made anew: " + (text.empty() ? "none" : text) : "stay as they are");
}

}  // namespace

verdict set_cpu_online(world& w, std::int64_t cpu, bool on) {
    if (!w.admin()) return {EACCES, "only root takes CPUs online and offline"};
    const int n = cpu < max_cpus ? static_cast<int>(cpu) : -1;
    if (!w.possible.test(n)) return {ENOENT, "there is no CPU " + std::to_string(cpu)};
    if (w.active.test(n) == on) return {};
    if (!on && w.active.weight() == 1) return {EBUSY, "CPU " + std::to_string(cpu) + " is the last one"};
    if (on) w.active.set(n);
    else w.active.clear(n);
    tell_event(w, "CPU " + std::to_string(n) + (on ? " is active" : " is active no more"));
    update_root_cpus(w);
    update_all(w);
    w.domains_due = true;  // whatever was made on the way
    finish(w);
    return {};
}

verdict set_node_online(world& w, std::int64_t node, bool on) {
    if (!w.admin()) return {EACCES, "only root takes nodes online and offline"};
    const int n = node < max_nodes ? static_cast<int>(node) : -1;
    if (!w.possible_nodes.test(n)) return {ENOENT, "there is no node " + std::to_string(node)};
    if (w.memory_nodes.test(n) == on) return {};
    if (!on && w.memory_nodes.weight() == 1) return {EBUSY, "node " + std::to_string(node) + " is the last with memory"};
    if (on) w.memory_nodes.set(n);
    else w.memory_nodes.clear(n);
    group& root = *w.root;
    tell_event(w, "the memory notifier, priority 10: node " + std::to_string(n) + (on ? " has memory" : " has no memory any more"));
    tell(w, "compare", root, went(root.effective_mems, w.memory_nodes, nodes_text));
    if (w.v1) root.own.mems = w.memory_nodes;
    tell(w, "publish", root, "under the callback lock: effective " + went(root.effective_mems, w.memory_nodes, nodes_text));
    root.effective_mems = w.memory_nodes;
    tell(w, "rebind", root, std::to_string(root.tasks.size()) + " tasks of its own and their policies");
    update_task_mems(w, root);
    tell(w, "unlock", root, "the tree is let go; each set below is locked for itself");
    update_all(w);
    finish(w);
    return {};
}

}  // namespace cohort::cpuset::detail
