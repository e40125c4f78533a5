// SPDX-License-Identifier: Apache-2.0
/// Reads the key `cpus` of a cohort: a list, a part, or a wish.
#pragma once

#include <cohort/group/detail/table_reader.hpp>

namespace cohort::group::detail {

/// cpus = "0-3,8" | { part = "1/2" } | { count = 4, whole_cores = true, same_node = true, apart_from = "web" | ["web", "db"] }. Notes every fault.
cpu_wish read_cpus(table_reader& in, fault_list& faults, const environment& env);

}  // namespace cohort::group::detail
