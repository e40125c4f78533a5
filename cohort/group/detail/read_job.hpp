// SPDX-License-Identifier: Apache-2.0
/// Reads one [[job]].
#pragma once

#include <cohort/group/detail/table_reader.hpp>

namespace cohort::group::detail {

/// Adds it to the jobs of `out`, as much of it as can be understood, and notes every fault of it alone; what needs others is check_spec()'s.
void read_job(const toml::table& table, std::size_t index, spec& out, fault_list& faults, const environment& env);

}  // namespace cohort::group::detail
