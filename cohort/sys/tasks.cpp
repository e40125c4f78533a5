// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/tasks.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::sys {
namespace {

std::vector<int> numbers(const std::vector<std::string>& names) {
    std::vector<int> out;
    for (const std::string& n : names) {
        int number = 0;
        const auto [end, bad] = std::from_chars(n.data(), n.data() + n.size(), number);
        if (bad == std::errc() && end == n.data() + n.size()) out.push_back(number);
    }
    std::ranges::sort(out);
    return out;
}

/// A directory or file of /proc that is not there: its process is not.
std::unexpected<error> gone(const error& e, const std::string& who, const char* act) {
    if (e.code == ENOENT || e.code == ESRCH) return fail(ESRCH, who, act, "there is no such " + who.substr(0, who.find(' ')));
    return fail(e.code, who, act, e.reason);
}

/// The value of a line "KEY:\t12" of /proc/PID/status; 0: it has none.
int field(std::string_view text, std::string_view key) {
    const std::size_t at = text.find("\n" + std::string(key) + ":");
    if (at == text.npos) return 0;
    text.remove_prefix(text.find_first_not_of(" \t", at + key.size() + 2));
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

}  // namespace

result<std::vector<int>> all_processes(os& system) {
    const auto names = system.list_dir("/proc");
    if (!names) return std::unexpected(names.error());
    return numbers(*names);
}

result<std::vector<int>> threads_of_process(os& system, int pid) {
    const auto names = system.list_dir(paths::of_process(std::to_string(pid), "task"));
    if (!names) return gone(names.error(), "process " + std::to_string(pid), "list its threads");
    return numbers(*names);
}

result<task_entry> task_at(os& system, int id) {
    const std::string who = "thread " + std::to_string(id);
    const auto stat = read_file(system, paths::of_process(std::to_string(id), "stat"));
    if (!stat) return gone(stat.error(), who, "look at it");
    const auto status = read_file(system, paths::of_process(std::to_string(id), "status"));
    if (!status) return gone(status.error(), who, "look at it");
    // NUMBER (NAME) STATE PARENT GROUP ...; the name may hold anything, parentheses too.
    const std::size_t open = stat->find('('), close = stat->rfind(')');
    if (open == stat->npos || close == stat->npos || close < open) return fail(EIO, who, "look at it", "its stat has no name in parentheses");
    task_entry out{.id = id, .pid = field(*status, "Tgid"), .name = stat->substr(open + 1, close - open - 1)};
    std::string_view rest = std::string_view(*stat).substr(close + 1);
    for (int word = 0; word < 2 && !rest.empty(); ++word) {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        rest.remove_prefix(std::min(rest.find(' '), rest.size()));
    }
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    std::from_chars(rest.data(), rest.data() + rest.size(), out.group);
    return out;
}

}  // namespace cohort::sys
