// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live_delegate.hpp>

#include <algorithm>
#include <sstream>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::cpuset {
namespace {

/// Files of a set that belong to whoever it is delegated to. The kernel lists them; its list holds those of all controllers.
std::vector<std::string> delegated_files(sys::os& os, const live_mount& place) {
    if (place.v1()) return {"tasks", "cgroup.procs"};
    std::vector<std::string> out;
    std::istringstream names(sys::read_file(os, sys::paths::cgroup_delegate).value_or("cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n"));
    for (std::string n; names >> n;) {
        if (n.starts_with("cgroup.") || n.starts_with("cpuset.")) out.push_back(n);
    }
    return out;
}

}  // namespace

result<std::vector<std::string>> delegate(sys::os& os, const live_mount& place, const std::string& path, unsigned uid, std::int64_t gid) {
    const std::string act = "delegate to user " + std::to_string(uid), dir = place.directory(path);
    if (path.empty()) return fail(EINVAL, set_name(path), act, "the topmost set is not delegated");
    if (!os.stat(dir)) return fail(ENOENT, set_name(path), act, "there is no such set");
    std::vector<std::string> all{dir};
    for (const std::string& n : delegated_files(os, place)) {
        if (os.stat(dir + "/" + n)) all.push_back(dir + "/" + n);
    }
    std::vector<std::pair<std::string, sys::file_info>> before;
    for (const std::string& file : all) {
        const auto was = os.stat(file);
        const auto r = was ? os.chown(file, uid, gid) : result<void>(std::unexpected(was.error()));
        if (!r) {
            for (const auto& [done, info] : before) (void)os.chown(done, info.uid, static_cast<std::int64_t>(info.gid));
            return fail(r.error().code, set_name(path), act, file + ": " + errno_text(r.error().code));
        }
        before.emplace_back(file, *was);
    }
    return all;
}

}  // namespace cohort::cpuset
