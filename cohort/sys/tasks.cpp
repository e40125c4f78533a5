// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/tasks.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>

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

constexpr std::int64_t kernel_thread_flag = 0x00200000;

}  // namespace

result<task_stat> stat_of(os& system, const std::string& who) {
    const std::string object = "process " + who;
    const auto text = read_file(system, paths::of_process(who, "stat"));
    if (!text) return gone(text.error(), object, "look at it");
    // NUMBER (NAME) STATE PARENT GROUP ...; the name may hold anything, parentheses too.
    const std::size_t open = text->find('('), close = text->rfind(')');
    if (open == text->npos || close == text->npos || close < open) return fail(EIO, object, "look at it", "its stat has no name in parentheses");
    task_stat out{.name = text->substr(open + 1, close - open - 1)};
    const std::uint64_t tick_ns = 1'000'000'000 / static_cast<std::uint64_t>(std::max(1L, ::sysconf(_SC_CLK_TCK)));
    std::string_view rest = std::string_view(*text).substr(close + 1);
    for (int nth = 3;; ++nth) {  // as proc(5) counts them
        rest.remove_prefix(std::min(rest.find_first_not_of(" \n"), rest.size()));
        if (rest.empty()) return out;
        const std::string_view word = rest.substr(0, rest.find_first_of(" \n"));
        rest.remove_prefix(word.size());
        std::int64_t value = 0;
        std::from_chars(word.data(), word.data() + word.size(), value);
        const std::uint64_t time = value > 0 ? static_cast<std::uint64_t>(value) * tick_ns : 0;
        switch (nth) {
            case 3: out.state = word[0]; break;
            case 4: out.parent = static_cast<int>(value); break;
            case 5: out.group = static_cast<int>(value); break;
            case 9: out.kernel_thread = value & kernel_thread_flag; break;
            case 12: out.major_faults = static_cast<std::uint64_t>(std::max<std::int64_t>(value, 0)); break;
            case 14: case 15: out.cpu_ns += time; break;
            case 16: case 17: out.waited_ns += time; break;
            case 22: out.start = word; break;
            case 39: out.cpu = static_cast<int>(value); break;
            default: break;
        }
    }
}

std::vector<std::uint64_t> numbers_in(std::string_view text) {
    std::vector<std::uint64_t> out;
    for (const char *at = text.data(), *end = at + text.size(); at < end;) {
        std::uint64_t n = 0;
        const auto [stop, wrong] = std::from_chars(at, end, n);
        if (wrong == std::errc()) out.push_back(n);
        at = std::max(stop, at + 1);
    }
    return out;
}

std::set<int> ids_in(std::string_view text) {
    std::set<int> out;
    for (const std::uint64_t n : numbers_in(text)) out.insert(static_cast<int>(n));
    return out;
}

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
    auto stat = stat_of(system, id);
    if (!stat) {
        stat.error().object = who;
        if (stat.error().code == ESRCH) stat.error().reason = "there is no such thread";
        return std::unexpected(stat.error());
    }
    const auto status = read_file(system, paths::of_process(std::to_string(id), "status"));
    if (!status) return gone(status.error(), who, "look at it");
    return task_entry{.id = id, .pid = field(*status, "Tgid"), .group = stat->group, .name = stat->name};
}

}  // namespace cohort::sys
