// SPDX-License-Identifier: Apache-2.0
/// Hands a set to a user: what is below it, and which processes live there, is then that user's to decide; what the set itself has stays its parent's.
///
///     auto d = cpuset::delegate(os, place, "web", 1000, 1000);          // result<std::vector<std::string>>: the files that are the user's now
///
/// Kernel: cgroup-v2.rst, "Delegation"; /sys/kernel/cgroup/delegate.
#pragma once

#include <cohort/cpuset/live_mount.hpp>

namespace cohort::cpuset {

/// gid -1: groups stay. The whole of it or nothing: owners come back when one cannot be changed. Errors: ENOENT, no such set; EINVAL, the top; EPERM, EACCES.
result<std::vector<std::string>> delegate(sys::os& os, const live_mount& place, const std::string& path, unsigned uid, std::int64_t gid);

}  // namespace cohort::cpuset
