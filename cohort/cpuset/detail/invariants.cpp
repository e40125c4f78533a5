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
    if (!g.valid() && !g.effective_cpus.subset_of(p.effective_cpus)) return "effective CPUs that its parent does not have: " + (g.effective_cpus - p.effective_cpus).list();
    if (!g.effective_mems.subset_of(p.effective_mems)) return "effective nodes that its parent does not have";
    if (w.v1) {
        if (g.own.cpus != g.effective_cpus || g.own.mems != g.effective_mems) return "effective masks that are not the configured ones";
        if (!g.own.cpus.subset_of(p.own.cpus) || !g.own.mems.subset_of(p.own.mems)) return "more than its parent";
        return {};
    }
    if (g.state == partition_state::member && g.own.exclusive.empty() && !g.own.granted.empty()) return "exclusive CPUs without having asked for them";
    if (g.remote && !g.valid()) return "the mark of a remote partition without being one";
    if (g.valid() && !g.remote && !p.valid()) return "a local partition below a set that is none";
    if (!g.valid() && g.own.cpu_exclusive) return "the exclusive flag without being a partition";
    // 6.12 lets a set with tasks become a remote partition of CPUs that are all offline.
    if (g.local() && g.effective_cpus.empty() && populated(w, g)) return "tasks in a partition without CPUs";
    return {};
}

std::string broken_siblings(const world& w, const group& g) {
    cpumask taken;
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (w.v1) {
            for (group* d = next_child(c); d; d = next_child(d)) {
                if ((c->own.cpu_exclusive || d->own.cpu_exclusive) && c->own.cpus.intersects(d->own.cpus)) return "children that share exclusive CPUs";
            }
            continue;
        }
        if (!c->local()) continue;
        // Revived by a new list beside an invalid sibling with the same CPUs: the kernel does not look, the flag tells.
        if (!c->own.cpu_exclusive) return {};
        if (c->own.granted.intersects(taken)) return "two partitions that share CPUs " + (c->own.granted & taken).list();
        taken |= c->own.granted;
    }
    if (taken.intersects(g.effective_cpus)) return "effective CPUs that a partition below has: " + (taken & g.effective_cpus).list();
    return {};
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
        if (!what.empty()) return "\"" + path_of(*at) + "\" has " + what;
    }
    if (std::string what = broken_tasks(w); !what.empty()) return what;
    cpumask seen;
    for (const cpumask& d : sched_domains(w)) {
        if (d.intersects(seen) || !d.subset_of(w.active)) return "the sched domain " + d.list() + " overlaps another or has inactive CPUs";
        seen |= d;
    }
    if (w.root->tasks_below != w.tasks.size()) return "the root counts " + std::to_string(w.root->tasks_below) + " tasks of " + std::to_string(w.tasks.size());
    return {};
}

}  // namespace cohort::cpuset::detail
