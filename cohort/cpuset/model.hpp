// SPDX-License-Identifier: Apache-2.0
/// A machine, a kernel and its cpusets, in memory: perform an operation, get the kernel's answer.
///
///     auto machine = machine::load("synthetic:pack:2 numa:1 core:2 pu:2", os).value();
///     cpuset::model m(machine, {.profile = cpuset::kernel::v6_12});
///     m.perform(*cpuset::parse_operation("mkdir a"));
///     m.perform(*cpuset::parse_operation("write a cpuset.cpus 2-3"));
///     auto a = m.perform(*cpuset::parse_operation("read a cpuset.cpus.effective"));
///     a.value == "2-3";
///
/// Kernel: kernel/cgroup/cpuset.c (v6.12). Pure and deterministic; not thread-safe, a model belongs to one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <cohort/cpuset/operation.hpp>
#include <cohort/cpuset/profile.hpp>
#include <cohort/machine/topology.hpp>

namespace cohort::cpuset {

struct model_options {
    kernel profile = kernel::v6_12;
    bool v1 = false;             ///< the controller is bound to a version 1 hierarchy
    cpumask boot_isolated = {};  ///< isolcpus=domain,...
};

/// What the kernel says to an operation.
struct answer {
    int code = 0;                     ///< 0, or a positive errno
    std::string why = {};             ///< with a code: what a person can act on
    std::string value = {};           ///< read: the file's text without its newline; task: its CPUs
    std::vector<std::string> list = {};  ///< domains, tasks
    std::string mems = {}, path = {}, policy = {}, vma_policy = {};  ///< task
    std::string hazard = {};          ///< a known fault of kernels that the operation may run into: a crash

    bool ok() const { return code == 0; }
    bool operator==(const answer&) const = default;
};

/// One step of a hotplug, in the order of the kernel.
struct trace_step {
    std::string what;   ///< notify, work, lock, compare, publish, rebind, unlock, visit, move, domains
    std::string path;   ///< the set that it is about; "." the root, and what is about no set
    std::string text;
    bool operator==(const trace_step&) const = default;
};

namespace detail {
struct world;
}

/// A resource type: the state of one machine. Cost of an operation: at most linear in sets and tasks; a write is linear in what is below the set.
class model {
public:
    /// All possible CPUs and all nodes of the machine are online at the start, whatever the topology says.
    explicit model(const machine::topology& t, model_options o = {});
    ~model();
    model(model&&) noexcept;
    model& operator=(model&&) noexcept;

    answer perform(const operation& op);

    /// From now on each hotplug adds its steps here; null: no longer. `into` outlives that. A clone has none.
    void trace(std::vector<trace_step>* into);
    /// Makes the sched domains anew, as a write that changes a partition does. Kernel: rebuild_sched_domains().
    void rebuild_domains();

    /// Another machine in the same state, to try things on. Cost: all sets and tasks.
    model clone() const;

    /// The first broken invariant, or "". Cost: all sets and tasks.
    std::string broken() const;
    /// Paths of all sets in pre-order, the root first, as ".".
    std::vector<std::string> paths() const;
    /// Names of the files that this set has, in the order in which `ls` would show them.
    std::vector<std::string> files(const std::string& path) const;

    bool is_v1() const;
    /// For the rest of this room, which looks without asking file by file.
    const detail::world& state() const { return *world_; }

private:
    explicit model(std::unique_ptr<detail::world> w);
    std::unique_ptr<detail::world> world_;
};

}  // namespace cohort::cpuset
