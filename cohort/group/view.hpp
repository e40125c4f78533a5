// SPDX-License-Identifier: Apache-2.0
/// The machine as a plan sees it.
///
///     auto m = view_machine("live", sys::real());             // or synthetic:..., or a file of hwloc's XML
///     if (m) plan p = make_plan(spec, *m, here);
#pragma once

#include <string_view>

#include <cohort/group/plan.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

/// Errors: those of machine::load and machine::usable.
result<machine_view> view_machine(std::string_view spec, sys::os& os);

/// The pure part: what is usable of a topology, why the rest is not, and which CPUs are neighbours.
machine_view view_of(const machine::topology& topology, const machine::usable_cpus& usable, bool live);

}  // namespace cohort::group
