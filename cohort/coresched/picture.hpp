// SPDX-License-Identifier: Apache-2.0
/// A simulated course as a picture, and as a trace for ui.perfetto.dev.
///
///     scenario s{.timeline = true, .tasks = my_tasks};
///     write(gantt_svg({*simulate(s, machine, {})}));  // a lane for each CPU; colours are cookies, forced idleness is hatched
///
/// Kernel: no counterpart.
#pragma once

#include <string>
#include <vector>

#include <cohort/coresched/scenario.hpp>

namespace cohort::coresched {

/// One picture, a block for each outcome. Draws at most the first `most_ns` of time: a switch a pixel is no picture.
std::string gantt_svg(const std::vector<outcome>& outcomes, std::uint64_t most_ns = 200'000'000);
/// JSON in Chrome's trace event format: a process for each outcome, a thread for each CPU.
std::string perfetto_trace(const std::vector<outcome>& outcomes);

}  // namespace cohort::coresched
