// SPDX-License-Identifier: Apache-2.0
/// What would change if these writes were made: every file and every task's mask, before and after.
///
///     auto w = try_out(m, {*parse_operation("write a cpuset.cpus 2-3")}, machine);     // m itself is left as it is
///     for (const change& c : w.changes) std::puts(c.line().c_str());                   // a: cpuset.cpus.effective: "0-7" -> "2-3"
///     if (w.refused) ...                                                               // errno and why; the changes are those of the writes before it
///
/// Kernel: none; there, one writes and sees.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <cohort/cpuset/snapshot.hpp>

namespace cohort::cpuset {

/// nullopt: it is not there, before or after.
struct change {
    std::string path;     ///< the set; of a task: its set afterwards; "" for sched domains
    std::string subject;  ///< a file, "task 4711 cpus", "task 4711 mems", "task 4711 set", "set", "sched domains"
    std::optional<std::string> before, after;
    std::string line() const;
    bool operator==(const change&) const = default;
};

struct refusal {
    std::size_t number = 0;  ///< of the operation, counted from 0
    operation what = {};
    int code = 0;
    std::string why = {};
};

struct what_if {
    std::vector<change> changes;
    std::optional<refusal> refused;
    /// Partitions that were not invalid before and are now: the kernel takes the write all the same. What cpuset.cpus.partition reads, with the set.
    std::vector<change> invalidated;
    std::vector<answer> answers;  ///< of each operation that was performed
    std::string hazard = {};      ///< of the last of them: the kernel crashes, or will; none is tried after it
    bool ok() const { return !refused && invalidated.empty() && hazard.empty(); }
};

/// What differs between two states of one tree: sets in the order of `after` (those that are gone first), files by name.
std::vector<change> compare(const snapshot& before, const snapshot& after);

/// Performs the operations on a copy, up to the first that is refused. Cost: a copy, the operations, and all files twice.
what_if try_out(const model& m, const std::vector<operation>& operations, const machine::topology& machine);

}  // namespace cohort::cpuset
