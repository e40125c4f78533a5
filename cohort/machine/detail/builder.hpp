// SPDX-License-Identifier: Apache-2.0
/// Collects the facts of a machine in any order and makes a topology of them, so that all sources number things alike.
#pragma once

#include <map>
#include <set>
#include <tuple>
#include <utility>

#include <cohort/machine/topology.hpp>

namespace cohort::machine::detail {

class builder {
public:
    explicit builder(std::string source) { out_.source = std::move(source); }

    void possible(const cpumask& cpus) { out_.possible |= cpus; }
    /// An online CPU. Keys only need to be equal for CPUs of one core, or of one package.
    void cpu(int number, std::uint64_t core_key, std::uint64_t package_key) {
        out_.online.set(number);
        keys_[number] = {package_key, core_key};
    }
    void node(int number, const cpumask& cpus, std::uint64_t memory_bytes) { nodes_[number] = {number, cpus, memory_bytes}; }
    /// May be told several times of one cache.
    void cache(int level, cache_kind kind, std::uint64_t bytes, int line_bytes, std::vector<int> cpus) {
        if (!cpus.empty()) caches_.emplace(cpus.front(), level, kind, bytes, line_bytes, std::move(cpus));
    }
    topology finish();

private:
    topology out_;
    std::map<int, std::pair<std::uint64_t, std::uint64_t>> keys_;  // online CPU -> package, core
    std::map<int, topology::node> nodes_;
    std::set<std::tuple<int, int, cache_kind, std::uint64_t, int, std::vector<int>>> caches_;  // by lowest CPU, then level
};

result<topology> load_live(sys::os& os);
result<topology> load_synthetic(const std::string& description);
result<topology> load_xml(const std::string& path, sys::os& os);

}  // namespace cohort::machine::detail
