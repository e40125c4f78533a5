// SPDX-License-Identifier: Apache-2.0
/// Which cohorts get a set of the kernel's, by trying the writes on the model first. Pure.
#pragma once

#include <vector>

#include <cohort/group/detail/kinship.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Fills `keep` of each cohort, adds refusals and notes; answers the steps that make the sets. Expects cohorts and jobs to be planned. The set of a cohort inside of another is below that of the other, whose
/// own jobs then have a set below it, too (processes stand in leaves). A partition inside of a set takes its CPUs from the jobs of that one: their `cpus` shrink.
std::vector<step> plan_cpusets(const spec& in, const kinship& kin, plan& out);

/// What is enforced and what is advisory about a cohort's CPUs and nodes.
void promise_cpus(cohort_plan& c, const plan& p);

}  // namespace cohort::group::detail
