// SPDX-License-Identifier: Apache-2.0
/// By what each cohort with a cookie is kept off cores on which others run at the same time. Pure.
#pragma once

#include <vector>

#include <cohort/group/detail/kinship.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Fills `cookie` of each cohort, and adds refusals. Where that is the only way, cohorts that ask for no particular CPUs (all, or a part) have whole cores dealt out among them:
/// their `cpus` shrink, and so do those of cohorts inside of them. Nothing is dealt out between a cohort and one inside of it. Expects the cohorts' CPUs to be planned, and nothing that follows from them. Cost: cohorts^2 + jobs^2 where there are cookies that the kernel does not keep.
void plan_cookies(const spec& in, const kinship& kin, plan& out);

/// What is enforced and what is advisory about its cookie. cores: cores_with_siblings().
void promise_cookie(cohort_plan& c, const std::vector<cpumask>& cores);

/// The CPUs of each core that has several.
std::vector<cpumask> cores_with_siblings(const machine_view& m);

}  // namespace cohort::group::detail
