// SPDX-License-Identifier: Apache-2.0
/// Which CPUs the cohorts get that say how many they want, and not which. Pure.
#pragma once

#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Fills `asked` and `cpus` of those of the members, which stand beside one another, that wish for CPUs of `from`; or adds a refusal. Notes where the placement is not known to be the best. Expects the members that
/// name their CPUs to be planned. A wish's CPUs are nobody else's of those who name theirs or wish for some; cohorts that have all CPUs, or a part, are not held to that.
/// Cost: that of place().
void plan_wishes(const spec& in, const std::vector<std::size_t>& members, const cpumask& from, plan& out);

/// "4 CPUs, whole cores, on one node, apart from \"web\"".
std::string wish_text(const cpu_wish& wish);

}  // namespace cohort::group::detail
