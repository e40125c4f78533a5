// SPDX-License-Identifier: Apache-2.0
/// The chain of causes for one CPU or node, nearest first; each with the operation that takes it away, where there is one.
#pragma once

#include <cohort/cpuset/detail/world.hpp>
#include <cohort/cpuset/explain.hpp>

namespace cohort::cpuset::detail {

/// A cause, and what to do against it for a whole list of CPUs or nodes.
struct blame {
    cause_kind kind;
    const group* at = nullptr;  ///< null: the machine
    bool operator==(const blame&) const = default;
};

/// Why cpu, which g asks for in cpuset.cpus, is not among its effective CPUs.
std::vector<blame> why_no_cpu(const world& w, const group& g, int cpu);
/// Why cpu, which stands in cpuset.cpus.exclusive, is not among the exclusive CPUs of g.
std::vector<blame> why_not_exclusive(const world& w, const group& g, int cpu);
std::vector<blame> why_no_node(const world& w, const group& g, int node);

/// A sentence about `list`, which are CPUs or nodes.
cause told(const world& w, const blame& b, const std::string& list, bool cpus);
/// Empty: nothing can be done.
std::vector<operation> against(const world& w, const blame& b, const cpumask& cpus);
std::vector<operation> against(const world& w, const blame& b, const nodemask& nodes);
/// Writes that make an invalid partition ask again.
std::vector<operation> ask_again(const world& w, const group& g);

}  // namespace cohort::cpuset::detail
