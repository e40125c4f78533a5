// SPDX-License-Identifier: Apache-2.0
/// Children that begin in control groups and with a memory policy.
///
///     auto pid = sys::spawn_at(os, {.argv = {"worker"}}, {.join = {"/sys/fs/cgroup/web/cgroup.procs"}});
///     if (!pid) return std::unexpected(pid.error());   // worker: join /sys/fs/cgroup/web/cgroup.procs: ENOSPC: ...
///
/// Kernel: fork + cgroup.procs + set_mempolicy + execve.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <cohort/sys/os.hpp>

namespace cohort::sys {

struct placement {
    std::vector<std::string> join = {};    ///< files cgroup.procs, written before the affinity is set
    std::optional<mempolicy> memory = {};  ///< it goes on to what the child starts
    bool empty() const { return join.empty() && !memory; }
};

/// As os::spawn(), which it is for an empty placement; else the child is the real system's, and `system` opens the files. Errors: also those of opening them, and
/// the kernel's refusal of one, which is named.
result<int> spawn_at(os& system, const spawn_request& request, const placement& place);

}  // namespace cohort::sys
