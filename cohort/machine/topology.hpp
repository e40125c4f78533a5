// SPDX-License-Identifier: Apache-2.0
/// What a machine is made of: CPUs, cores, packages, memory nodes, caches; live, described in a line, or from a file.
///
///     auto m = machine::load("synthetic:pack:2 numa:1 core:4 pu:2", sys::real()).value();   // or "live", or "file.xml"
///     m.possible.list();                                      // "0-15"
///     m.siblings(5).list();                                   // "4-5"
///     m.nodes[m.cpus[12].node].cpus.list();                   // "8-15"
///
/// Kernel: cpu_possible_mask, cpu_online_mask, topology_sibling_cpumask, cpu_to_node; drivers/base/topology.c.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::machine {

enum class cache_kind { unified, data, instruction };

/// A value type: plain data. Indices of cores, packages and caches are this library's own: dense, from 0, in the order of their lowest CPU.
/// CPUs and nodes keep the numbers that the system gives them.
struct topology {
    struct cpu {
        int core = -1, package = -1;      ///< indices below; -1 for a CPU that is not online or not possible
        int node = -1;                    ///< index into nodes (not the node's number); -1 as above
        std::vector<int> caches = {};     ///< indices below, nearest first
        bool operator==(const cpu&) const = default;
    };
    struct core {
        int package = -1;
        std::vector<int> cpus = {};       ///< its SMT siblings, ascending
        bool operator==(const core&) const = default;
    };
    struct package {
        cpumask cpus = {};
        bool operator==(const package&) const = default;
    };
    struct node {
        int number = 0;                   ///< the system's
        cpumask cpus = {};                ///< online ones; empty for memory without CPUs
        std::uint64_t memory_bytes = 0;   ///< 0: unknown or none
        bool operator==(const node&) const = default;
    };
    struct cache {
        int level = 0;
        cache_kind kind = cache_kind::unified;
        std::uint64_t bytes = 0;          ///< 0: unknown
        int line_bytes = 0;               ///< 0: unknown
        std::vector<int> cpus = {};       ///< who shares it, ascending
        bool operator==(const cache&) const = default;
    };

    cpumask possible;             ///< CPUs that may ever be online
    cpumask online;               ///< a subset of possible; never empty
    std::vector<cpu> cpus;        ///< by CPU number, 0 .. possible.last()
    std::vector<core> cores;
    std::vector<package> packages;
    std::vector<node> nodes;      ///< ascending numbers; never empty
    std::vector<cache> caches;
    std::string source;           ///< the spec it was loaded from, for messages

    /// The CPUs of cpu's core, itself among them; only itself when it is not online. cpu: 0 .. possible.last().
    cpumask siblings(int cpu) const;
    /// The node with this number; null when there is none.
    const node* find_node(int number) const;
    /// The numbers of all nodes.
    nodemask node_numbers() const;
    bool operator==(const topology&) const = default;
};

/// Reads a machine. spec: "live" (or empty), "synthetic:" with hwloc's synthetic description, or a file of hwloc's XML ("....xml").
/// Errors: EINVAL, a spec of no known form, a description or file that hwloc refuses; ERANGE, more than 8,192 CPUs or 1,024 nodes;
/// those of reading a file. Live parts that the system does not show are guessed in the plainest way (each CPU a core of one package, one node).
/// Cost: live: one small file per CPU and property; milliseconds for tens of CPUs.
result<topology> load(std::string_view spec, sys::os& os);

}  // namespace cohort::machine
