// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/process_figures.hpp>

#include <cstdlib>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::group {

std::optional<double> cpu_seconds(sys::os& os, int pid) {
    const auto stat = sys::stat_of(os, pid);
    if (!stat || stat->start.empty()) return std::nullopt;  // a text that ends before its start ends before its times, or in them
    return static_cast<double>(stat->cpu_ns + stat->waited_ns) / 1e9;
}

std::optional<double> cpu_seconds(sys::os& os, const up_state& s, const up_job& j) {
    std::optional<double> sum;
    for (const int pid : j.pids) {
        if (const auto one = cpu_seconds(os, pid)) sum = sum.value_or(0) + *one;
    }
    for (const int tid : j.threads) {
        // What "waited for" is there is of the process, children of other jobs among it.
        if (const auto stat = sys::stat_of(os, std::to_string(s.who.pid) + "/task/" + std::to_string(tid)); stat && !stat->start.empty()) sum = sum.value_or(0) + static_cast<double>(stat->cpu_ns) / 1e9;
    }
    return sum;
}

std::optional<double> forced_idle_seconds(sys::os& os, int pid) {
    const auto text = sys::read_file(os, sys::paths::of_process(std::to_string(pid), "sched"));
    const std::size_t at = text ? text->find("core_forceidle_sum") : std::string::npos;
    const std::size_t colon = at == std::string::npos ? at : text->find(':', at);
    if (colon == std::string::npos) return std::nullopt;
    return std::strtod(text->c_str() + colon + 1, nullptr) / 1e3;  // it tells milliseconds
}

std::optional<double> forced_idle_seconds(sys::os& os, const up_job& j) {
    std::optional<double> sum;
    for (const int pid : j.pids) {
        if (const auto one = forced_idle_seconds(os, pid)) sum = sum.value_or(0) + *one;
    }
    return sum;
}

}  // namespace cohort::group
