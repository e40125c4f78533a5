// SPDX-License-Identifier: Apache-2.0
// May a set ask for this? The errno is that of the first rule broken, in the kernel's order.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

std::string named(const group& g) { return "\"" + path_of(g) + "\""; }

/// The four-part test of version 1: CPUs, nodes and both exclusivities.
bool within(const request& inner, const request& outer) {
    return inner.cpus.subset_of(outer.cpus) && inner.mems.subset_of(outer.mems) && inner.cpu_exclusive <= outer.cpu_exclusive &&
           inner.mem_exclusive <= outer.mem_exclusive;
}

/// What of `inner` is not in `outer`, for people.
std::string beyond(const request& inner, const request& outer) {
    if (!inner.cpus.subset_of(outer.cpus)) return "CPUs " + (inner.cpus - outer.cpus).list();
    if (!inner.mems.subset_of(outer.mems)) return "nodes " + (inner.mems - outer.mems).list();
    return inner.cpu_exclusive > outer.cpu_exclusive ? "cpu_exclusive" : "mem_exclusive";
}

verdict fits_family(const group& g, const request& trial) {
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (!within(c->own, trial)) return {EBUSY, "the child " + named(*c) + " has " + beyond(c->own, trial)};
    }
    if (!g.is_root() && !within(trial, g.parent->own)) {
        return {EACCES, "the parent " + named(*g.parent) + " does not have " + beyond(trial, g.parent->own)};
    }
    return {};
}

verdict keeps_tasks_running(const group& g, const request& trial) {
    if (!g.tasks_below) return {};
    const std::string tasks = named(g) + " has tasks: ";
    if (!g.own.cpus.empty() && trial.cpus.empty()) return {ENOSPC, tasks + "its list of CPUs may not become empty"};
    if (!g.own.mems.empty() && trial.mems.empty()) return {ENOSPC, tasks + "its list of nodes may not become empty"};
    return {};
}

/// Do two siblings claim CPUs that one of them wants for itself? Empty: no.
std::string cpu_conflict(const world& w, const request& a, const request& b) {
    if (a.cpu_exclusive || b.cpu_exclusive) {
        const cpumask both = a.wanted() & b.wanted();
        return both.empty() ? "" : "CPUs " + both.list();
    }
    if (w.v1 || (!a.lists_exclusive && !b.lists_exclusive)) return {};
    if (a.lists_exclusive && b.lists_exclusive) {
        const cpumask both = a.exclusive & b.exclusive;
        return both.empty() ? "" : "exclusive CPUs " + both.list();
    }
    // One alone must leave the other some of its CPUs.
    if (!a.cpus.empty() && a.cpus.subset_of(b.exclusive)) return "all of its CPUs, " + a.cpus.list();
    if (!b.cpus.empty() && b.cpus.subset_of(a.exclusive)) return "all of the sibling's CPUs, " + b.cpus.list();
    return {};
}

/// 7.0: only exclusive lists refuse; a partition without one claims what it was granted.
std::string exclusive_conflict(const request& trial, const group& sibling) {
    if (!trial.lists_exclusive) return {};
    const request& s = sibling.own;
    const cpumask claimed = s.lists_exclusive ? s.exclusive : sibling.valid() ? s.granted : cpumask{};
    if (const cpumask both = trial.exclusive & claimed; !both.empty()) return "exclusive CPUs " + both.list();
    return !s.cpus.empty() && s.cpus.subset_of(trial.exclusive) ? "all of the sibling's CPUs, " + s.cpus.list() : "";
}

verdict stays_apart(const world& w, const group& g, const request& trial) {
    for (group* s = first_child(*g.parent); s; s = next_child(s)) {
        if (s == &g) continue;
        const bool by_lists = w.v1 || w.kernel_rules().overlap_invalidates;
        const std::string what = by_lists ? cpu_conflict(w, trial, s->own) : exclusive_conflict(trial, *s);
        if (!what.empty()) return {EINVAL, "the sibling " + named(*s) + " and it would share " + what};
        if ((trial.mem_exclusive || s->own.mem_exclusive) && trial.mems.intersects(s->own.mems)) {
            return {EINVAL, "the sibling " + named(*s) + " and it would share nodes " + (trial.mems & s->own.mems).list()};
        }
    }
    return {};
}

bool has_local_partition(const group& g) {
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (c->local()) return true;
    }
    return false;
}

}  // namespace

verdict validate(const world& w, const group& g, const request& trial) {
    if (w.v1) {
        if (verdict v = fits_family(g, trial); v.refused()) return v;
    }
    if (g.is_root()) return {};
    if (w.v1 || w.kernel_rules().emptying_needs_no_tasks) {
        if (verdict v = keeps_tasks_running(g, trial); v.refused()) return v;
    }
    return stays_apart(w, g, trial);
}

bool populated(const world& w, const group& g, const group* without) {
    if (g.is_root() || !g.tasks.empty()) return true;  // the root has kernel threads
    if (!g.tasks_below) return false;
    const bool shares_tasks_out = w.kernel_rules().hands_down ? !g.handed_down.empty() : g.valid() && has_local_partition(g);
    if (!without && !shares_tasks_out) return true;
    // Partitions have their tasks to themselves. A set that is none counts with all that is below it.
    group* top = const_cast<group*>(&g);
    for (group* at = next_cpuset(top, top); at;) {
        const bool excluded = at == without;
        const bool other_partition = at->valid() && !excluded;
        if (!excluded && !other_partition && at->tasks_below) return true;
        at = next_cpuset(at, top, other_partition || (excluded && !w.kernel_rules().excluded_child_is_walked) || !at->tasks_below);
    }
    return false;
}

bool starves(const world& w, const group& parent, const group& g, const cpumask& cpus) {
    return (parent.effective_cpus.subset_of(cpus) && populated(w, parent, &g)) || (!cpus.intersects(w.active) && populated(w, g));
}

}  // namespace cohort::cpuset::detail
