// SPDX-License-Identifier: Apache-2.0
/// The keys `cookie` and `coresched` of a cohort: read, and worked out once all cohorts are known.
///
///     cookie = "x" | "own" | "none" | { same_as = "web" } | ["x", "own", { same_as = "web" }]
///
/// A cookie is a set of parts, and two cohorts share a core only where the sets are equal. A cohort inside of another has the parts of that one, too: whoever is in a tenant is never beside somebody from
/// outside, whatever it calls its own cookie.
///
/// Kernel: one cookie a task, without parts; sets are the tags of groups that were proposed with v10 of core scheduling (cohort/coresched/cookie.hpp, cookie_table::compose).
#pragma once

#include <cohort/group/detail/table_reader.hpp>

namespace cohort::group::detail {

/// Notes every fault.
void read_cookie(table_reader& in, cohort_spec& c, fault_list& faults);

/// Fills `cookie_parts`, `cookie` and `coresched` of all cohorts. Notes cookies of cohorts that do not exist or have none, of itself, cycles, and policies for cookies that are not there.
/// Expects that nobody is inside of himself.
void resolve_cookies(spec& s, fault_list& faults);

}  // namespace cohort::group::detail
