// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/owner.hpp>

#include <charconv>

#include <cohort/sys/boot.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::group {
std::optional<owner> owner::parse(const std::string& claim) {
    owner out;
    const auto space = claim.find(' '), end = claim.find('\n');
    if (space == std::string::npos || end == std::string::npos || end < space) return std::nullopt;
    const auto [stop, wrong] = std::from_chars(claim.data(), claim.data() + space, out.pid);
    if (wrong != std::errc() || stop != claim.data() + space || out.pid <= 0) return std::nullopt;
    out.start = claim.substr(space + 1, end - space - 1);
    return out;
}

std::string start_time(sys::os& os, int pid) {
    const auto stat = sys::stat_of(os, pid);
    return stat ? stat->start : std::string();
}

owner this_owner(sys::os& os) {
    const int pid = os.getpid();
    return {pid, start_time(os, pid), sys::boot_id(os).value_or("")};
}

bool lives(sys::os& os, const owner& o) {
    if (!o.boot.empty()) {
        if (const auto now = sys::boot_id(os); now && !now->empty() && *now != o.boot) return false;
    }
    const auto stat = sys::stat_of(os, o.pid);
    return stat && !stat->over() && stat->start == o.start;
}

}  // namespace cohort::group
