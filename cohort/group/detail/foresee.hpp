// SPDX-License-Identifier: Apache-2.0
/// What cookies will cost: the cores on which they stand, with work for every CPU, simulated by the kernel's rules and by others to compare with. Pure.
///
/// Each cohort with a job (each, where there are no jobs) computes all the time on each of its CPUs, bound to it. So no core has to do with another, and cores on which the same kinds of tenants stand in the
/// same places are simulated once, whatever the machine's size.
#pragma once

#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// Nothing where no cohort with a cookie has a CPU of a core with several. At most `most_kinds` kinds of cores are simulated, those that there are most of; the rest is counted in `left_out`.
/// Cost: CPUs times cohorts on each; some milliseconds a kind.
std::optional<foresight> foresee(const spec& in, const plan& p, std::size_t most_kinds = 64);

}  // namespace cohort::group::detail
