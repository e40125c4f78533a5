// SPDX-License-Identifier: Apache-2.0
// Writes of cpuset.cpus.partition. They succeed whatever comes of it: the file is to be read back.
#include <algorithm>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

std::string_view stripped(std::string_view text) {
    constexpr std::string_view space = " \t\n\v\f\r";
    const std::size_t from = text.find_first_not_of(space);
    return from == std::string_view::npos ? std::string_view{} : text.substr(from, text.find_last_not_of(space) - from + 1);
}

/// A member (or an invalid partition, which counts as one) becomes a partition.
partition_reason enable(world& w, group& g, partition_state wanted) {
    if (g.own.wants_nothing()) return partition_reason::cpus_empty;
    if (g.parent->is_root() && g.own.exclusive.intersects(w.sub_cpus)) return partition_reason::remote;
    return g.parent->valid() ? enable_local(w, g, wanted) : enable_remote(w, g, wanted);
}

/// Root to isolated and back: the CPUs stay.
void retype(world& w, const group& g) {
    w.isolated = g.state == partition_state::isolated ? w.isolated | g.own.granted : w.isolated - g.own.granted;
}

}  // namespace

grant grant_for(const world& w, const group& g, const request& asked, bool by_write) {
    grant out{.cpus = asked.wanted() & g.parent->own.granted};
    const bool siblings_bind = asked.exclusive.empty() || (by_write && w.kernel_rules().overlap_invalidates);
    for (group* s = siblings_bind ? first_child(*g.parent) : nullptr; s; s = next_child(s)) {
        if (s == &g) continue;
        const cpumask& claim = out.cpus.intersects(s->own.exclusive) ? s->own.exclusive : s->own.granted;
        if (!out.cpus.intersects(claim)) continue;
        out.cpus = out.cpus - claim;
        out.claimed = true;
    }
    return out;
}

bool conflicts_with_housekeeping(const world& w, partition_state s, const cpumask& cpus) {
    const bool isolated = s == partition_state::isolated || (w.kernel_rules().isolcpus_by_wish && s == partition_state::isolated_invalid);
    return !isolated && cpus.intersects(w.boot_isolated);
}

bool set_exclusive_flag(world& w, group& g, bool on) {
    if (g.own.cpu_exclusive == on) return true;
    request trial = g.own;
    trial.cpu_exclusive = on;
    // 7.0 compares no lists here: what overlaps is left out of what is granted. Before, a sibling in the way keeps a flag on, too.
    if (w.kernel_rules().overlap_invalidates && validate(w, g, trial).refused()) return false;
    g.own.cpu_exclusive = on;
    return true;
}

void reset_to_member(group& g) {
    if (g.own.exclusive.empty()) {
        g.own.granted = {};
        g.own.cpu_exclusive = false;
    }
    g.effective_cpus = g.parent->effective_cpus & g.own.cpus;
    if (g.effective_cpus.empty()) g.effective_cpus = g.parent->effective_cpus;
}

void follow_balance(world& w, group& g, partition_state before) {
    const bool balance = g.valid() ? g.state == partition_state::root : g.parent->balance;
    if (g.valid() || is_valid(before) || g.balance != balance) w.domains_due = true;
    g.balance = balance;
}

void become(world& w, group& g, partition_state wanted) {
    const bool on = wanted != partition_state::member;
    partition_state before = g.state;
    if (before == wanted) return;
    if (w.kernel_rules().hands_down) {
        become_6_1(w, g, wanted);
        return;
    }
    if (on && g.invalid()) before = partition_state::member;

    auto reason = partition_reason::none;
    bool retyped = false;
    if (!set_exclusive_flag(w, g, on)) reason = partition_reason::not_exclusive;
    else if (before == partition_state::member) reason = enable(w, g, wanted);
    else if (on) retyped = true;
    else if (g.remote) disable_remote(w, g);
    else disable_local(w, g);

    if (reason != partition_reason::none) {
        wanted = flipped(wanted);
        set_exclusive_flag(w, g, false);
    }
    g.state = wanted;
    g.reason = reason;
    if (!g.valid()) reset_to_member(g);
    else if (retyped) retype(w, g);
    propagate(w, g, !on);
    follow_balance(w, g, before);
}

verdict write_partition(world& w, group& g, std::string_view text) {
    const std::string_view word = stripped(text);
    if (word == "member") become(w, g, partition_state::member);
    else if (word == "root") become(w, g, partition_state::root);
    else if (word == "isolated") become(w, g, partition_state::isolated);
    else return {EINVAL, "\"" + std::string(word) + "\" is none of member, root, isolated"};
    return {};
}

}  // namespace cohort::cpuset::detail
