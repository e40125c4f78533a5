// SPDX-License-Identifier: Apache-2.0
/// Why a set does not have what it asks for: for each CPU or node the chain of causes, and the write that would give it.
///
///     auto e = explain(m, "a/b").value();
///     for (const wish& w : e.wishes)
///         for (const lack& l : w.lacks) std::puts(l.chain.front().text.c_str());   // "d" is a partition and has taken CPUs 2-3
///
/// Kernel: none; cpuset.cpus.partition alone tells a reason.
#pragma once

#include <string>
#include <vector>

#include <cohort/cpuset/model.hpp>

namespace cohort::cpuset {

enum class cause_kind {
    impossible,         ///< the machine has no such CPU or node
    offline,            ///< the CPU is offline; the node has no memory online
    parent_list,        ///< a set above asks for less
    sibling_partition,  ///< a partition beside the set, or beside a set above it, has taken it
    remote_partition,   ///< a remote partition elsewhere has taken it from the root
    child_partition,    ///< a partition below the set has got it
    other_list,         ///< the partition has an exclusive list, and cpuset.cpus does not count
    not_passed,         ///< a set above does not pass it on in cpuset.cpus.exclusive
    sibling_exclusive,  ///< a sibling's exclusive list claims it
    not_granted,        ///< the partition's grant was made without it, and does not grow by itself
    invalid_partition,  ///< the set is an invalid partition, and so has only what its parent leaves it
    no_controller       ///< the parent does not hand cpuset on
};
/// "sibling_partition".
std::string_view cause_name(cause_kind k);

struct cause {
    cause_kind kind = cause_kind::offline;
    std::string path;  ///< the set that is the cause; "" for the machine
    std::string text;  ///< a sentence
    bool operator==(const cause&) const = default;
};

/// Operations that were tried on a copy and do give what is missing.
struct remedy {
    std::vector<operation> operations;
    std::vector<std::string> losers;  ///< sets that have fewer CPUs or nodes afterwards, each with what it loses: "d: CPUs 2-3"
};

/// CPUs or nodes that are missing for the same causes.
struct lack {
    std::string list;
    std::vector<cause> chain;     ///< nearest first
    std::vector<remedy> remedies; ///< at most one: none is known, or the first that helps
};

struct wish {
    std::string file;       ///< cpuset.cpus, cpuset.cpus.exclusive, cpuset.mems
    std::string asked, has; ///< lists; has: of what was asked for, and for an empty request what came from the parent
    bool inherits = false;  ///< nothing is asked for: the set has what its parent has
    bool falls_back = false;///< nothing of what is asked for can be had: the set runs on its parent's
    std::vector<lack> lacks;
};

struct explanation {
    std::string path;
    std::string partition;          ///< what cpuset.cpus.partition reads; "" where there is none
    std::string effective_cpus, effective_mems;
    std::vector<cause> fault;       ///< of an invalid partition, and of a set without a controller
    std::vector<remedy> remedies;   ///< that make the partition valid; at most one
    std::vector<wish> wishes;
    bool complete() const;          ///< nothing is missing
};

/// Errors: ENOENT, there is no such set. path: "." or "" is the root. Cost: for each chain of causes one copy of the model.
result<explanation> explain(const model& m, std::string_view path);

}  // namespace cohort::cpuset
