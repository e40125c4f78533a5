// SPDX-License-Identifier: Apache-2.0
/// By what a cohort is kept, as plan and report tell it.
#pragma once

#include <nlohmann/json.hpp>

#include <cohort/group/plan.hpp>

namespace cohort::group {

nlohmann::json kept_json(const keeping& k);
/// null: no cookie, and it makes way for none.
nlohmann::json cookie_json(const cookie_keeping& k);

/// null: it has none.
nlohmann::json pool_json(const pool_spec& p);
const char* kind_name(job_spec::form kind);

}  // namespace cohort::group
