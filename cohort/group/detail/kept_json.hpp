// SPDX-License-Identifier: Apache-2.0
/// By what a cohort is kept, and what a job does, as plan and report tell it.
#pragma once

#include <nlohmann/json.hpp>

#include <cohort/group/plan.hpp>

namespace cohort::group {

nlohmann::json kept_json(const keeping& k);
/// null: no cookie, and it makes way for none.
nlohmann::json cookie_json(const cookie_keeping& k);

/// What a pipe or flow makes of what: files, commands, codec.
nlohmann::json work_json(const pipe_spec& p);
/// null: it has none.
nlohmann::json pool_json(const pool_spec& p);
const char* kind_name(job_spec::form kind);

}  // namespace cohort::group
