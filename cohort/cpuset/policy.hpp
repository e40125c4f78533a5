// SPDX-License-Identifier: Apache-2.0
/// A memory policy, and what a set's nodes make of it.
///
///     memory_policy p{.mode = policy_mode::interleave, .nodes = {0, 3}};
///     auto q = contextualize(p, nodemask{0, 1}).value();        // q.effective == {0}
///     rebind(q, nodemask{0, 1}, nodemask{4, 5});                // q.effective == {4}
///
/// Kernel: mm/mempolicy.c: mpol_set_nodemask, mpol_rebind_policy; Documentation/admin-guide/mm/numa_memory_policy.rst.
#pragma once

#include <string>
#include <string_view>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::cpuset {

enum class policy_mode { none, preferred, bind, interleave, local, preferred_many, weighted_interleave };

/// none: "default".
std::string_view mode_name(policy_mode m);

struct memory_policy {
    policy_mode mode = policy_mode::none;
    bool static_nodes = false, relative_nodes = false;
    nodemask nodes = {};      ///< as asked for
    nodemask effective = {};  ///< what allocations use
    nodemask cpuset = {};     ///< the set's nodes when the policy was made or last bound to them
    bool operator==(const memory_policy&) const = default;
    /// "bind+static:0-1"; "default".
    std::string text() const;
};

/// The policy with its effective nodes in a set that has `allowed` (nodes with memory). Errors: EINVAL (default or local with nodes; both flags; flags without
/// nodes; no node left).
result<memory_policy> contextualize(memory_policy asked, const nodemask& allowed);
/// The set's nodes change to `allowed`.
void rebind(memory_policy& p, const nodemask& allowed);

/// Bit n of `relative` becomes the n-th (modulo the number of members) of `onto`. onto: not empty. Kernel: nodes_fold, nodes_onto.
nodemask relative_to(const nodemask& relative, const nodemask& onto);
/// Members of `from` are replaced by the member of `to` with the same ordinal (modulo); others stay. Kernel: nodes_remap.
nodemask remap(const nodemask& nodes, const nodemask& from, const nodemask& to);

}  // namespace cohort::cpuset
