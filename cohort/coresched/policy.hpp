// SPDX-License-Identifier: Apache-2.0
/// Which rules an engine follows: the kernel's, or others to compare them with.
///
///     policy p = parse_policy("search0").value();
///     p.search_untagged;                              // true: a core whose cookie is 0 looks for untagged tasks behind tagged ones
///
/// Kernel: pick_next_task with CONFIG_SCHED_CORE (kernel/sched/core.c, v6.12).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::coresched {

/// Plain facts. The defaults are the kernel's rules.
struct policy {
    std::string name = "kernel";
    bool cookies_count = true;     ///< false: any two tasks share a core (a machine without core scheduling)
    bool one_thread_a_core = false;///< only the first CPU of each core is used (nosmt)
    bool search_untagged = false;  ///< the kernel lets a CPU idle whose first choice has a cookie while the core's is 0; this looks for an untagged task behind it
    /// Who goes before whom is asked when it matters. The kernel's means of queues are a moment old, and whose is older loses, for ever if it always is the same one; of tasks with a
    /// cookie it takes the one that was first when they came.
    bool fresh_means = false;
    bool whole_turns = false;      ///< a core is one cookie's for a slice, then another's by weight, instead of whoever's best task comes first
    bool steal_untagged = false;   ///< the kernel's forced-idle CPUs look for tasks elsewhere only where the core's cookie is not 0
};

/// "kernel", "unprotected", "nosmt", "search0" (search_untagged, fresh_means: nobody starves), "steal0" (that and steal_untagged), "gang" (whole_turns). Errors: EINVAL.
result<policy> parse_policy(std::string_view name);
/// All of them, in the order in which tables show them.
std::vector<policy> all_policies();

}  // namespace cohort::coresched
