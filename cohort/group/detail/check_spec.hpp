// SPDX-License-Identifier: Apache-2.0
/// What can only be seen of a whole spec: names that nobody has, cycles, files that two write; and what cohorts have from one another.
#pragma once

#include <cohort/group/detail/table_reader.hpp>
#include <cohort/group/spec.hpp>

namespace cohort::group::detail {

/// Expects a spec as the reader left it: what it could not understand is missing, and its fault is noted. Fills in policies that were not said, and cookies; afterwards nobody is inside of himself.
/// Cost: jobs * (jobs + cohorts).
void check_spec(spec& s, fault_list& faults);

}  // namespace cohort::group::detail
