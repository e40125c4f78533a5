// SPDX-License-Identifier: Apache-2.0
/// The running machine's cpusets as a snapshot: sets with all they read, threads with their masks, the machine, the kernel's profile.
///
///     auto live = cpuset::read_live(os);                        // result<live_reading>; needs no privilege
///     if (!live) return live.error();                           // cpuset: read the live tree: EOPNOTSUPP: no cpuset controller is mounted; there is ...
///     auto l = cpuset::load(live->what);                        // a model that stands where the kernel stands (snapshot.hpp)
///     live->vanished_sets;                                      // removed while we read; left out
///
/// Kernel: cgroupfs, /proc/PID/task/TID/{status,cgroup}, /sys/devices/system/{cpu,node}.
#pragma once

#include <cohort/cpuset/live_mount.hpp>
#include <cohort/cpuset/snapshot.hpp>

namespace cohort::cpuset {

struct read_options {
    bool tasks = true;  ///< threads of user space too
};

struct live_reading {
    snapshot what;
    live_mount place;
    live_profile profile;
    std::size_t vanished_sets = 0;   ///< with all that was below them
    std::size_t vanished_tasks = 0;  ///< threads that ended while we read
    std::size_t unseen_tasks = 0;    ///< threads in sets outside of what is mounted here
    std::vector<std::string> notes;  ///< what of the picture is not as the kernel has it, in words
};

/// Errors: EOPNOTSUPP, no cpusets are mounted (the reason tells what is); those of reading the machine and the top of the tree. The kernel goes on meanwhile: what is read later
/// may be newer than what was read before; when CPUs go on- or offline meanwhile all is read again, twice at most.
/// Cost: a file per set and property, two per thread.
result<live_reading> read_live(sys::os& os, read_options o = {});

}  // namespace cohort::cpuset
