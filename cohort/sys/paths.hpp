// SPDX-License-Identifier: Apache-2.0
/// Where the kernel keeps what the rooms read through sys::os. Only these names lead outside.
///
///     sys::read_line(os, sys::paths::cpu + "/online");        // "0-3"
#pragma once

#include <string>

namespace cohort::sys::paths {

inline const std::string cpu = "/sys/devices/system/cpu";
inline const std::string node = "/sys/devices/system/node";
inline const std::string meminfo = "/proc/meminfo";
inline const std::string own_maps = "/proc/self/maps";
inline const std::string self_cgroup = "/proc/self/cgroup";
inline const std::string self_mountinfo = "/proc/self/mountinfo";
inline const std::string memory_pressure = "/proc/pressure/memory";
inline const std::string cmdline = "/proc/cmdline";
inline const std::string release = "/proc/sys/kernel/osrelease";
inline const std::string cgroup_delegate = "/sys/kernel/cgroup/delegate";
/// "enabled" while a sched_ext scheduler runs, and its name; whether the scheduler counts what it does.
inline const std::string sched_ext_state = "/sys/kernel/sched_ext/state";
inline const std::string sched_ext_name = "/sys/kernel/sched_ext/root/ops";
inline const std::string schedstats = "/proc/sys/kernel/sched_schedstats";
/// What there is of a process, or of one of its threads ("PID/task/TID"): "cgroup", "stat", "task".
inline std::string of_process(const std::string& pid, const std::string& what) { return "/proc/" + pid + "/" + what; }

}  // namespace cohort::sys::paths
