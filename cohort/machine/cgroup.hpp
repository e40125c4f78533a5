// SPDX-License-Identifier: Apache-2.0
/// Which control group hierarchies are mounted, and where.
///
///     auto text = sys::read_file(os, sys::paths::self_mountinfo);
///     for (const auto& m : machine::cgroup_mounts(*text)) print(m.type, m.point);       // "cgroup2" "/sys/fs/cgroup"
///
/// Kernel: /proc/self/mountinfo, cgroups(7).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cohort::machine {

struct cgroup_mount {
    std::string root;                  ///< what of the hierarchy it shows, seen from this process's cgroup namespace
    std::string point;                 ///< where
    std::string type;                  ///< "cgroup", "cgroup2", "cpuset"
    std::vector<std::string> options;  ///< of the superblock: the controllers, in version 1
};

/// In the order of the text; lines that are not understood are passed over.
std::vector<cgroup_mount> cgroup_mounts(std::string_view mountinfo);

}  // namespace cohort::machine
