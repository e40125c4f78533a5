// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <optional>

#include <cohort/coresched/trace_check.hpp>

namespace cohort::coresched {
namespace {

using view = std::string_view;

/// Of the form that C's literals have: 12, 0x1f.
template <class T>
std::optional<T> number(view text) {
    const int base = text.starts_with("0x") ? 16 : 10;
    if (base == 16) text.remove_prefix(2);
    T value{};
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (bad != std::errc() || end == text.data()) return std::nullopt;
    if (end != text.data() + text.size() && *end != ' ' && *end != '\t' && *end != '\n' && *end != ']' && *end != '>') return std::nullopt;
    return value;
}

/// The number behind the last "KEY=": a task's name may hold anything, and stands before.
template <class T = int>
std::optional<T> field(view text, view key) {
    const std::size_t at = text.rfind(key);
    return at == text.npos ? std::nullopt : number<T>(text.substr(at + key.size()));
}
std::string name_between(view text, view from, view to) {
    const std::size_t a = text.find(from), b = text.rfind(to);
    return a == text.npos || b == text.npos || a + from.size() > b ? std::string() : std::string(text.substr(a + from.size(), b - a - from.size()));
}

/// "12.345678" seconds or "12345678" nanoseconds.
std::optional<std::uint64_t> time_of(view text) {
    const std::size_t dot = text.find('.');
    const auto whole = number<std::uint64_t>(text.substr(0, dot));
    if (!whole || dot == text.npos) return whole;
    std::uint64_t part = 0, scale = 1'000'000'000;
    for (const char c : text.substr(dot + 1)) {
        if (c < '0' || c > '9' || scale == 1) return std::nullopt;
        scale /= 10;
        part += static_cast<std::uint64_t>(c - '0') * scale;
    }
    return *whole * 1'000'000'000 + part;
}

/// "NAME:PID [PRIO]" and what follows it, as trace-cmd and older perfs print tasks.
struct short_task {
    std::string name;
    int pid = 0;
    view rest;
};
std::optional<short_task> short_form(view text) {
    const std::size_t bracket = text.rfind(" [");
    const std::size_t colon = bracket == text.npos ? text.npos : text.rfind(':', bracket);
    const std::size_t end = bracket == text.npos ? text.npos : text.find(']', bracket);
    if (colon == text.npos || end == text.npos) return std::nullopt;
    const auto pid = number<int>(text.substr(colon + 1, bracket - colon - 1));
    if (!pid) return std::nullopt;
    view name = text.substr(0, colon);
    name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
    view rest = text.substr(end + 1);
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    return short_task{std::string(name), *pid, rest};
}

bool can_run(view state) { return state.starts_with("R") || state.starts_with("TASK_RUNNING"); }

/// The event's own part of the line into e. False: not understood.
bool read_switch(view text, trace_event& e) {
    const std::size_t arrow = text.find(" ==> ");
    if (arrow == text.npos) return false;
    const view before = text.substr(0, arrow), after = text.substr(arrow + 5);
    if (const auto pid = field(before, " prev_pid=")) {
        const auto next = field(after, " next_pid=");
        const std::size_t state = before.rfind("prev_state=");
        if (!next || state == before.npos) return false;
        e.pid = *pid;
        e.other = *next;
        e.name = name_between(before, "prev_comm=", " prev_pid=");
        e.other_name = name_between(after, "next_comm=", " next_pid=");
        e.runnable = can_run(before.substr(state + 11));
        return true;
    }
    const auto from = short_form(before), to = short_form(after);
    if (!from || !to) return false;
    e.pid = from->pid;
    e.other = to->pid;
    e.name = from->name;
    e.other_name = to->name;
    e.runnable = can_run(from->rest);
    return true;
}

bool read_wake(view text, trace_event& e) {
    if (const auto pid = field(text, " pid=")) {
        const auto cpu = field(text, " target_cpu=");
        if (!cpu) return false;
        e.pid = *pid;
        e.cpu = *cpu;
        e.name = name_between(text, "comm=", " pid=");
        return true;
    }
    const auto who = short_form(text);
    const auto cpu = who ? field(who->rest, "CPU:") : std::nullopt;
    if (!cpu) return false;
    e.pid = who->pid;
    e.cpu = *cpu;
    e.name = who->name;
    return true;
}

bool read_migrate(view text, trace_event& e) {
    const auto pid = field(text, " pid="), to = field(text, " dest_cpu=");
    if (!pid || !to) return false;
    e.pid = *pid;
    e.cpu = *to;
    return true;
}
bool read_fork(view text, trace_event& e) {
    const auto child = field(text, " child_pid=");
    const std::size_t middle = text.rfind(" child_comm=");
    const auto parent = field(text.substr(0, middle), " pid=");
    if (!child || !parent) return false;
    e.pid = *parent;
    e.other = *child;
    e.other_name = name_between(text, " child_comm=", " child_pid=");
    return true;
}
bool read_exit(view text, trace_event& e) {
    const auto pid = field(text, " pid=");
    if (pid) e.pid = *pid;
    return pid.has_value();
}
bool read_marker(view text, trace_event& e) {
    const auto pid = field(text, " pid=");
    const auto value = field<cookie>(text, " cookie=");
    if (!pid || !value) return false;
    e.pid = *pid;
    e.tag = *value;
    return true;
}

struct known_event {
    view name;
    trace_kind what;
    bool (*read)(view, trace_event&);
};
constexpr known_event known[] = {{"sched_switch:", trace_kind::change_task, read_switch},  {"sched_wakeup:", trace_kind::wake, read_wake},
                                 {"sched_wakeup_new:", trace_kind::wake, read_wake},        {"sched_migrate_task:", trace_kind::migrate, read_migrate},
                                 {"sched_process_fork:", trace_kind::fork, read_fork},      {"sched_process_exit:", trace_kind::exit, read_exit},
                                 {"cohort_cookie ", trace_kind::set_cookie, read_marker}};

/// What stands before an event: ... [CPU] ... TIME: EVENT:
bool read_head(view head, trace_event& e) {
    // TIME is the last word that ends in a colon; what stands between it and the event ("sched:", "tracing_mark_write:", "print:") has no digits first.
    for (std::size_t end = head.size(); end > 0;) {
        const std::size_t stop = head.rfind(':', end - 1);
        if (stop == head.npos) return false;
        const std::size_t start = head.find_last_of(" \t", stop);
        const auto at = time_of(head.substr(start + 1, stop - start - 1));
        const std::size_t close = head.rfind(']', stop), open = close == head.npos ? close : head.rfind('[', close);
        if (at && open != head.npos) {
            const auto cpu = number<int>(head.substr(open + 1));
            if (!cpu) return false;
            e.at_ns = *at;
            e.cpu = *cpu;
            return true;
        }
        end = stop;
    }
    return false;
}

/// "CPU:3 [LOST 12 EVENTS]", "CPU 3 [12 EVENTS DROPPED]"; 0: none.
std::uint64_t lost_in(view line) {
    if (const std::size_t at = line.find("[LOST "); at != line.npos) return number<std::uint64_t>(line.substr(at + 6)).value_or(1);
    if (line.find(" EVENTS DROPPED") == line.npos) return 0;
    const std::size_t at = line.rfind('[');
    return at == line.npos ? 1 : number<std::uint64_t>(line.substr(at + 1)).value_or(1);
}

template <class Each>
result<void> for_each_line(view text, Each each) {
    for (std::size_t n = 1; !text.empty(); ++n) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!each(line)) return fail(EINVAL, "line " + std::to_string(n), "read", "\"" + std::string(line.substr(0, 120)) + "\" is not understood");
    }
    return {};
}

}  // namespace

