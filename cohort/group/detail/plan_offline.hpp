// SPDX-License-Identifier: Apache-2.0
/// What breaks when a cohort's CPUs go offline, said beforehand. Pure.
#pragma once

#include <cohort/cpuset/model.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Adds to `if_offline` of each cohort that the kernel keeps in a set what the model says: for one of its CPUs, and for all. with_sets: the model with all sets made. Of many cohorts only the first 128 are tried.
void offline_in_sets(plan& out, const cpuset::model& with_sets);

/// The same for a cohort without a set, by what the scheduler does with affinities. Expects its cookie to be planned.
void offline_by_affinity(cohort_plan& c, const plan& p);

}  // namespace cohort::group::detail
