// SPDX-License-Identifier: Apache-2.0
/// The pictures of a report's page that have time as an axis: SVG, in the page's style.
#pragma once

#include <string>

#include <cohort/group/run.hpp>

namespace cohort::group::detail {

/// The cohort's colour, as on the map.
std::string color_of(const plan& p, std::string_view cohort);

/// A row a job: when it waited, ran, was checked.
std::string timeline(const plan& p, const run_report& r);

/// A headline and a picture each: the speed of pipes and flows, blocks in pipes' hands, records in flows' queues, memory of pools. Those of which there is nothing are left out. A picture has at most 12 curves, the
/// highest ones.
std::string over_time(const plan& p, const run_report& r);

}  // namespace cohort::group::detail
