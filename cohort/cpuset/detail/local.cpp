// SPDX-License-Identifier: Apache-2.0
// Local partitions: CPUs that go from a parent partition to a child, and back.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

/// What a change of a local partition comes to.
struct hand_over {
    cpumask back, taken;  // to and from the parent
    partition_state state = partition_state::member;
    bool told = false;    // siblings look again even if no CPU goes
    bool stays = false;   // neither rises nor falls
    bool moves() const { return told || !back.empty() || !taken.empty(); }
};

/// When the exclusive flag follows the state: a write of a list has it checked before, and turns it last.
enum class flag_turns { before, after };

void settle(world& w, group& g, const hand_over& h, flag_turns when) {
    const partition_state before = g.state;
    if (!h.moves() && h.state == before) return;
    group& parent = *g.parent;
    if (h.state != before && when == flag_turns::before) set_exclusive_flag(w, g, is_valid(h.state));
    g.state = h.state;
    give_back(w, parent, before, h.back);
    take_cpus(w, parent, h.state, h.taken);
    if (h.state != before && when == flag_turns::after) set_exclusive_flag(w, g, g.valid());
    if (h.moves()) {
        update_tasks(w, parent);
        propagate_siblings(w, parent, &g);
    }
    if (g.state != before && g.valid()) g.reason = partition_reason::none;
}

/// What a partition counts as its own: 6.12 what it asks for, siblings or not; 7.0 what it was granted.
const cpumask& held(const world& w, const group& g) { return w.kernel_rules().overlap_invalidates ? g.own.wanted() : g.own.granted; }

bool alone_among_siblings(const group& g) {
    for (group* s = first_child(*g.parent); s; s = next_child(s)) {
        if (s != &g && g.own.wanted().intersects(s->own.wanted())) return false;
    }
    return true;
}

/// A write of new CPUs, which the parent can grant in part. Both lists, the old and the new one, have to leave populated partitions a CPU.
partition_reason meet_new_cpus(const world& w, const group& g, const cpumask& cpus, hand_over& h) {
    const group& parent = *g.parent;
    if (cpus.empty()) return partition_reason::cpus_empty;
    const cpumask& old = held(w, g);
    const bool starved = starves(w, parent, g, old) || starves(w, parent, g, cpus);
    if (g.invalid()) {
        h.taken = cpus & parent.own.granted;
    } else {
        h.back = (old - cpus) & parent.own.granted;
        h.taken = (cpus - old) & parent.own.granted;
    }
    if (!starved || h.back.intersects(w.active)) return partition_reason::none;
    h.taken = {};
    h.back = old & parent.own.granted;  // of an invalid one, too, which had taken nothing
    return partition_reason::no_cpus;
}

/// The parent or the machine has changed: a valid partition may fall, an invalid one rise. In 6.12 one that asks for more than the parent was granted rises, too: with
/// nothing of its own, and the parent keeps all.
partition_reason meet_parent(const world& w, const group& g, hand_over& h) {
    const group& parent = *g.parent;
    const cpumask& wanted = g.own.wanted();
    if (starves(w, parent, g, wanted)) {
        if (g.valid()) h.back = held(w, g) & parent.own.granted;
        return partition_reason::no_cpus;
    }
    if (!g.invalid()) return partition_reason::none;
    if (!wanted.subset_of(parent.own.granted)) {
        h.stays = !w.kernel_rules().overlap_invalidates;
        return partition_reason::none;
    }
    if (!alone_among_siblings(g)) return partition_reason::not_exclusive;
    h.taken = w.kernel_rules().overlap_invalidates ? wanted & parent.effective_cpus : wanted;
    return partition_reason::none;
}

}  // namespace

void take_cpus(world& w, group& from, partition_state s, const cpumask& cpus) {
    if (cpus.empty()) return;
    if (from.is_root()) w.sub_cpus |= cpus;
    if (s != from.state) w.isolated = s == partition_state::isolated ? w.isolated | cpus : w.isolated - cpus;
    from.effective_cpus = from.effective_cpus - cpus;
}

void give_back(world& w, group& to, partition_state s, const cpumask& cpus) {
    if (cpus.empty()) return;
    if (to.is_root()) w.sub_cpus = w.sub_cpus - cpus;
    if (s != to.state) w.isolated = to.state == partition_state::isolated ? w.isolated | cpus : w.isolated - cpus;
    to.effective_cpus |= cpus & w.active;
}

partition_reason enable_local(world& w, group& g, partition_state wanted) {
    const cpumask cpus = grant_for(w, g, g.own).cpus;
    if (cpus.empty()) return partition_reason::invalid_cpus;
    if (conflicts_with_housekeeping(w, w.kernel_rules().isolcpus_by_wish ? wanted : g.state, cpus)) return partition_reason::housekeeping;
    if (starves(w, *g.parent, g, cpus)) return partition_reason::no_cpus;
    if (!w.kernel_rules().overlap_invalidates) g.own.granted = cpus;
    settle(w, g, {.back = {}, .taken = cpus, .state = wanted}, flag_turns::before);
    return partition_reason::none;
}

void disable_local(world& w, group& g) {
    if (!g.parent->valid() || g.own.wants_nothing()) return;
    settle(w, g, {.back = g.valid() ? g.own.granted : cpumask{}, .taken = {}, .state = partition_state::member, .told = g.valid()}, flag_turns::before);
}

void invalidate_local(world& w, group& g) {
    if (!g.valid()) return;
    const cpumask back = g.parent->valid() ? held(w, g) & g.parent->own.granted : cpumask{};
    settle(w, g, {.back = back, .taken = {}, .state = flipped(g.state)}, flag_turns::before);
}

void update_local(world& w, group& g, const cpumask* new_cpus) {
    if (!g.parent->valid() || (!new_cpus && g.own.wants_nothing())) return;
    hand_over h{.back = {}, .taken = {}, .state = g.state};
    const partition_state before = g.state;
    const partition_reason fault = new_cpus ? meet_new_cpus(w, g, *new_cpus, h) : meet_parent(w, g, h);
    if (fault != partition_reason::none) g.reason = fault;
    if (!h.stays && (fault != partition_reason::none) == g.valid()) h.state = flipped(g.state);
    if (!new_cpus && !w.kernel_rules().overlap_invalidates && g.invalid() && is_valid(h.state)) g.own.granted = h.taken;
    settle(w, g, h, flag_turns::after);
    if (!new_cpus && (h.moves() || h.state != before)) follow_balance(w, g, before);
}

}  // namespace cohort::cpuset::detail
