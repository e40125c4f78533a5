// SPDX-License-Identifier: Apache-2.0
/// The report of a run as one page of HTML: nothing is loaded from anywhere, no script, light and dark.
///
///     const std::string map = map_svg(map_of(topology, p.machine), groups_of(p));      // map.hpp
///     write("report.html", report_page(p, report, about, map));
///
/// Kernel: none.
#pragma once

#include <string>

#include <cohort/group/run.hpp>

namespace cohort::group {

/// about: the spec's own words; map: an SVG of the machine, empty for none.
std::string report_page(const plan& p, const run_report& r, const std::string& about, const std::string& map);

}  // namespace cohort::group
