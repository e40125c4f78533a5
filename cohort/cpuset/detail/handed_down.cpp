// SPDX-License-Identifier: Apache-2.0
// Partitions of 6.1: a partition notes the CPUs that it has handed down to the partitions below it, as its children listed them, and what is left is its own.
//
//     list of a child ──(its partition is made)──> parent's handed_down ──(falls, goes)──> parent's effective CPUs, if active
//
// Differs from later kernels: there is no cpuset.cpus.exclusive, a child may list CPUs that its parent does not have, and a set follows a change of its parent's CPUs beside
// it only if it has none of its own (follows_parent).
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

enum class change { made, given_up, listed_anew, parent_changed, overlapped };

/// What a change of a partition moves to and from its parent's handed_down.
struct transfer {
    cpumask down, back;
    partition_state state;
    partition_reason fault = partition_reason::none;
};

cpumask cpus_for(const world& w, const cpumask& list, const group& parent) {
    if (parent.handed_down.empty()) return list & parent.effective_cpus;
    return (parent.effective_cpus | parent.handed_down) & list & w.active;
}

/// Would all that a parent with tasks has go down?
bool drains(const world& w, const group& parent, const group& g, const cpumask& down) { return parent.effective_cpus.subset_of(down) && populated(w, parent, &g); }

bool set_balance(world& w, group& g, bool on) {
    if (g.balance == on || validate(w, g, g.own).refused()) return false;
    g.balance = on;
    if (!g.own.cpus.empty()) w.domains_due = true;
    make_domains(w);
    return true;
}

void meet_new_list(const world& w, const group& g, const cpumask& list, transfer& t) {
    const group& parent = *g.parent;
    t.back = (g.own.cpus - list) & parent.handed_down;
    t.down = (list & parent.own.cpus) - parent.handed_down;
    if (t.down.empty() || t.back.intersects(w.active) || !drains(w, parent, g, t.down)) return;
    t = {.down = {}, .back = g.own.cpus & parent.handed_down, .state = t.state, .fault = partition_reason::no_cpus};
}

void meet_changed_parent(const world& w, const group& g, transfer& t) {
    const group& parent = *g.parent;
    t.down = (g.own.cpus & parent.own.cpus) - parent.handed_down;
    const bool parent_keeps_all = g.valid() && parent.handed_down.empty();
    if (!parent_keeps_all && (t.down.empty() || !drains(w, parent, g, t.down))) return;
    t.fault = partition_reason::no_cpus;
    t.down = {};
    if (g.valid()) t.back = g.own.cpus & parent.handed_down;
}

/// Why a partition cannot be made; none: `t` says what goes down.
partition_reason meet_wish(const world& w, const group& g, transfer& t) {
    if (!g.own.cpus.intersects(g.parent->own.cpus)) return partition_reason::invalid_cpus;
    if (drains(w, *g.parent, g, g.own.cpus)) return partition_reason::no_cpus;
    t.down = g.own.cpus;
    return partition_reason::none;
}

partition_reason settle(world& w, group& g, const transfer& t) {
    const partition_state before = g.state;
    const bool moves = !t.down.empty() || !t.back.empty(), turns = t.state != before;
    if (!moves && !turns) return partition_reason::none;
    if (turns && is_invalid(before) && !set_exclusive_flag(w, g, true)) return partition_reason::not_exclusive;
    if (turns && is_invalid(t.state)) set_exclusive_flag(w, g, false);
    group& parent = *g.parent;
    parent.handed_down = (parent.handed_down | t.down) - t.back;
    parent.effective_cpus = (parent.effective_cpus - t.down) | (t.back & w.active);
    g.state = t.state;
    if (moves) update_tasks(w, parent);
    if (turns && before == partition_state::isolated) set_balance(w, g, true);
    else if (turns && t.state == partition_state::isolated) set_balance(w, g, false);
    if (turns && g.valid()) g.reason = partition_reason::none;
    return partition_reason::none;
}

/// The one way in which CPUs go between a partition and its parent. list: the new one of `listed_anew`, else null. Returns what a new partition fails for.
partition_reason move_cpus(world& w, group& g, change what, const cpumask* list = nullptr) {
    const group& parent = *g.parent;
    if (!parent.valid()) return parent.invalid() ? partition_reason::invalid_parent : partition_reason::not_partition;
    if ((list ? *list : g.own.cpus).empty()) return partition_reason::cpus_empty;
    transfer t{.down = {}, .back = {}, .state = g.state};
    switch (what) {
        case change::made:
            if (const auto fault = meet_wish(w, g, t); fault != partition_reason::none) return fault;
            break;
        case change::given_up:
            if (!g.invalid()) t.back = g.own.cpus & parent.handed_down;
            break;
        case change::overlapped:
            if (g.invalid()) return partition_reason::none;
            t.back = g.own.cpus & parent.handed_down;
            t.fault = partition_reason::not_exclusive;
            t.state = flipped(g.state);
            break;
        case change::listed_anew: meet_new_list(w, g, *list, t); break;
        case change::parent_changed: meet_changed_parent(w, g, t); break;
    }
    if (t.fault != partition_reason::none) g.reason = t.fault;
    const bool looks_again = what == change::listed_anew || what == change::parent_changed;
    if (looks_again && (t.fault != partition_reason::none) == g.valid()) t.state = flipped(g.state);
    return settle(w, g, t);
}

