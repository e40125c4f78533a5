// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/process_figures.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::group {

std::optional<double> cpu_seconds(sys::os& os, int pid) {
    const auto text = sys::read_line(os, sys::paths::of_process(std::to_string(pid), "stat"));
    // The name, which may hold anything, ends with the last parenthesis; the state behind it is the third field.
    const std::size_t behind = text ? text->rfind(')') : std::string::npos;
    if (behind == std::string::npos) return std::nullopt;
    std::istringstream fields(text->substr(behind + 1));
    std::string skipped;
    for (int field = 3; field < 14; ++field) fields >> skipped;
    std::uint64_t user = 0, system = 0, users = 0, systems = 0;  // the last two: children's
    if (!(fields >> user >> system >> users >> systems)) return std::nullopt;
    return static_cast<double>(user + system + users + systems) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::optional<double> forced_idle_seconds(sys::os& os, int pid) {
    const auto text = sys::read_file(os, sys::paths::of_process(std::to_string(pid), "sched"));
    const std::size_t at = text ? text->find("core_forceidle_sum") : std::string::npos;
    const std::size_t colon = at == std::string::npos ? at : text->find(':', at);
    if (colon == std::string::npos) return std::nullopt;
    return std::strtod(text->c_str() + colon + 1, nullptr) / 1e3;  // it tells milliseconds
}

}  // namespace cohort::group
