// SPDX-License-Identifier: Apache-2.0
// CPUs and nodes that come and go: the root first, then every set in pre-order.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

/// The root's new CPUs. When partitions hold all that is left, they have to ask anew.
void update_root_cpus(world& w) {
    group& root = *w.root;
    if (w.v1) root.own.cpus = w.active;
    cpumask& gone = w.kernel_rules().hands_down ? root.handed_down : w.sub_cpus;
    if (w.active.subset_of(gone)) gone = {};
    root.effective_cpus = w.active - gone;
}

/// Tasks of an emptied set of version 1 move to the nearest set above that has CPUs and nodes.
void rescue_tasks(world& w, group& g) {
    group* to = g.parent;
    while (!to->is_root() && (to->own.cpus.empty() || to->own.mems.empty())) to = to->parent;
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
        if (w.v1) shrink_v1(w, *at);
        else update_v2(w, *at);
    }
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
    update_root_cpus(w);
    update_all(w);
    w.domains_due = true;  // whatever was made on the way
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
    if (w.v1) root.own.mems = w.memory_nodes;
    root.effective_mems = w.memory_nodes;
    update_task_mems(w, root);
    update_all(w);
    return {};
}

}  // namespace cohort::cpuset::detail
