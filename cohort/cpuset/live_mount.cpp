// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live_mount.hpp>

#include <algorithm>
#include <charconv>
#include <optional>
#include <vector>

#include <cohort/cpuset/detail/words.hpp>
#include <cohort/machine/cgroup.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::cpuset {
namespace {

using machine::cgroup_mount;

bool exists(sys::os& os, const std::string& path) { return os.stat(path).has_value(); }

std::string words(const std::vector<std::string>& all) {
    std::string out;
    for (const std::string& w : all) {
        if (w != "rw" && w != "ro") out += (out.empty() ? "" : " ") + w;
    }
    return out;
}

live_mount as_v2(sys::os& os, const cgroup_mount& m) {
    // Only a hierarchy's root has no cgroup.events.
    return {.what = live_mount::form::v2, .point = m.point, .root = m.root, .whole = !exists(os, m.point + "/cgroup.events"), .about = "cgroup v2 at " + m.point};
}

live_mount as_v1(sys::os& os, const cgroup_mount& m) {
    live_mount out{.what = live_mount::form::v1, .point = m.point, .root = m.root, .about = "cgroup v1 at " + m.point};
    out.prefixed = exists(os, m.point + "/cpuset.cpus") || !exists(os, m.point + "/cpus");
    out.whole = exists(os, out.file("", "cpuset.memory_pressure_enabled"));  // only the root has it
    return out;
}

/// "6.12.117-amd64" -> {6, 12}.
std::optional<std::pair<int, int>> parse_release(std::string_view text) {
    int major = 0, minor = 0;
    const auto [dot, bad] = std::from_chars(text.data(), text.data() + text.size(), major);
    if (bad != std::errc() || dot == text.data() + text.size() || *dot != '.') return std::nullopt;
    if (std::from_chars(dot + 1, text.data() + text.size(), minor).ec != std::errc()) return std::nullopt;
    return std::pair{major, minor};
}

/// A set of version 2 that is not the root, to look at its files; "" when there is none.
std::string any_set_below(sys::os& os, const live_mount& place) {
    for (const std::string& name : os.list_dir(place.point).value_or(std::vector<std::string>{})) {
        if (exists(os, place.point + "/" + name + "/cpuset.cpus.partition")) return place.point + "/" + name;
    }
    return {};
}

}  // namespace

std::string live_mount::file(std::string_view path, std::string_view name) const {
    if (!prefixed && name.starts_with("cpuset.")) name.remove_prefix(7);
    return directory(path) + "/" + std::string(name);
}

result<live_mount> find_mount(sys::os& os) {
    const auto text = sys::read_file(os, sys::paths::self_mountinfo);
    if (!text && text.error().code == ENOENT) return live_mount{.about = "no /proc/self/mountinfo: what is mounted cannot be seen"};
    if (!text) return std::unexpected(text.error());
    std::optional<live_mount> v1, v2;
    bool any_v2 = false;
    std::string others;
    for (const cgroup_mount& m : machine::cgroup_mounts(*text)) {
        const auto has_cpuset = [&] { return std::ranges::find(m.options, "cpuset") != m.options.end(); };
        if (m.type == "cgroup2") {
            const std::string controllers = sys::read_line(os, m.point + "/cgroup.controllers").value_or("");
            if (detail::has_word(controllers, "cpuset")) {
                if (!v2) v2 = as_v2(os, m);
                continue;
            }
            any_v2 = true;
            others += (others.empty() ? "" : "; ") + ("cgroup v2 at " + m.point + " without cpuset (controllers: " + (controllers.empty() ? "none" : controllers) + ")");
        } else if (m.type == "cpuset" || has_cpuset()) {
            if (!v1) v1 = as_v1(os, m);
        } else if (others.size() < 400) {
            others += (others.empty() ? "" : "; ") + ("cgroup v1 at " + m.point + " (" + words(m.options) + ")");
        }
    }
    live_mount out = v2 ? *v2 : v1 ? *v1 : live_mount{.about = others.empty() ? "no control groups are mounted" : "no cpuset controller is mounted; there is " + others};
    out.hybrid = out.v1() && any_v2;
    return out;
}

result<std::string> set_path(const live_mount& place, std::string_view text) {
    std::string_view rest = text;
    if (place.mounted() && (rest == place.point || rest.starts_with(place.point + "/"))) rest.remove_prefix(place.point.size());
    while (rest.starts_with('/')) rest.remove_prefix(1);
    while (rest.ends_with('/')) rest.remove_suffix(1);
    if (rest == ".") rest = {};
    for (std::size_t at = 0; !rest.empty() && at <= rest.size();) {
        const std::size_t end = std::min(rest.find('/', at), rest.size());
        const std::string_view name = rest.substr(at, end - at);
        if (name.empty() || name == "." || name == "..") return fail(EINVAL, set_name(text), "find", "it is no path from the top, such as a/b (\"/\" is the top)");
        at = end + 1;
    }
    return std::string(rest);
}

std::string set_name(std::string_view path) { return "cpuset \"" + (path.empty() ? std::string("/") : std::string(path)) + "\""; }

result<std::string> home_of(sys::os& os, const live_mount& place, int pid) {
    const std::string who = "process " + std::to_string(pid);
    if (!place.mounted()) return fail(EOPNOTSUPP, who, "find its cpuset", place.about);
    const auto text = sys::read_file(os, sys::paths::of_process(std::to_string(pid), "cgroup"));
    if (!text && (text.error().code == ENOENT || text.error().code == ESRCH)) return fail(ESRCH, who, "find its cpuset", "there is no such process");
    if (!text) return std::unexpected(text.error());
    for (const machine::cgroup_line& line : machine::cgroup_lines(*text)) {
        const bool ours = place.v1() ? std::ranges::find(line.controllers, "cpuset") != line.controllers.end() : line.v2;
        if (!ours) continue;
        std::string_view path = line.path;
        if (place.root != "/") {
            if (path != place.root && !path.starts_with(place.root + "/")) return fail(ENOENT, who, "find its cpuset", "it is in " + std::string(path) + ", outside of " + place.root);
            path.remove_prefix(place.root.size());
        }
        if (path.starts_with("/..")) return fail(ENOENT, who, "find its cpuset", "it is outside of what can be seen from here");
        return set_path(place, path);
    }
    return fail(ENOENT, who, "find its cpuset", "the kernel names none");
}

live_profile probe_profile(sys::os& os, const live_mount& place) {
    live_profile out;
    out.release = sys::read_line(os, sys::paths::release).value_or("");
    const auto number = parse_release(out.release);
    const bool by_number_old = number && *number < std::pair{6, 7};
    std::optional<bool> exclusive;
    if (place.what == live_mount::form::v2) {
        const std::string below = any_set_below(os, place);
        if (exists(os, place.point + "/cpuset.cpus.isolated")) exclusive = true;
        else if (!below.empty()) exclusive = exists(os, below + "/cpuset.cpus.exclusive");
        else if (!place.whole) exclusive = exists(os, place.point + "/cpuset.cpus.exclusive");
    }
    if (exclusive) out.evidence = *exclusive ? "cpuset.cpus.exclusive is there" : "cpuset.cpus.exclusive is not there";
    if (!out.release.empty()) out.evidence += (out.evidence.empty() ? "" : "; ") + ("release " + out.release);
    if (out.evidence.empty()) out.evidence = "nothing to be seen; taken for 6.12";
    if (exclusive ? !*exclusive : by_number_old) out.profile = kernel::v6_1;
    else if (number && *number >= std::pair{6, 20}) out.profile = kernel::v7_0;
    return out;
}

}  // namespace cohort::cpuset
