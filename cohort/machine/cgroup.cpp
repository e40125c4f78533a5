// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/detail/cgroup.hpp>

#include <algorithm>

#include <cohort/machine/cgroup.hpp>

namespace cohort::machine {
namespace {

std::vector<std::string> split(std::string_view text, char by) {
    std::vector<std::string> out;
    while (!text.empty()) {
        const std::size_t at = std::min(text.find(by), text.size());
        out.emplace_back(text.substr(0, at));
        text.remove_prefix(std::min(at + 1, text.size()));
    }
    return out;
}

/// mountinfo writes blanks and backslashes as \040 and the like.
std::string unescape(const std::string& text) {
    const auto octal = [](char c) { return c >= '0' && c <= '7'; };
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
            out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        } else {
            out += text[i];
        }
    }
    return out;
}

}  // namespace

std::vector<cgroup_mount> cgroup_mounts(std::string_view mountinfo) {
    std::vector<cgroup_mount> out;
    for (const std::string& line : split(mountinfo, '\n')) {
        // ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [optional fields] - TYPE SOURCE SUPER_OPTIONS
        const auto field = split(line, ' ');
        const auto dash = std::find(field.begin(), field.end(), "-");
        if (dash - field.begin() < 6 || field.end() - dash < 4) continue;
        if (!field[4].starts_with('/')) continue;
        if (dash[1] != "cgroup" && dash[1] != "cgroup2" && dash[1] != "cpuset") continue;
        const auto super = split(dash[3], ','), here = split(field[5], ',');
        const auto says_ro = [](const std::vector<std::string>& options) { return std::ranges::find(options, "ro") != options.end(); };
        out.push_back({unescape(field[3]), unescape(field[4]), dash[1], super, says_ro(super) || says_ro(here)});
    }
    return out;
}

std::vector<cgroup_line> cgroup_lines(std::string_view text) {
    std::vector<cgroup_line> out;
    for (const std::string& line : split(text, '\n')) {
        // ID:CONTROLLERS:PATH; the path may hold colons
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
        cgroup_line l{.v2 = false, .controllers = split(std::string_view(line).substr(first + 1, second - first - 1), ','), .path = line.substr(second + 1)};
        l.v2 = l.controllers.empty() && line.starts_with("0:");
        out.push_back(std::move(l));
    }
    return out;
}

namespace detail {
namespace {

/// The group's directory and those above it, as they are seen through this mount.
std::vector<std::string> directories(const cgroup_mount& m, std::string group) {
    // In a container without a cgroup namespace the mount shows only the part below its root; elsewhere the root is "/".
    if (m.root != "/") {
        const bool inside = group == m.root || group.starts_with(m.root + "/");
        group = inside ? group.substr(m.root.size()) : "/";
    }
    // A group outside of our namespace is named with "..": only the top can be seen.
    if (group.starts_with("/..")) group = "/";
    std::vector<std::string> out;
    for (; group.size() > 1; group.erase(group.rfind('/'))) {
        if (group.ends_with('/')) continue;
        out.push_back(m.point + group);
    }
    out.push_back(m.point);
    return out;
}

}  // namespace

std::vector<hierarchy> parse_hierarchies(std::string_view cgroup, std::string_view mountinfo) {
    const auto mounts = cgroup_mounts(mountinfo);
    std::vector<hierarchy> out;
    for (const cgroup_line& line : cgroup_lines(cgroup)) {
        hierarchy h{.v2 = line.v2, .controllers = line.controllers, .dirs = {}};
        const auto shows = [&](const cgroup_mount& m) {
            if (h.v2) return m.type == "cgroup2";
            return m.type == "cgroup" && !h.controllers.empty() && std::ranges::find(m.options, h.controllers.front()) != m.options.end();
        };
        // A later mount may lie over an earlier one at the same place; at different places either is as good.
        const auto it = std::ranges::find_if(mounts, shows);
        if (it != mounts.end()) h.dirs = directories(*it, line.path);
        out.push_back(std::move(h));
    }
    return out;
}

const hierarchy* find_v1(const std::vector<hierarchy>& all, std::string_view controller) {
    const auto it = std::ranges::find_if(all, [&](const hierarchy& h) { return !h.v2 && std::ranges::find(h.controllers, controller) != h.controllers.end(); });
    return it == all.end() ? nullptr : &*it;
}

const hierarchy* find_v2(const std::vector<hierarchy>& all) {
    const auto it = std::ranges::find_if(all, &hierarchy::v2);
    return it == all.end() ? nullptr : &*it;
}

}  // namespace detail
}  // namespace cohort::machine
