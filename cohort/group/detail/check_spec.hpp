// SPDX-License-Identifier: Apache-2.0
/// What can only be seen of a whole spec: names that nobody has, cycles, files that two write.
#pragma once

#include <cohort/group/detail/table_reader.hpp>
#include <cohort/group/spec.hpp>

namespace cohort::group::detail {

/// Expects a spec as the reader left it: what it could not understand is missing, and its fault is noted. Cost: jobs * (jobs + cohorts).
void check_spec(const spec& s, fault_list& faults);

}  // namespace cohort::group::detail
