// SPDX-License-Identifier: Apache-2.0
// The sched domains that the sets ask for: a pure function of the state.
#include <algorithm>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

cpumask housekeeping(const world& w) {
    const cpumask rest = w.possible - w.boot_isolated;
    return rest;
}

/// Balanced sets, from the root downwards; what is below one of them is part of it.
std::vector<cpumask> balanced_sets(const world& w) {
    group* top = w.root.get();
    std::vector<cpumask> out;
    if (top->balance) return {top->effective_cpus};
    for (group* at = next_cpuset(top, top); at;) {
        const bool takes_part = at->balance && at->own.cpus.intersects(housekeeping(w));
        if (takes_part) out.push_back(at->effective_cpus);
        at = next_cpuset(at, top, takes_part || at->own.cpus.empty());
    }
    return out;
}

std::vector<cpumask> partition_sets(const world& w) {
    group* top = w.root.get();
    std::vector<cpumask> out{top->effective_cpus & housekeeping(w)};
    if (w.sub_cpus.empty()) return out;
    for (group* at = next_cpuset(top, top); at;) {
        if (at->state == partition_state::root) out.push_back(at->effective_cpus);
        at = next_cpuset(at, top, !at->valid() && at->own.exclusive.empty());
    }
    return out;
}

/// Overlapping ones become one; sorted by the first CPU.
std::vector<cpumask> merged(std::vector<cpumask> sets) {
    std::vector<cpumask> out;
    for (cpumask& s : sets) {
        if (s.empty()) continue;
        std::erase_if(out, [&](const cpumask& o) {
            const bool together = o.intersects(s);
            if (together) s |= o;
            return together;
        });
        out.push_back(s);
    }
    std::ranges::sort(out, {}, &cpumask::first);
    return out;
}

}  // namespace

std::vector<cpumask> sched_domains(const world& w) {
    if (w.suspended) return {cpumask{w.active.first()}};
    if (!w.v1) return merged(partition_sets(w));
    auto out = merged(balanced_sets(w));
    for (cpumask& d : out) d &= housekeeping(w);
    std::erase_if(out, [](const cpumask& d) { return d.empty(); });
    return out;
}

}  // namespace cohort::cpuset::detail