/// One set of the walk. Returns false when nothing below it can change. due: domains are to be made when the walk ends, even if they are made on the way, too, of what sets below still have then.
bool visit(world& w, group& g, bool first, bool force, bool& due) {
    group& parent = *g.parent;
    cpumask cpus = cpus_for(w, g.own.cpus, parent);
    // A partition that has handed down all that it lists runs empty.
    const bool all_handed_down = cpus.empty() && g.valid() && g.own.cpus == g.handed_down;
    if (!all_handed_down) {
        g.follows_parent = cpus.empty();
        if (cpus.empty()) cpus = parent.effective_cpus;
        if (g.state == partition_state::member && !force && cpus == g.effective_cpus && g.balance == parent.balance) return false;
    }
    const partition_state before = g.state;
    partition_state state = before;
    if (!first && before != partition_state::member) {
        if (parent.valid()) {
            move_cpus(w, g, change::parent_changed);
            state = g.state;
        } else {
            state = made_invalid(before);
            g.reason = parent.invalid() ? partition_reason::invalid_parent : partition_reason::not_partition;
        }
    }
    if (!g.valid() && !g.handed_down.empty()) {  // one that falls with its parent, just above, keeps its book until the next walk
        cpus = (cpus | g.handed_down) & w.active;
        g.handed_down = {};
    }
    g.effective_cpus = cpus - g.handed_down;
    g.state = state;
    if (g.valid() && state != before) g.reason = partition_reason::none;
    update_tasks(w, g);
    if (!g.valid()) g.balance = parent.balance;
    due |= !g.own.cpus.empty() && g.balance && g.valid();
    return true;
}

/// Domains are made at once, from what the sets have then.
void walk(world& w, group& top, bool force) {
    bool due = false;
    for (group* at = &top; at;) at = next_cpuset(at, &top, !visit(w, *at, at == &top, force, due));
    w.domains_due |= due;
    make_domains(w);
}

void walk_followers(world& w, const group& changed) {
    for (group* s = first_child(*changed.parent); s; s = next_child(s)) {
        if (s != &changed && s->follows_parent) walk(w, *s, false);
    }
}

partition_reason make_partition(world& w, group& g, partition_state wanted) {
    if (g.own.cpus.empty()) return partition_reason::cpus_empty;
    if (!set_exclusive_flag(w, g, true)) return partition_reason::not_exclusive;
    const partition_reason fault = move_cpus(w, g, change::made);
    if (fault != partition_reason::none) set_exclusive_flag(w, g, false);
    else if (wanted == partition_state::isolated) set_balance(w, g, false);
    return fault;
}

void give_up(world& w, group& g) {
    move_cpus(w, g, change::given_up);
    if (!g.handed_down.empty()) {
        g.handed_down = {};
        g.effective_cpus = cpus_for(w, g.own.cpus, *g.parent);
    }
    set_exclusive_flag(w, g, false);
    set_balance(w, g, true);
}

}  // namespace

void write_cpus_6_1(world& w, group& g, const cpumask& list, bool overlaps) {
    if (overlaps) {
        for (group* s = first_child(*g.parent); s; s = next_child(s)) {
            if (s->valid() && list.intersects(s->own.cpus)) move_cpus(w, *s, change::overlapped);
        }
    }
    if (g.state != partition_state::member) move_cpus(w, g, overlaps ? change::overlapped : change::listed_anew, overlaps ? nullptr : &list);
    g.own.cpus = list;
    if (!g.handed_down.empty()) {
        const bool starved = cpus_for(w, list, *g.parent).subset_of(g.handed_down) && populated(w, g);
        g.handed_down = g.valid() && !starved ? g.handed_down & list : cpumask{};
    }
    walk(w, g, false);
    if (g.state != partition_state::member) walk_followers(w, g);
}

void become_6_1(world& w, group& g, partition_state wanted) {
    const partition_state before = g.state;
    const bool on = wanted != partition_state::member;
    if (on && is_invalid(before)) {
        g.state = flipped(wanted);  // the type changes, the fault stays
        return;
    }
    auto fault = partition_reason::none;
    if (on && is_valid(before)) {
        set_balance(w, g, wanted != partition_state::isolated);
    } else {
        // Turning the balance over counts as having made them, though a set without a list makes none.
        const bool made_domains = on ? wanted == partition_state::isolated : !g.balance;
        if (on) fault = make_partition(w, g, wanted);
        else give_up(w, g);
        if (fault == partition_reason::none) {
            update_tasks(w, *g.parent);
            walk_followers(w, g);
            if (!made_domains) w.domains_due = true;
            make_domains(w);
        }
    }
    g.state = fault == partition_reason::none ? wanted : flipped(wanted);
    g.reason = fault;
    if (first_child(g)) walk(w, g, !on);
}

cpumask meet_machine_6_1(world& w, group& g) {
    group& parent = *g.parent;
    cpumask cpus = cpus_for(w, g.own.cpus, parent) - g.handed_down;
    if (g.state == partition_state::member) return cpus;
    const auto reclaim = [&] {
        if (g.handed_down.empty()) return;
        g.handed_down = {};
        cpus = cpus_for(w, g.own.cpus, parent);
    };
    if (g.valid() && cpus.empty() && populated(w, g)) reclaim();
    if (g.valid() && (parent.handed_down.empty() || (cpus.empty() && populated(w, g)))) {
        move_cpus(w, g, change::given_up);
        reclaim();
        g.state = flipped(g.state);
        g.reason = parent.invalid() ? partition_reason::invalid_parent : parent.valid() ? partition_reason::hotplug : partition_reason::not_partition;
    } else if (parent.valid() && g.invalid()) {
        move_cpus(w, g, change::parent_changed);
    }
    return cpus;
}

}  // namespace cohort::cpuset::detail
