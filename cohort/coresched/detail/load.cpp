// SPDX-License-Identifier: Apache-2.0
// A group's weight is for all CPUs; what its part of one CPU weighs is by how much of the group's load is there. Loads are averages over time, so that it does not jump.
// Kernel: update_load_avg, update_tg_load_avg, calc_group_shares (v6.12).
#include <algorithm>
#include <cmath>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {

constexpr double half_life_ns = 32 * 1024 * 1024;

namespace {

/// average, after `value` has been there from `since` until now.
void forget(double& average, double value, std::uint64_t& since, std::uint64_t now) {
    if (now == since) return;
    average = value + (average - value) * std::exp2(-static_cast<double>(now - since) / half_life_ns);
    since = now;
}

}  // namespace

void update_load(state& s, std::uint32_t id) {
    entity& e = s.entities[id];
    fair_queue& f = s.fair[e.in];
    if (e.own != none) forget(e.active, e.queued, e.active_at, s.now);
    if (f.group == 0) return;
    forget(f.average, f.count > 0 ? static_cast<double>(plain(f.load)) : 0, f.averaged_at, s.now);
    // Small changes are not worth telling, nor is every moment's.
    if (s.now - f.told_at < 1'000'000 || std::abs(f.average - f.told) <= f.told / 64) return;
    s.groups[f.group].average += f.average - f.told;
    f.told = f.average;
    f.told_at = s.now;
}

void update_group(state& s, std::uint32_t id) {
    const std::uint32_t own = s.entities[id].own;
    if (own == none || s.fair[own].count == 0) return;  // an empty group keeps its weight
    const fair_queue& f = s.fair[own];
    const group& g = s.groups[f.group];
    const double load = std::max(static_cast<double>(plain(f.load)), f.average), all = g.average - f.told + load;
    const auto whole = static_cast<std::int64_t>(g.weight) << weight_shift;
    set_weight(s, id, std::clamp(static_cast<std::int64_t>(static_cast<double>(whole) * load / std::max(all, 1.0)), std::int64_t{2}, whole));
}

}  // namespace cohort::coresched::detail
