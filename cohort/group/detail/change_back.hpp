// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cohort/cpuset/backend.hpp>
#include <cohort/cpuset/operation.hpp>

namespace cohort::group::detail {

/// Undoes one change of a tree of cpusets. A set is waited for as long as what was in it is ending, 3 seconds at most. Errors: the kernel's.
result<void> change_back(sys::os& os, cpuset::backend& sets, const cpuset::operation& op);

}  // namespace cohort::group::detail