result<trace_text> read_trace(std::string_view text) {
    trace_text out;
    bool any = false;
    const auto read = for_each_line(text, [&](view line) {
        ++out.lines;
        if (const std::uint64_t lost = lost_in(line)) {
            out.lost += lost;
            return true;
        }
        const bool comment = line.starts_with("#");
        for (const known_event& k : known) {
            const std::size_t at = comment ? line.npos : line.find(k.name);
            if (at == line.npos || at == 0 || (line[at - 1] != ' ' && line[at - 1] != ':')) continue;
            trace_event e{.what = k.what};
            // The event's words begin with a blank, so that " pid=" is found behind it, too.
            const view own = line.substr(at + k.name.size() - (k.name.ends_with(' ') ? 1 : 0));
            if (!read_head(line.substr(0, at), e) || !k.read(own, e)) return false;
            any |= k.what == trace_kind::change_task;
            out.events.push_back(std::move(e));
            return true;
        }
        ++out.passed_over;
        return true;
    });
    if (!read) return std::unexpected(read.error());
    if (!any) return fail(EINVAL, "trace", "read", "it has no sched_switch");
    std::ranges::stable_sort(out.events, {}, &trace_event::at_ns);
    return out;
}

result<std::map<int, cookie>> read_cookies(std::string_view text) {
    std::map<int, cookie> out;
    const auto read = for_each_line(text, [&](view line) {
        line = line.substr(0, line.find('#'));
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        if (line.empty()) return true;
        const std::size_t blank = line.find_first_of(" \t");
        const std::size_t second = blank == line.npos ? blank : line.find_first_not_of(" \t", blank);
        const auto pid = number<int>(line.substr(0, blank));
        const auto tag = second == line.npos ? std::nullopt : number<cookie>(line.substr(second));
        if (!pid || !tag || *pid <= 0) return false;
        out[*pid] = *tag;
        return true;
    });
    if (!read) return std::unexpected(read.error());
    return out;
}

}  // namespace cohort::coresched
