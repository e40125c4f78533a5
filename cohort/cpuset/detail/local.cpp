// SPDX-License-Identifier: Apache-2.0
// Local partitions: CPUs that go from a parent partition to a child, and back.
#include <algorithm>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

/// What a change of a local partition comes to.
struct hand_over {
    cpumask back, taken;  // to and from the parent
    partition_state state = partition_state::member;
};

void settle(world& w, group& g, const hand_over& h, bool flag_too) {
    if (h.back.empty() && h.taken.empty() && h.state == g.state) return;
    group& parent = *g.parent;
    const partition_state before = g.state;
    g.state = h.state;
    give_back(w, parent, before, h.back);
    take_cpus(w, parent, h.state, h.taken);
    if (flag_too && is_valid(before) != is_valid(h.state)) set_exclusive_flag(w, g, is_valid(h.state));
    if (h.back.empty() && h.taken.empty()) return;
    update_tasks(w, parent);
    propagate_siblings(w, parent, &g);
}

bool alone_among_siblings(const group& g) {
    for (group* s = first_child(*g.parent); s; s = next_child(s)) {
        if (s != &g && g.own.wanted().intersects(s->own.wanted())) return false;
    }
    return true;
}

bool held_by_remote(const world& w, const cpumask& cpus) {
    return std::ranges::any_of(w.remotes, [&](const group* r) { return r->own.granted.intersects(cpus); });
}

/// A write of new CPUs, which the parent can grant in part.
partition_reason meet_new_cpus(const world& w, const group& g, const cpumask& cpus, hand_over& h) {
    const group& parent = *g.parent;
    if (cpus.empty()) return partition_reason::cpus_empty;
    const bool starved = starves(w, parent, g, cpus & parent.own.granted);
    if (g.invalid()) {
        h.taken = cpus & parent.own.granted;
        if (parent.is_root() && held_by_remote(w, h.taken)) {
            h.taken = {};
            return partition_reason::remote;
        }
    } else {
        h.back = (g.own.granted - cpus) & parent.own.granted;
        h.taken = (cpus - g.own.granted) & parent.own.granted;
    }
    if (!starved || h.back.intersects(w.active)) return partition_reason::none;
    h.taken = {};
    h.back = g.valid() ? g.own.granted & parent.own.granted : cpumask{};
    return partition_reason::no_cpus;
}

/// The parent has changed: a valid partition may fall, an invalid one rise. `stays`: neither.
partition_reason meet_parent(const world& w, const group& g, hand_over& h, bool& stays) {
    const group& parent = *g.parent;
    const cpumask& wanted = g.own.wanted();
    if (starves(w, parent, g, wanted & parent.own.granted)) {
        if (g.valid()) h.back = g.own.granted & parent.own.granted;
        return partition_reason::no_cpus;
    }
    if (!g.invalid()) return partition_reason::none;
    if (!wanted.subset_of(parent.own.granted)) {
        stays = true;
        return partition_reason::none;
    }
    if (!alone_among_siblings(g)) return partition_reason::not_exclusive;
    if (parent.is_root() && held_by_remote(w, wanted)) return partition_reason::remote;
    h.taken = wanted;
    return partition_reason::none;
}

}  // namespace

void take_cpus(world& w, group& from, partition_state s, const cpumask& cpus) {
    if (cpus.empty()) return;
    if (from.is_root()) w.sub_cpus |= cpus;
    if (s == partition_state::isolated) w.isolated |= cpus;
    else if (from.state == partition_state::isolated) w.isolated = w.isolated - cpus;
    from.effective_cpus = from.effective_cpus - cpus;
}

void give_back(world& w, group& to, partition_state s, const cpumask& cpus) {
    if (cpus.empty()) return;
    if (to.is_root()) w.sub_cpus = w.sub_cpus - cpus;
    if (to.state == partition_state::isolated) w.isolated |= cpus;
    else if (s == partition_state::isolated) w.isolated = w.isolated - cpus;
    to.effective_cpus |= cpus & w.active;
}

partition_reason enable_local(world& w, group& g, partition_state wanted) {
    const cpumask cpus = grantable(w, g, g.own);
    if (cpus.empty()) return partition_reason::invalid_cpus;
    if (conflicts_with_housekeeping(w, wanted, cpus)) return partition_reason::housekeeping;
    if (starves(w, *g.parent, g, cpus)) return partition_reason::no_cpus;
    g.own.granted = cpus;
    settle(w, g, {.back = {}, .taken = cpus, .state = wanted}, false);
    return partition_reason::none;
}

void disable_local(world& w, group& g) {
    hand_over h{.back = {}, .taken = {}, .state = partition_state::member};
    if (g.valid() && g.parent->valid()) h.back = g.own.granted & g.parent->own.granted;
    settle(w, g, h, false);
}

void invalidate_local(world& w, group& g) {
    if (!g.valid()) return;
    hand_over h{.back = {}, .taken = {}, .state = flipped(g.state)};
    if (g.parent->valid()) h.back = g.own.granted & g.parent->own.granted;
    settle(w, g, h, true);
}

void update_local(world& w, group& g, const cpumask* new_cpus) {
    if (!g.parent->valid()) return;
    hand_over h{.back = {}, .taken = {}, .state = g.state};
    bool stays = false;
    partition_reason fault;
    if (new_cpus) fault = meet_new_cpus(w, g, *new_cpus, h);
    else if (g.own.wants_nothing()) return;
    else fault = meet_parent(w, g, h, stays);
    if (fault != partition_reason::none) g.reason = fault;
    if (!stays && (fault != partition_reason::none) == g.valid()) h.state = flipped(g.state);
    if (!new_cpus && g.invalid() && is_valid(h.state)) g.own.granted = h.taken;
    settle(w, g, h, true);
    if (!new_cpus) follow_balance(g);
}

}  // namespace cohort::cpuset::detail
