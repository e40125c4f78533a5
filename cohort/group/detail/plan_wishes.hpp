// SPDX-License-Identifier: Apache-2.0
/// Which CPUs the cohorts get that say how many they want, and not which. Pure.
#pragma once

#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Fills `asked` and `cpus` of those cohorts, or adds a refusal; notes where the placement is not known to be the best. Expects the cohorts that name their CPUs to be planned. A wish's CPUs are nobody else's of those who
/// name theirs or wish for some; cohorts that have all CPUs, or a part, are not held to that.
/// Cost: that of place().
void plan_wishes(const spec& in, plan& out);

/// "4 CPUs, whole cores, on one node, apart from \"web\"".
std::string wish_text(const cpu_wish& wish);

}  // namespace cohort::group::detail
