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
    bool read_only = false;            ///< the mount or its superblock
};

/// One hierarchy of /proc/PID/cgroup.
struct cgroup_line {
    bool v2 = false;
    std::vector<std::string> controllers;  ///< version 1; "name=..." of one without
    std::string path;                      ///< of the group, "/a/b:c"
};

/// In the order of the text; lines that are not understood are passed over.
std::vector<cgroup_mount> cgroup_mounts(std::string_view mountinfo);
/// In the order of the text of /proc/PID/cgroup; likewise.
std::vector<cgroup_line> cgroup_lines(std::string_view text);

}  // namespace cohort::machine
