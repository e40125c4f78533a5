// SPDX-License-Identifier: Apache-2.0
/// What a process of a job has used, as /proc tells.
///
///     if (auto s = cpu_seconds(os, pid)) say(*s);
///
/// Kernel: /proc/PID/stat, /proc/PID/sched.
#pragma once

#include <optional>

#include <cohort/group/state.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

/// Seconds of CPU time that a process and the children it has waited for have had. Nothing: it is gone.
std::optional<double> cpu_seconds(sys::os& os, int pid);
/// The same of a job that is up: of its processes, and of the owner's threads that work for it. Of a pipe's commands, which are the owner's children, there is nothing before it has ended. Nothing: none of them is there.
std::optional<double> cpu_seconds(sys::os& os, const up_state& s, const up_job& j);

/// Seconds that siblings idled because of its first thread's cookie. Nothing: it is gone, or the kernel does not tell (no core scheduling, or no debugging of the scheduler).
std::optional<double> forced_idle_seconds(sys::os& os, int pid);
/// The same of a job's processes together.
std::optional<double> forced_idle_seconds(sys::os& os, const up_job& j);

}  // namespace cohort::group
