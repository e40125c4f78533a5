// SPDX-License-Identifier: Apache-2.0
// Writes of CPU lists: trial copy, validation, the partition's answer, publication.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

verdict refusal(const error& e) { return {e.code, e.object + ": " + e.reason}; }

/// Why a partition that asks for `trial` cannot be valid.
partition_reason partition_fault(const world& w, const group& g, const request& trial) {
    if (g.state == partition_state::member) return partition_reason::none;
    const cpumask cpus = grantable(w, g, trial);
    if (cpus.empty()) return partition_reason::invalid_cpus;
    if (conflicts_with_housekeeping(w, g.state, cpus)) return partition_reason::housekeeping;
    if (starves(w, *g.parent, g, cpus)) return partition_reason::no_cpus;
    return partition_reason::none;
}

void publish(group& g, const request& trial, partition_state before) {
    const bool exclusive_flag = g.own.cpu_exclusive;  // transitions above have set it
    g.own = trial;
    g.own.cpu_exclusive = exclusive_flag;
    if (is_valid(before) && !g.valid()) reset_to_member(g);
}

/// Valid siblings whose CPUs the new list touches become invalid; the kernel records no reason.
void invalidate_overlapped(world& w, group& g, const request& trial) {
    for (group* s = first_child(*g.parent); s; s = next_child(s)) {
        if (!s->valid() || !trial.granted.intersects(s->own.wanted())) continue;
        if (s->remote) disable_remote(w, *s);
        else invalidate_local(w, *s);
        if (s != &g) propagate(w, *s, false);
    }
}

verdict write_cpus_v1(world& w, group& g, const request& trial) {
    if (verdict v = validate(w, g, trial); v.refused()) return v;
    g.own = trial;
    propagate(w, g, false);
    return {};
}

/// The partition g meets its new list: it shrinks, grows, falls, or becomes valid again.
void apply_to_partition(world& w, group& g, const request& trial, bool falls) {
    const cpumask& cpus = trial.granted.empty() && g.invalid() ? trial.cpus : trial.granted;
    if (g.remote) {
        if (falls) disable_remote(w, g);
        else update_remote(w, g, cpus);
    } else if (falls) {
        invalidate_local(w, g);
    } else {
        update_local(w, g, &cpus);
    }
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
    if (trial.cpus.empty() && trial.exclusive.empty()) trial.granted = {};
    else if (!trial.exclusive.empty() || g.state != partition_state::member) trial.granted = grantable(w, g, trial);

    partition_reason fault = partition_fault(w, g, trial);
    bool falls = fault != partition_reason::none;
    const bool force = trial.granted != g.own.granted;
    verdict v = validate(w, g, trial);
    if (v.code == EINVAL && !w.kernel_rules().overlap_invalidates) v = {};  // each partition has what is left
    if (v.code == EINVAL) {  // shared with a sibling: the list is taken, partitions pay for it
        falls = true;
    } else if (v.refused()) {
        return v;
    }
    if (fault != partition_reason::none) g.reason = fault;
    const partition_state before = g.state;
    if (v.code == EINVAL) invalidate_overlapped(w, g, trial);
    if (g.valid() || (g.invalid() && !falls)) apply_to_partition(w, g, trial, falls);
    else if (!g.own.exclusive.empty()) check_remotes(w, g, trial.granted);
    publish(g, trial, before);
    propagate(w, g, force);
    if (g.state != partition_state::member) follow_balance(g);
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
    trial.granted = cpus->empty() && !g.invalid() ? cpumask{} : grantable(w, g, trial);
    const bool force = trial.granted != g.own.granted;
    if (verdict v = validate(w, g, trial); v.refused()) return v;

    partition_reason fault = partition_fault(w, g, trial);
    // An emptied list costs a partition its CPUs, even where cpuset.cpus could stand in.
    if (g.valid() && trial.granted.empty()) fault = partition_reason::invalid_cpus;
    if (fault != partition_reason::none) g.reason = fault;
    const partition_state before = g.state;
    if (g.state != partition_state::member) apply_to_partition(w, g, trial, fault != partition_reason::none);
    else if (!trial.exclusive.empty() || !g.own.exclusive.empty()) check_remotes(w, g, trial.granted);
    publish(g, trial, before);
    if (g.valid() || force) propagate(w, g, force);
    if (g.state != partition_state::member) follow_balance(g);
    return {};
}

}  // namespace cohort::cpuset::detail
