// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/owner.hpp>

#include <charconv>

#include <cohort/sys/boot.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::group {
namespace {

/// From the state ("S") on: what stands behind the name. Empty when there is no such process.
std::string stat_of(sys::os& os, int pid) {
    const auto text = sys::read_line(os, sys::paths::of_process(std::to_string(pid), "stat"));
    if (!text) return {};
    // The second field is the program's name in parentheses and may hold anything: counting starts behind the last one.
    const std::size_t at = text->rfind(") ");
    return at == std::string::npos ? std::string() : text->substr(at + 2);
}

/// The nth word, from 0.
std::string word(const std::string& text, int nth) {
    std::size_t at = 0;
    for (int i = 0; i < nth && at != std::string::npos; ++i) {
        at = text.find(' ', at);
        if (at != std::string::npos) ++at;
    }
    return at == std::string::npos ? std::string() : text.substr(at, text.find(' ', at) - at);
}

constexpr int start_field = 22 - 3;  // the state is the third

}  // namespace

std::optional<owner> owner::parse(const std::string& claim) {
    owner out;
    const auto space = claim.find(' '), end = claim.find('\n');
    if (space == std::string::npos || end == std::string::npos || end < space) return std::nullopt;
    const auto [stop, wrong] = std::from_chars(claim.data(), claim.data() + space, out.pid);
    if (wrong != std::errc() || stop != claim.data() + space || out.pid <= 0) return std::nullopt;
    out.start = claim.substr(space + 1, end - space - 1);
    return out;
}

std::string start_time(sys::os& os, int pid) { return word(stat_of(os, pid), start_field); }

owner this_owner(sys::os& os) {
    const int pid = os.getpid();
    return {pid, start_time(os, pid), sys::boot_id(os).value_or("")};
}

bool lives(sys::os& os, const owner& o) {
    if (!o.boot.empty()) {
        if (const auto now = sys::boot_id(os); now && !now->empty() && *now != o.boot) return false;
    }
    const std::string stat = stat_of(os, o.pid);
    return !stat.empty() && stat[0] != 'Z' && stat[0] != 'X' && word(stat, start_field) == o.start;
}

}  // namespace cohort::group
