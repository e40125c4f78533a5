// SPDX-License-Identifier: Apache-2.0
// The doctor's questions about cgroups. Control files are opened for writing and closed again; nothing is written.
#include <cohort/group/detail/examine.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/machine/cgroup.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::group::detail {
namespace {

using enum finding::form;

using machine::cgroup_mount;

bool has(const std::vector<std::string>& words, std::string_view word) { return std::ranges::find(words, word) != words.end(); }
bool is_v2(const cgroup_mount& m) { return m.type == "cgroup2"; }
bool is_cpuset_v1(const cgroup_mount& m) { return !is_v2(m) && (m.type == "cpuset" || has(m.options, "cpuset")); }

/// This process's group as a path below a mount.
std::string own_group(sys::os& os, const cgroup_mount& m) {
    for (const machine::cgroup_line& line : machine::cgroup_lines(sys::read_file(os, sys::paths::self_cgroup).value_or(""))) {
        if (is_v2(m) ? !line.v2 : !has(line.controllers, "cpuset")) continue;
        // A container sees its own group as the mount's root.
        const std::string path = m.root != "/" && line.path.starts_with(m.root) ? line.path.substr(m.root.size()) : line.path;
        return path == "/" || path.empty() ? m.point : m.point + path;
    }
    return m.point;
}

result<void> can_write(sys::os& os, const std::string& path) {
    auto fd = sys::open_file(os, path, sys::open_write);
    if (!fd) return std::unexpected(fd.error());
    return {};
}

constexpr const char* by_affinity = "cpusets are kept by affinity and memory policy in user space";

void controller_v2(sys::os& os, const cgroup_mount& m, const std::string& release, findings& out) {
    const std::string group = own_group(os, m);
    const auto controllers = sys::read_line(os, group + "/cgroup.controllers");
    const bool has = controllers && (" " + *controllers + " ").find(" cpuset ") != std::string::npos;
    out.push_back({"cpuset", "controller", has ? there : missing, has ? "cpuset, in " + group : "",
                   has            ? ""
                   : !controllers ? controllers.error().line()
                                  : "cgroup.controllers of " + group + " is \"" + *controllers + "\": the parent does not hand cpuset down",
                   has ? "" : by_affinity, group + "/cgroup.controllers", true});
    const auto procs = can_write(os, group + "/cgroup.procs"), subtree = can_write(os, group + "/cgroup.subtree_control");
    const bool writable = procs && subtree && !m.read_only;
    out.push_back({"cpuset", "delegation", writable ? there : missing, writable ? group + " can be written" : "",
                   writable ? "" : m.read_only ? m.point + " is mounted read-only" : !procs ? procs.error().line() : subtree.error().line(),
                   writable ? "" : "systemd-run --user --scope -p Delegate=yes, or root", group + "/cgroup.subtree_control", true});
    const bool partitions = has && at_least(release, 5, 0), isolated = has && at_least(release, 6, 1), remote = has && at_least(release, 6, 7);
    out.push_back({"cpuset", "partitions", remote ? there : partitions ? limited : missing, remote ? "root, isolated, remote" : isolated ? "root, isolated" : partitions ? "root" : "",
                   remote ? "" : !has ? "there is no cpuset controller" : "kernel " + release + " has no " + std::string(isolated ? "remote partitions (6.7)" : "isolated partitions (6.1)"), "", "uname", false});
}

void controller_v1(sys::os& os, const cgroup_mount& m, findings& out) {
    const std::string group = own_group(os, m);
    const std::string file = group + (has(m.options, "noprefix") ? "/cpus" : "/cpuset.cpus");
    out.push_back({"cpuset", "controller", there, "cpuset (v1), in " + group, "", "", file, true});
    const auto write = can_write(os, file);
    out.push_back({"cpuset", "delegation", write && !m.read_only ? there : missing, write && !m.read_only ? group + " can be written" : "",
                   m.read_only ? m.point + " is mounted read-only" : write ? "" : write.error().line(), write && !m.read_only ? "" : by_affinity, file, true});
    out.push_back({"cpuset", "partitions", missing, "", "version 1 has none (cpu_exclusive only)", "cpuset.cpu_exclusive", "", false});
}

}  // namespace

void examine_cpuset(const sys::kernel_probe& k, sys::os& os, findings& out) {
    const auto mounts = machine::cgroup_mounts(sys::read_file(os, sys::paths::self_mountinfo).value_or(""));
    const auto v2 = std::ranges::find_if(mounts, is_v2), v1 = std::ranges::find_if(mounts, is_cpuset_v1);
    const bool any_v1 = !std::ranges::all_of(mounts, is_v2);
    std::string points;
    for (const auto& m : mounts) points += (points.empty() ? "" : ", ") + m.point;
    const std::string version = v2 != mounts.end() ? (any_v1 ? "hybrid (v2 and v1)" : "v2") : any_v1 ? "v1" : "";
    if (mounts.empty()) {
        const auto known = sys::read_file(os, "/proc/filesystems");
        const bool built = known && known->find("cgroup2") != std::string::npos;
        out.push_back({"cpuset", "cgroups", missing, "", built ? "no cgroup file system is mounted (the kernel has them)" : "the kernel has no cgroup file system", by_affinity,
                       sys::paths::self_mountinfo, true});
    } else {
        out.push_back({"cpuset", "cgroups", there, version + " at " + points, "", "", sys::paths::self_mountinfo, true});
        // A controller lives in one hierarchy only: where version 1 has cpuset, version 2 does not.
        if (v1 != mounts.end()) controller_v1(os, *v1, out);
        else if (v2 != mounts.end()) controller_v2(os, *v2, k.release, out);
        else out.push_back({"cpuset", "controller", missing, "", "no version 1 hierarchy with cpuset is mounted", by_affinity, sys::paths::self_mountinfo, true});
    }
    const bool policy = k.get_mempolicy.ok();
    out.push_back({"cpuset", "memory policy", policy ? there : missing, policy ? "memory can be bound to nodes" : "",
                   policy                          ? ""
                   : k.get_mempolicy.code == ENOSYS ? "ENOSYS: CONFIG_NUMA is not set, or a filter hides it"
                                                    : errno_name(k.get_mempolicy.code) + ": " + errno_text(k.get_mempolicy.code) + " (a filter)",
                   policy ? "" : "memory comes from any node", "get_mempolicy", false});
}

}  // namespace cohort::group::detail
