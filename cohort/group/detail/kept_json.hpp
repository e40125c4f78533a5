// SPDX-License-Identifier: Apache-2.0
/// By what a cohort is kept, as plan and report tell it.
#pragma once

#include <nlohmann/json.hpp>

#include <cohort/group/plan.hpp>

namespace cohort::group {

nlohmann::json kept_json(const keeping& k);

}  // namespace cohort::group
