// SPDX-License-Identifier: Apache-2.0
/// Which CPUs each cohort gets. Pure.
#pragma once

#include <cohort/group/detail/kinship.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Makes the cohorts of a plan whose machine is known: names, CPUs, what was dropped and why, and refusals for those that get none. A cohort inside of another gets CPUs of that one.
/// Cost: CPUs for each cohort that others are inside of, and that of plan_wishes().
void plan_cpus(const spec& in, const kinship& kin, plan& out);

}  // namespace cohort::group::detail
