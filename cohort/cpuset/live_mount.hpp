// SPDX-License-Identifier: Apache-2.0
/// Where this machine has its cpusets: cgroup v2, v1, both hierarchies with cpuset in one of them, or nowhere.
///
///     auto place = cpuset::find_mount(os);                      // result<live_mount>
///     if (!place->mounted()) return say(place->about);          // "cgroup2 at /sys/fs/cgroup/unified has no cpuset controller"
///     place->directory("a/b");                                  // "/sys/fs/cgroup/a/b"
///     cpuset::home_of(os, *place, 4711);                        // "a/b": the set of that process or thread
///
/// Kernel: cgroups(7), /proc/self/mountinfo, /proc/PID/cgroup.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/cpuset/profile.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::cpuset {

/// A value type.
struct live_mount {
    enum class form { none, v2, v1 };
    form what = form::none;
    std::string point = {};      ///< directory of the topmost set that can be seen
    std::string root = "/";      ///< which set of the hierarchy that is
    bool prefixed = true;        ///< false: a version 1 mount whose files are "cpus" instead of "cpuset.cpus"
    bool whole = true;           ///< the topmost set is the hierarchy's root, not one that somebody delegated to us
    bool hybrid = false;         ///< version 1 has cpuset, and a version 2 hierarchy without it is mounted too
    std::string about = {};      ///< what is there, in words

    bool mounted() const { return what != form::none; }
    bool v1() const { return what == form::v1; }
    /// path: "" or "a/b".
    std::string directory(std::string_view path) const { return path.empty() ? point : point + "/" + std::string(path); }
    std::string file(std::string_view path, std::string_view name) const;
};

/// Asks the running system. A machine without cpusets is an answer, not an error. Errors: those of reading /proc/self/mountinfo, save that it is not there.
result<live_mount> find_mount(sys::os& os);

/// "a/b", "/a/b", "." or "/" for the top, or a directory below the mount point -> "a/b", "" for the top. Errors: EINVAL, "..", an empty name.
result<std::string> set_path(const live_mount& place, std::string_view text);
/// How messages name a set: cpuset "a/b", cpuset "/".
std::string set_name(std::string_view path);

/// The set of a process or thread, from the top that can be seen. Errors: ESRCH; ENOENT, it is outside of what can be seen; EOPNOTSUPP, no cpusets are mounted.
result<std::string> home_of(sys::os& os, const live_mount& place, int pid);

/// The rules by which the running kernel plays: what its files show, then its number.
struct live_profile {
    kernel profile = kernel::v6_12;
    std::string release;   ///< "6.12.117"; empty: unknown
    std::string evidence;  ///< "cpuset.cpus.exclusive is there: 6.7 or later; release 6.12.117"
};
live_profile probe_profile(sys::os& os, const live_mount& place);

}  // namespace cohort::cpuset
