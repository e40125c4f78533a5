// SPDX-License-Identifier: Apache-2.0
// CPUs and nodes that come and go: the root first, then every set in pre-order.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

/// The root's new CPUs. When partitions hold all that is left, they have to ask anew.
void update_root_cpus(world& w) {
    group& root = *w.root;
    if (w.v1) root.own.cpus = w.active;
    w.contested = w.active.subset_of(w.sub_cpus);
    if (w.contested) w.sub_cpus = {};
    root.effective_cpus = w.active - w.sub_cpus;
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
    cpumask cpus = g.own.cpus & g.parent->effective_cpus;
    if (g.remote || (g.valid() && g.parent->valid())) cpus = partition_cpus(w, g);
    if (g.remote) {
        if (!w.contested && (!cpus.empty() || !populated(w, g))) return cpus;
        g.reason = partition_reason::hotplug;
        disable_remote(w, g);
        return g.own.cpus & g.parent->effective_cpus;
    }
    const bool lost = w.contested && g.parent->is_root();
    if (g.valid() && (lost || !g.parent->valid() || starves(w, *g.parent, g, cpus))) {
        invalidate_local(w, g);
        drop_grant(g);
        cpus = g.own.cpus & g.parent->effective_cpus;
    } else if (g.parent->valid() && g.invalid() && !lost) {
        update_local(w, g, nullptr);
        if (g.valid()) {
            g.own.granted = grantable(w, g, g.own);
            cpus = partition_cpus(w, g);
        }
    }
    return cpus;
}

void update_v2(world& w, group& g) {
    cpumask cpus = g.state == partition_state::member ? g.own.cpus & g.parent->effective_cpus : update_partition(w, g);
    if (cpus.empty() && !g.valid()) cpus = g.parent->effective_cpus;
    nodemask mems = g.own.mems & g.parent->effective_mems;
    if (mems.empty()) mems = g.parent->effective_mems;
    if (cpus != g.effective_cpus) {
        g.effective_cpus = cpus;
        update_tasks(w, g);
    }
    if (mems != g.effective_mems) {
        g.effective_mems = mems;
        update_task_mems(w, g);
    }
}

/// An empty partition has got the tasks of a child that fell.
bool must_fall_too(const world& w, const group& g) { return !g.is_root() && g.valid() && g.effective_cpus.empty() && populated(w, g); }

void update_all(world& w) {
    group* top = w.root.get();
    for (group* at = next_cpuset(top, top); at; at = next_cpuset(at, top)) {
        if (w.v1) {
            shrink_v1(w, *at);
            continue;
        }
        update_v2(w, *at);
        while (!at->valid() && must_fall_too(w, *at->parent)) {
            at = at->parent;
            update_v2(w, *at);
        }
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
    w.contested = false;
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
