// SPDX-License-Identifier: Apache-2.0
// Remote partitions: they take their CPUs from the root, through ancestors that only pass exclusive CPUs on.
#include <algorithm>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

void root_changed(world& w) {
    update_tasks(w, *w.root);
    propagate_siblings(w, *w.root, nullptr);
}

}  // namespace

partition_reason enable_remote(world& w, group& g, partition_state wanted) {
    if (!w.admin()) return partition_reason::access;
    const cpumask cpus = grantable(w, g, g.own);
    const bool needs_active = !w.kernel_rules().overlap_invalidates;
    if (cpus.empty() || (needs_active && !cpus.intersects(w.active)) || cpus.intersects(w.sub_cpus) || w.root->effective_cpus.subset_of(cpus)) return partition_reason::invalid_cpus;
    take_cpus(w, *w.root, wanted, cpus);
    g.remote = true;
    g.state = wanted;
    g.own.granted = cpus;
    w.remotes.insert(w.remotes.begin(), &g);
    root_changed(w);
    return partition_reason::none;
}

void disable_remote(world& w, group& g) {
    std::erase(w.remotes, &g);
    g.remote = false;
    const partition_state before = g.state;
    g.state = flipped(before);
    if (g.reason == partition_reason::none) g.reason = partition_reason::invalid_cpus;
    give_back(w, *w.root, before, g.own.granted);
    reset_to_member(g);
    update_tasks(w, g);
    root_changed(w);
}

void update_remote(world& w, group& g, const cpumask& cpus) {
    const cpumask more = cpus - g.own.granted, less = g.own.granted - cpus;
    auto fault = partition_reason::none;
    if (cpus.empty()) fault = partition_reason::cpus_empty;
    else if (!more.empty() && !w.admin()) fault = partition_reason::access;
    else if (!more.empty() && (more.intersects(w.sub_cpus) || w.root->effective_cpus.subset_of(more))) fault = partition_reason::no_cpus;
    if (fault != partition_reason::none) {
        g.reason = fault;
        disable_remote(w, g);
        return;
    }
    take_cpus(w, *w.root, g.state, more);
    give_back(w, *w.root, g.state, less);
    g.own.granted = cpus;
    root_changed(w);
}

void check_remotes(world& w, const group& g, const cpumask& granted) {
    const cpumask lost = (g.own.granted - granted) & w.sub_cpus;
    if (lost.empty()) return;
    const std::vector<group*> now = w.remotes;
    for (group* r : now) {
        if (r->remote && r->effective_cpus.intersects(lost)) disable_remote(w, *r);
    }
}

}  // namespace cohort::cpuset::detail
