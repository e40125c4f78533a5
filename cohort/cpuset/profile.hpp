// SPDX-License-Identifier: Apache-2.0
/// Which kernel is modelled, and the rules in which kernels differ.
///
///     auto k = parse_kernel("6.12").value();
///     rules_of(k).exclusive_files;                // true: cpuset.cpus.exclusive exists
///
/// Kernel: kernel/cgroup/cpuset.c at v6.1, v6.12, v7.0.
#pragma once

#include <string_view>

#include <cohort/base/error.hpp>

namespace cohort::cpuset {

enum class kernel { v6_1, v6_12, v7_0 };

/// "6.1", "6.12", "7.0" and later 7.x. Errors: EINVAL, no profile of that name.
result<kernel> parse_kernel(std::string_view text);
std::string_view kernel_name(kernel k);

/// Plain facts, one for each rule that is not the same everywhere.
struct rules {
    bool exclusive_files;          ///< cpuset.cpus.exclusive and its kin; remote partitions
    bool keeps_affinity;           ///< a task's own affinity comes back when its set widens (6.2)
    bool hands_down;               ///< partitions note what they have handed down, and an invalid one is not tried again by a write of its type (detail/handed_down.cpp)
    bool attach_always_sets;       ///< v2: a move sets CPUs and nodes even between sets that have the same
    bool weighted_interleave;      ///< the memory policy of that name is there (6.9)
    bool emptying_needs_no_tasks;  ///< v2: a populated set refuses to lose its list (ENOSPC)
    bool overlap_invalidates;      ///< v2: an overlapping cpuset.cpus makes siblings invalid; else each gets what is left
    bool exclusive_range_checked;  ///< the exclusive list is held against the possible CPUs
    bool root_tasks_any_possible;  ///< tasks of the root may ask for CPUs that are offline (6.3)
    bool isolcpus_by_wish;         ///< an isolated partition may have CPUs of isolcpus= from the first; else only one that is isolated and valid already
    bool excluded_child_is_walked; ///< "is the parent populated without this child" still counts what is below the child
};
const rules& rules_of(kernel k);

}  // namespace cohort::cpuset
