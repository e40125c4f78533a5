// SPDX-License-Identifier: Apache-2.0
// The sched domains that the sets ask for, and when the scheduler gets them.
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

/// 6.1: what the root still has is its own domain; of the others those with balancing count, wherever they are below partitions.
std::vector<cpumask> handed_down_sets(const world& w) {
    group* top = w.root.get();
    std::vector<cpumask> out{top->effective_cpus};
    if (top->handed_down.empty()) return out;
    for (group* at = next_cpuset(top, top); at;) {
        const bool passed = !at->own.cpus.empty() && !(at->balance && at->own.cpus.intersects(housekeeping(w)));
        const bool inside_root = at->own.cpus.subset_of(top->effective_cpus);
        if (!passed && !inside_root && at->balance) out.push_back(at->effective_cpus);
        at = next_cpuset(at, top, !passed && !inside_root && !at->valid());
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

/// Overlapping ones become one.
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
    return out;
}

/// Partitions that overlap by what the kernel lets pass are counted as one domain, and the first ones are taken as they are.
std::vector<cpumask> partition_domains(const world& w) {
    std::vector<cpumask> sets = partition_sets(w);
    const auto empty = static_cast<std::size_t>(std::ranges::count_if(sets, &cpumask::empty));
    sets.resize(merged(sets).size() + empty);
    return sets;
}

std::vector<cpumask> balanced_domains(const world& w) {
    auto out = merged(w.v1 ? balanced_sets(w) : handed_down_sets(w));
    for (cpumask& d : out) d &= housekeeping(w);
    std::ranges::stable_partition(out, &cpumask::empty);
    return out;
}

/// With a CPU that is not active among the sets', the kernel leaves the domains to the hotplug that is under way; there may be none.
bool up_to_date(const world& w) {
    group* top = w.root.get();
    if (w.sub_cpus.empty() && top->handed_down.empty()) return top->effective_cpus == w.active;
    for (group* at = top; at;) {
        if (at->valid() && !at->effective_cpus.subset_of(w.active)) return false;
        at = next_cpuset(at, top, !at->valid());
    }
    return true;
}

}  // namespace

std::vector<cpumask> sched_domains(const world& w) {
    if (w.suspended) return {cpumask{w.active.first()}};
    return w.domains;
}

void make_domains(world& w) {
    if (!w.domains_due) return;
    w.domains_due = false;
    if (!up_to_date(w)) return;
    w.domains = w.v1 || w.kernel_rules().hands_down ? balanced_domains(w) : partition_domains(w);
    const bool hollow = !w.domains.empty() && w.domains.front().empty();
    w.at_risk |= hollow || w.hollow_domain;
    w.hollow_domain = hollow;
    std::erase_if(w.domains, [](const cpumask& d) { return d.empty(); });
    std::ranges::sort(w.domains, {}, &cpumask::first);
    const auto twice = std::ranges::unique(w.domains);
    w.domains.erase(twice.begin(), twice.end());
}

}  // namespace cohort::cpuset::detail
