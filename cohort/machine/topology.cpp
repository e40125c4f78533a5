// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/topology.hpp>

#include <algorithm>

#include <cohort/base/check.hpp>
#include <cohort/machine/detail/builder.hpp>

namespace cohort::machine {

cpumask topology::siblings(int number) const {
    COHORT_CHECK(number >= 0 && number < static_cast<int>(cpus.size()), "siblings of a CPU beyond the machine");
    cpumask out{number};
    if (const int at = cpus[static_cast<std::size_t>(number)].core; at >= 0) {
        for (int sibling : cores[static_cast<std::size_t>(at)].cpus) out.set(sibling);
    }
    return out;
}

const topology::node* topology::find_node(int number) const {
    const auto it = std::ranges::lower_bound(nodes, number, {}, &node::number);
    return it != nodes.end() && it->number == number ? &*it : nullptr;
}

nodemask topology::node_numbers() const {
    nodemask out;
    for (const node& n : nodes) out.set(n.number);
    return out;
}

result<topology> load(std::string_view spec, sys::os& os) {
    constexpr std::string_view synthetic = "synthetic:";
    if (spec.empty() || spec == "live") return detail::load_live(os);
    if (spec.starts_with(synthetic)) return detail::load_synthetic(std::string(spec.substr(synthetic.size())));
    if (spec.ends_with(".xml")) return detail::load_xml(std::string(spec), os);
    return fail(EINVAL, "machine \"" + std::string(spec) + "\"", "load", "say live, synthetic:DESCRIPTION (as \"synthetic:pack:2 numa:1 core:4 pu:2\") or FILE.xml");
}

namespace detail {

topology builder::finish() {
    out_.possible |= out_.online;
    out_.cpus.resize(static_cast<std::size_t>(out_.possible.last()) + 1);
    std::map<std::uint64_t, int> package_index;
    std::map<std::pair<std::uint64_t, std::uint64_t>, int> core_index;
    for (const auto& [number, key] : keys_) {
        const auto [package, new_package] = package_index.try_emplace(key.first, static_cast<int>(out_.packages.size()));
        if (new_package) out_.packages.emplace_back();
        out_.packages[static_cast<std::size_t>(package->second)].cpus.set(number);
        const auto [core, new_core] = core_index.try_emplace(key, static_cast<int>(out_.cores.size()));
        if (new_core) out_.cores.push_back({.package = package->second});
        out_.cores[static_cast<std::size_t>(core->second)].cpus.push_back(number);
        auto& cpu = out_.cpus[static_cast<std::size_t>(number)];
        cpu.core = core->second;
        cpu.package = package->second;
    }
    if (nodes_.empty()) nodes_[0] = {0, out_.online, 0};
    for (auto& [number, node] : nodes_) {
        node.cpus &= out_.online;
        for (int c : node.cpus) {
            // A CPU near two kinds of memory belongs to the first node, as in the kernel, where the second has no CPUs.
            auto& cpu = out_.cpus[static_cast<std::size_t>(c)];
            if (cpu.node < 0) cpu.node = static_cast<int>(out_.nodes.size());
        }
        out_.nodes.push_back(node);
    }
    for (const auto& [first, level, kind, bytes, line, cpus] : caches_) {
        std::vector<int> online;
        std::ranges::copy_if(cpus, std::back_inserter(online), [&](int c) { return out_.online.test(c); });
        if (online.empty()) continue;
        for (int c : online) out_.cpus[static_cast<std::size_t>(c)].caches.push_back(static_cast<int>(out_.caches.size()));
        out_.caches.push_back({level, kind, bytes, line, std::move(online)});
    }
    for (auto& cpu : out_.cpus) {
        std::ranges::sort(cpu.caches, {}, [&](int c) { return std::pair(out_.caches[static_cast<std::size_t>(c)].level, c); });
    }
    return std::move(out_);
}

}  // namespace detail
}  // namespace cohort::machine
