// SPDX-License-Identifier: Apache-2.0
// What holds between operations, whatever they were.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

std::string broken_set(const world& w, const group& g) {
    if (!g.effective_cpus.subset_of(w.active)) return "effective CPUs that are not active: " + (g.effective_cpus - w.active).list();
    if (!g.effective_mems.subset_of(w.memory_nodes)) return "effective nodes without memory: " + (g.effective_mems - w.memory_nodes).list();
    if (g.is_root()) return {};
    const group& p = *g.parent;
    // In 6.1 members beside a new partition keep what they had; a remote partition that a sibling's list made invalid keeps its CPUs.
    if (!w.kernel_rules().hands_down && !g.valid() && !(g.remote && g.invalid()) && !g.effective_cpus.subset_of(p.effective_cpus)) return "effective CPUs that its parent does not have: " + (g.effective_cpus - p.effective_cpus).list();
    if (!g.effective_mems.subset_of(p.effective_mems)) return "effective nodes that its parent does not have";
    if (w.v1) {
        if (g.own.cpus != g.effective_cpus || g.own.mems != g.effective_mems) return "effective masks that are not the configured ones";
        if (!g.own.cpus.subset_of(p.own.cpus) || !g.own.mems.subset_of(p.own.mems)) return "more than its parent";
        return {};
    }
    if (g.state == partition_state::member && g.own.exclusive.empty() && !g.own.granted.empty()) return "exclusive CPUs without having asked for them";
    // Before 7.0, a set that loses its partition to a sibling's list leaves those below it as they are.
    if (!w.kernel_rules().overlap_invalidates && g.valid() && !g.remote && !p.valid()) return "a local partition below a set that is none";
    if (g.state == partition_state::member && g.own.cpu_exclusive) return "the exclusive flag without being a partition";
    return {};
}

std::string broken_v1_siblings(const group& g) {
    for (group* c = first_child(g); c; c = next_child(c)) {
        for (group* d = next_child(c); d; d = next_child(d)) {
            if ((c->own.cpu_exclusive || d->own.cpu_exclusive) && c->own.cpus.intersects(d->own.cpus)) return "children that share exclusive CPUs";
        }
    }
    return {};
}

/// Of 7.0 alone: before, a partition that rises again may find its CPUs with others (README, "Kernel's doing").
std::string broken_partitions(const group& g) {
    cpumask taken;
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (!c->local()) continue;
        if (c->own.granted.intersects(taken)) return "two partitions that share CPUs " + (c->own.granted & taken).list();
        taken |= c->own.granted;
    }
    return taken.intersects(g.effective_cpus) ? "effective CPUs that a partition below has: " + (taken & g.effective_cpus).list() : "";
}

std::string broken_siblings(const world& w, const group& g) {
    if (w.v1) return broken_v1_siblings(g);
    return w.kernel_rules().overlap_invalidates ? std::string() : broken_partitions(g);
}

std::string broken_root(const world& w) {
    const cpumask left = w.v1 ? w.active : w.active - w.sub_cpus - w.root->handed_down;
    return w.root->effective_cpus == left ? "" : "effective CPUs " + w.root->effective_cpus.list() + ", and not those left by partitions, " + left.list();
}

std::string broken_tasks(const world& w) {
    for (const auto& [name, t] : w.tasks) {
        if (t.cpus.empty()) return "task \"" + name + "\" has no CPU";
        if (!t.at->tasks.contains(name)) return "task \"" + name + "\" is not where it says it is";
        if (t.mems.empty()) return "task \"" + name + "\" has no memory node";
    }
    return {};
}

}  // namespace

std::string broken(const world& w) {
    group* top = w.root.get();
    for (group* at = top; at; at = next_cpuset(at, top)) {
        std::string what = broken_set(w, *at);
        if (what.empty()) what = broken_siblings(w, *at);
        if (what.empty() && at->is_root()) what = broken_root(w);
        if (!what.empty()) return "\"" + path_of(*at) + "\" has " + what;
    }
    if (std::string what = broken_tasks(w); !what.empty()) return what;
    cpumask seen;
    for (const cpumask& d : sched_domains(w)) {
        // Before 7.0 partitions may overlap, and so do their domains; 6.1 may keep domains with CPUs that are gone.
        const bool apart = w.v1 || !w.kernel_rules().overlap_invalidates, current = w.v1 || !w.kernel_rules().hands_down;
        if ((apart && d.intersects(seen)) || (current && !d.subset_of(w.active))) return "the sched domain " + d.list() + " overlaps another or has inactive CPUs";
        seen |= d;
    }
    if (w.root->tasks_below != w.tasks.size()) return "the root counts " + std::to_string(w.root->tasks_below) + " tasks of " + std::to_string(w.tasks.size());
    return {};
}

}  // namespace cohort::cpuset::detail
