// SPDX-License-Identifier: Apache-2.0
// Writes of CPU lists: trial copy, validation, the partition's answer, publication.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

verdict refusal(const error& e) { return {e.code, e.object + ": " + e.reason}; }

/// Why a partition that is granted these cannot be valid.
partition_reason grant_fault(const world& w, const group& g, const cpumask& granted, bool none_is_fault) {
    if (g.state == partition_state::member) return partition_reason::none;
    if (none_is_fault && granted.empty()) return partition_reason::invalid_cpus;
    if (conflicts_with_housekeeping(w, g.state, granted)) return partition_reason::housekeeping;
    if (starves(w, *g.parent, g, granted)) return partition_reason::no_cpus;
    return partition_reason::none;
}

void publish(group& g, const request& trial, partition_state before) {
    const bool exclusive_flag = g.own.cpu_exclusive;  // transitions above have set it
    g.own = trial;
    g.own.cpu_exclusive = exclusive_flag;
    if (is_valid(before) && !g.valid()) reset_to_member(g);
}

/// Valid partitions of the same parent whose CPUs the new list touches become invalid, with no new reason.
void invalidate_overlapped(world& w, const group& g, const request& trial) {
    for (group* s = first_child(*g.parent); s; s = next_child(s)) {
        if (s->valid() && trial.wanted().intersects(s->own.granted)) invalidate_local(w, *s);
    }
}

verdict write_cpus_v1(world& w, group& g, const request& trial) {
    if (verdict v = validate(w, g, trial); v.refused()) return v;
    g.own = trial;
    propagate(w, g, false);
    return {};
}

}  // namespace

result<cpumask> read_cpus(const world& w, std::string_view text) { return cpumask::parse_list(text, w.cpu_ids); }

verdict write_cpus(world& w, group& g, std::string_view text) {
    if (g.is_root()) return {EACCES, "the root's CPUs are the machine's"};
    auto cpus = read_cpus(w, text);
    if (!cpus) return refusal(cpus.error());
    const cpumask& top = w.root->own.cpus;
    if (!cpus->subset_of(top)) return {EINVAL, "CPUs " + (*cpus - top).list() + (w.v1 ? " are not online" : " are not possible")};
    if (*cpus == g.own.cpus) return {};

    request trial = g.own;
    trial.cpus = *cpus;
    if (w.v1) return write_cpus_v1(w, g, trial);
    if (w.kernel_rules().hands_down) {
        verdict v = validate(w, g, trial);
        if (v.refused() && v.code != EINVAL) return v;
        write_cpus_6_1(w, g, trial.cpus, v.code == EINVAL);
        return {};
    }
    if (!trial.cpus.empty() && (!trial.exclusive.empty() || g.valid())) trial.granted = grant_for(w, g, trial, true).cpus;
    else if (trial.wants_nothing()) trial.granted = {};

    const partition_reason fault = grant_fault(w, g, trial.granted, g.valid());
    // Recorded at once: it stays even when the list is refused below.
    if (fault != partition_reason::none) g.reason = fault;
    const bool force = trial.granted != g.own.granted;
    const partition_state before = g.state;
    verdict v = validate(w, g, trial);
    if (v.code == EINVAL && !w.kernel_rules().overlap_invalidates) v = {};  // each partition has what is left
    const bool overlaps = v.code == EINVAL;  // the list is taken, partitions pay for it
    if (v.refused() && !overlaps) return v;
    if (overlaps) invalidate_overlapped(w, g, trial);

    const bool falls = overlaps || fault != partition_reason::none;
    if (g.valid() || (g.invalid() && !falls)) {
        const cpumask new_cpus = trial.granted.empty() && g.invalid() ? trial.cpus : trial.granted;
        if (g.remote) update_remote(w, g, new_cpus);
        else if (falls) invalidate_local(w, g);
        else update_local(w, g, &new_cpus);
    }
    publish(g, trial, before);
    propagate(w, g, force);
    if (g.state != partition_state::member) follow_balance(w, g, before);
    return {};
}

verdict write_exclusive(world& w, group& g, std::string_view text) {
    auto cpus = read_cpus(w, text);
    if (!cpus) return refusal(cpus.error());
    if (w.kernel_rules().exclusive_range_checked && !cpus->subset_of(w.possible)) return {EINVAL, "CPUs " + (*cpus - w.possible).list() + " are not possible"};
    if (*cpus == g.own.exclusive) return {};

    request trial = g.own;
    trial.exclusive = *cpus;
    trial.lists_exclusive = !cpus->empty();
    const grant g_new = cpus->empty() ? grant{} : grant_for(w, g, trial, true);
    if (g_new.claimed) return {EINVAL, "siblings of \"" + path_of(g) + "\" claim some of CPUs " + cpus->list()};
    trial.granted = g_new.cpus;
    const bool force = trial.granted != g.own.granted;
    if (verdict v = validate(w, g, trial); v.refused()) return v;

    const partition_state before = g.state;
    if (g.state != partition_state::member) {
        const partition_reason fault = grant_fault(w, g, trial.granted, true);
        const bool falls = fault != partition_reason::none;
        if (falls) g.reason = fault;
        if (g.remote && falls) disable_remote(w, g);
        else if (g.remote) update_remote(w, g, trial.granted, &trial.exclusive);
        else if (falls) invalidate_local(w, g);
        else update_local(w, g, &trial.granted);
    }
    publish(g, trial, before);
    if (g.valid() || force) propagate(w, g, force);
    if (g.state != partition_state::member) follow_balance(w, g, before);
    return {};
}

}  // namespace cohort::cpuset::detail
