// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/view.hpp>

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include <cohort/coresched/control.hpp>

namespace cohort::group {
namespace {

const machine::usable_cpus::part* part_named(const machine::usable_cpus& usable, std::string_view name) {
    const auto it = std::find_if(usable.parts.begin(), usable.parts.end(), [&](const auto& p) { return p.name == name; });
    return it == usable.parts.end() ? nullptr : &*it;
}

/// Package, node, caches from the outermost in, core: CPUs that compare near share much. Offline CPUs come last.
std::vector<int> neighbour_key(const machine::topology& t, int cpu) {
    const auto& c = t.cpus[static_cast<std::size_t>(cpu)];
    std::vector<int> key{c.core < 0 ? 1 : 0, c.package, c.node};
    key.insert(key.end(), c.caches.rbegin(), c.caches.rend());
    key.push_back(c.core);
    key.push_back(cpu);
    return key;
}

void add_reason(machine_view& out, const cpumask& cpus, const std::string& reason) {
    if (!cpus.empty()) out.not_usable.push_back({cpus, reason});
}

}  // namespace

machine_view view_of(const machine::topology& topology, const machine::usable_cpus& usable, bool live) {
    machine_view out;
    out.name = live ? "live" : topology.source;
    out.live = live;
    out.possible = topology.possible;
    out.usable = usable.cpus;
    std::vector<std::vector<int>> keys;
    for (int cpu : topology.possible) keys.push_back(neighbour_key(topology, cpu));
    std::sort(keys.begin(), keys.end());
    for (const auto& key : keys) out.order.push_back(key.back());
    out.core.assign(static_cast<std::size_t>(topology.possible.last()) + 1, -1);
    out.node = out.core;
    for (int cpu : topology.possible) {
        const auto& facts = topology.cpus[static_cast<std::size_t>(cpu)];
        out.core[static_cast<std::size_t>(cpu)] = facts.core;
        out.node[static_cast<std::size_t>(cpu)] = facts.node;
    }

    // A cpuset narrows the affinity of all that are in it, so what it forbids is its doing and not the affinity's.
    const auto from = [&](std::string_view name) {
        const auto* p = part_named(usable, name);
        return p && p->limits ? " (" + p->from + " has " + p->value + ")" : std::string();
    };
    const cpumask offline = topology.possible - topology.online;
    const cpumask outside = topology.online - usable.cpuset - usable.cpus;
    const cpumask unaffine = topology.online - outside - usable.affinity - usable.cpus;
    add_reason(out, offline, offline_reason);
    add_reason(out, outside, "not in this process's cpuset" + from("cpuset"));
    add_reason(out, unaffine, "not in this process's affinity" + from("affinity"));
    add_reason(out, topology.online - outside - unaffine - usable.cpus, "not usable by this process");
    if (std::isfinite(usable.cpu_quota)) {
        out.cpu_limit = usable.cpu_quota;
        const auto* p = part_named(usable, "quota");
        out.cpu_limit_reason = p ? p->from : "a CPU quota";
    }
    return out;
}

std::vector<std::vector<int>> machine_view::by_core(const cpumask& of) const {
    std::map<int, std::size_t> index;
    std::vector<std::vector<int>> out;
    for (const int cpu : order) {
        if (!of.test(cpu)) continue;
        const int number = core_of(cpu);
        const auto [it, fresh] = number < 0 ? std::pair(index.end(), true) : index.emplace(number, out.size());
        if (fresh) out.push_back({cpu});
        else out[it->second].push_back(cpu);
    }
    return out;
}

result<machine_view> view_machine(std::string_view spec, sys::os& os) {
    const bool live = spec.empty() || spec == "live";
    auto topology = machine::load(spec, os);
    if (!topology) return std::unexpected(topology.error());
    if (!live) return view_of(*topology, machine::usable_of(*topology), false);
    auto usable = machine::usable(os);
    if (!usable) return std::unexpected(usable.error());
    machine_view out = view_of(*topology, *usable, true);
    const coresched::availability kernel = coresched::facility(os);
    out.no_core_scheduling = kernel.there() && !kernel.safe() ? kernel.dangers.front() : kernel.why;
    return out;
}

}  // namespace cohort::group
