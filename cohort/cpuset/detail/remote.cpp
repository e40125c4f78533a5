// SPDX-License-Identifier: Apache-2.0
// Remote partitions: they take their CPUs from the root, through ancestors that only pass exclusive CPUs on.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

void root_changed(world& w, bool cpus_moved = true) {
    if (cpus_moved) w.domains_due = true;
    update_tasks(w, *w.root);
    propagate_siblings(w, *w.root, nullptr);
}

}  // namespace

partition_reason enable_remote(world& w, group& g, partition_state wanted) {
    if (!w.admin()) return partition_reason::access;
    const cpumask cpus = grant_for(w, g, g.own).cpus;
    const bool needs_active = !w.kernel_rules().overlap_invalidates;
    if (cpus.empty() || (needs_active && !cpus.intersects(w.active)) || cpus.intersects(w.sub_cpus) || w.root->effective_cpus.subset_of(cpus)) return partition_reason::invalid_cpus;
    take_cpus(w, *w.root, wanted, cpus);
    g.remote = true;
    g.own.granted = cpus;
    g.reason = partition_reason::none;
    root_changed(w);
    return partition_reason::none;
}

void disable_remote(world& w, group& g) {
    g.remote = false;
    give_back(w, *w.root, g.state, g.own.granted);
    g.state = g.reason != partition_reason::none ? flipped(g.state) : partition_state::member;
    g.own.granted = grant_for(w, g, g.own).cpus;
    reset_to_member(g);
    root_changed(w);
}

void update_remote(world& w, group& g, const cpumask& cpus, const cpumask* exclusive) {
    const cpumask more = cpus - g.own.granted, less = g.own.granted - cpus;
    bool falls = cpus.empty();
    if (falls) {
        g.reason = partition_reason::cpus_empty;
    } else if (!more.empty()) {
        if (!w.admin()) g.reason = partition_reason::access;
        else if (more.intersects(w.sub_cpus) || w.root->effective_cpus.subset_of(more)) g.reason = partition_reason::no_cpus;
        falls = g.reason != partition_reason::none;  // the writer may have found one before; without new CPUs it does not count
    }
    if (falls) {
        disable_remote(w, g);
        return;
    }
    take_cpus(w, *w.root, g.state, more);
    give_back(w, *w.root, g.state, less);
    g.own.granted = cpus;
    if (exclusive) g.own.exclusive = *exclusive;
    root_changed(w, !more.empty() || !less.empty());
}

}  // namespace cohort::cpuset::detail
