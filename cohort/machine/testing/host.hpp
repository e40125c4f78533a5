// SPDX-License-Identifier: Apache-2.0
/// For tests: writes a topology into a recorded machine, as the kernel would show it.
///
///     sys::recorded host;
///     machine::testing::show(machine::load("synthetic:numa:2 core:4 pu:2", host).value(), host);
///     machine::load("live", host)                             // reads it back
#pragma once

#include <cohort/machine/topology.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::machine::testing {

inline void show(const topology& m, sys::recorded& host) {
    const std::string cpus = sys::paths::cpu;
    host.add_file(cpus + "/possible", m.possible.list() + "\n");
    host.add_file(cpus + "/online", m.online.list() + "\n");
    host.set_affinity(m.online);
    for (int c : m.online) {
        const std::string dir = cpus + "/cpu" + std::to_string(c);
        const auto& cpu = m.cpus[static_cast<std::size_t>(c)];
        host.add_file(dir + "/topology/core_cpus_list", m.siblings(c).list() + "\n");
        host.add_file(dir + "/topology/physical_package_id", std::to_string(cpu.package) + "\n");
        int index = 0;
        for (int at : cpu.caches) {
            const auto& cache = m.caches[static_cast<std::size_t>(at)];
            const std::string here = dir + "/cache/index" + std::to_string(index++);
            cpumask shared;
            for (int sharer : cache.cpus) shared.set(sharer);
            host.add_file(here + "/level", std::to_string(cache.level) + "\n");
            host.add_file(here + "/type", cache.kind == cache_kind::data ? "Data\n" : cache.kind == cache_kind::instruction ? "Instruction\n" : "Unified\n");
            host.add_file(here + "/size", std::to_string(cache.bytes >> 10) + "K\n");
            host.add_file(here + "/coherency_line_size", std::to_string(cache.line_bytes) + "\n");
            host.add_file(here + "/shared_cpu_list", shared.list() + "\n");
        }
    }
    host.add_file(sys::paths::node + "/online", m.node_numbers().list() + "\n");
    for (const auto& n : m.nodes) {
        const std::string dir = sys::paths::node + "/node" + std::to_string(n.number);
        host.add_file(dir + "/cpulist", n.cpus.list() + "\n");
        host.add_file(dir + "/meminfo", "Node " + std::to_string(n.number) + " MemTotal:       " + std::to_string(n.memory_bytes >> 10) + " kB\n");
    }
}

}  // namespace cohort::machine::testing
