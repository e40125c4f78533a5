// SPDX-License-Identifier: Apache-2.0
// What a recorded trace of the scheduler says: did cookies hold, and what did that cost.
#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/coresched/trace_check.hpp>
#include <cohort/group/table.hpp>

#include "command.hpp"
#include "coresched_control.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options {
    std::string trace, machine = "live";
    std::optional<std::string> cookies;
    std::int64_t window_us = 100;
    bool json = false;
};

double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

/// Lines of "PID COOKIE", or what `coresched ls --json` prints.
result<std::map<int, coresched::cookie>> cookies_in(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == text.npos || text[first] != '{') return coresched::read_cookies(text);
    const auto j = nlohmann::json::parse(text, nullptr, false);
    std::map<int, coresched::cookie> out;
    try {
        for (const auto& c : j.at("cookies")) {
            const std::string value = c.at("cookie").get<std::string>();
            for (const auto& p : c.at("processes")) {
                for (const int tid : p.at("tids")) out[tid] = std::stoull(value, nullptr, 0);
            }
        }
    } catch (const std::exception&) {
        return fail(EINVAL, "text", "read", "it is neither lines of PID COOKIE nor what coresched ls --json prints");
    }
    return out;
}

ordered_json json_of(const coresched::trace_text& t, const coresched::trace_report& r) {
    ordered_json violations = ordered_json::array(), tasks = ordered_json::array(), cpus = ordered_json::array(), pairs = ordered_json::array();
    for (const auto& v : r.violations) {
        violations.push_back({{"from_ms", ms(v.from_ns)}, {"ms", ms(v.to_ns - v.from_ns)}, {"cpu", v.cpu}, {"pid", v.task}, {"cookie", cookie_text(v.tag)},
                              {"other_cpu", v.other_cpu}, {"other_pid", v.other_task}, {"other_cookie", cookie_text(v.other_tag)}});
    }
    for (const auto& x : r.tasks) tasks.push_back({{"pid", x.pid}, {"name", x.name}, {"cookie", cookie_text(x.tag)}, {"runtime_ms", ms(x.runtime_ns)}, {"forceidle_ms", ms(x.forced_idle_ns)}});
    for (const auto& c : r.cpus) cpus.push_back({{"cpu", c.cpu}, {"busy_ms", ms(c.busy_ns)}, {"idle_ms", ms(c.idle_ns)}, {"forced_idle_ms", ms(c.forced_idle_ns)}});
    for (const auto& [pair, ns] : r.who_forced_whom) pairs.push_back({{"ran", cookie_text(pair.first)}, {"waited", cookie_text(pair.second)}, {"ms", ms(ns)}});
    return {{"schema_version", 1}, {"ok", r.violation_count == 0}, {"duration_ms", ms(r.duration_ns)}, {"events", t.events.size()}, {"lost_events", t.lost},
            {"violations", {{"count", r.violation_count}, {"ms", ms(r.violation_ns)}, {"longest_ms", ms(r.longest_ns)}, {"list", std::move(violations)}}},
            {"windows", {{"count", r.window_count}, {"ms", ms(r.window_ns)}}}, {"tasks", std::move(tasks)}, {"cpus", std::move(cpus)}, {"who_forced_whom", std::move(pairs)},
            {"total", {{"busy_ms", ms(r.total.busy_ns)}, {"forced_idle_ms", ms(r.total.forced_idle_ns)}}}};
}

std::string text_of(const coresched::trace_report& r) {
    using enum group::align;
    std::string out = fmt::format("{:.3f} ms: {} violations ({:.3f} ms), {} windows ({:.3f} ms), longest overlap {:.3f} ms, forced idle {:.3f} ms\n", ms(r.duration_ns), r.violation_count, ms(r.violation_ns), r.window_count,
                                  ms(r.window_ns), ms(r.longest_ns), ms(r.total.forced_idle_ns));
    std::size_t shown = 0;
    for (const auto& v : r.violations) {
        if (++shown > 10) break;
        out += fmt::format("  violation at {:.6f} s for {:.3f} ms: CPU {} ran pid {} (cookie {}) beside CPU {} with pid {} (cookie {})\n", static_cast<double>(v.from_ns) / 1e9, ms(v.to_ns - v.from_ns), v.cpu, v.task,
                           cookie_text(v.tag), v.other_cpu, v.other_task, cookie_text(v.other_tag));
    }
    if (r.violation_count > 10) out += fmt::format("  and {} more (--json lists a thousand)\n", r.violation_count - 10);
    group::text_table tasks({"pid", "name", "cookie", "runtime ms", "forced idle ms"}, {right, left, left, right, right});
    for (const auto& t : r.tasks) tasks.row({std::to_string(t.pid), t.name, cookie_text(t.tag), fmt::format("{:.3f}", ms(t.runtime_ns)), fmt::format("{:.3f}", ms(t.forced_idle_ns))});
    group::text_table cpus({"CPU", "busy ms", "idle ms", "forced idle ms"}, {right, right, right, right});
    for (const auto& c : r.cpus) cpus.row({std::to_string(c.cpu), fmt::format("{:.3f}", ms(c.busy_ns)), fmt::format("{:.3f}", ms(c.idle_ns)), fmt::format("{:.3f}", ms(c.forced_idle_ns))});
    out += tasks.text("  ") + cpus.text("  ");
    for (const auto& [pair, ns] : r.who_forced_whom) out += fmt::format("  cookie {} kept cookie {} waiting for {:.3f} ms of a CPU\n", cookie_text(pair.first), cookie_text(pair.second), ms(ns));
    return out;
}

outcome check(const options& o) {
    const auto text = read_input(sys::real(), o.trace, std::size_t{1} << 30);
    if (!text) return std::unexpected(text.error());
    const auto trace = coresched::read_trace(*text);
    if (!trace) return usage(input_name(o.trace) + ": " + trace.error().line());
    std::map<int, coresched::cookie> cookies;
    if (o.cookies) {
        const auto list = read_input(sys::real(), *o.cookies);
        if (!list) return std::unexpected(list.error());
        auto read = cookies_in(*list);
        if (!read) return usage(input_name(*o.cookies) + ": " + read.error().line());
        cookies = std::move(*read);
    }
    const bool markers = std::ranges::any_of(trace->events, [](const auto& e) { return e.what == coresched::trace_kind::set_cookie; });
    if (cookies.empty() && !markers) complain(input_name(o.trace) + ": no cookies: give --cookies, or markers in the trace; nothing can be forced or violated");
    const auto machine = machine::load(o.machine, sys::real());
    if (!machine) return machine_fault(machine.error());
    const auto r = coresched::check_trace(*trace, cookies, *machine, {.window_ns = static_cast<std::uint64_t>(o.window_us) * 1000});
    if (!r) return usage(input_name(o.trace) + ": " + r.error().line() + "; --machine tells of another");
    if (trace->lost) complain(fmt::format("{}: {} events were lost in recording: what is told here may be too little", input_name(o.trace), trace->lost));
    if (o.json) print_json(json_of(*trace, *r));
    else print(text_of(*r));
    return r->violation_count ? exit_code::no : exit_code::ok;
}

}  // namespace

void add_coresched_check(registry& all) {
    auto o = std::make_shared<options>();
    all.add("coresched check", "Hold a recorded trace of the scheduler against cookies: violations, forced idleness, who forced whom")
        .argument("TRACE", o->trace, "text of tracefs, trace-cmd report or perf script; - is standard input")
        .option("--cookies", o->cookies, "FILE", "lines of PID COOKIE, or what `cohort coresched ls --json` printed while the trace was recorded")
        .option("--machine", o->machine, "MACHINE", "whose siblings: live (default), synthetic:..., or a file of hwloc's")
        .number("--window-us", o->window_us, 0, 1'000'000, "overlaps up to this long are not violations: a sibling is told to leave by an interrupt, and not waited for; default: 100")
        .flag("--json", o->json, "print JSON")
        .notes("Events: sched_switch; sched_wakeup, sched_wakeup_new, sched_migrate_task, sched_process_fork and sched_process_exit tell who waits.\nExit: 0; 1 there are violations; 2 a line that is not understood.\n"
               "Example:\n  cohort coresched ls --json >cookies; trace-cmd record -e 'sched:sched_switch' -e 'sched:sched_wakeup*' -e 'sched:sched_migrate_task' sleep 5\n"
               "  trace-cmd report | cohort coresched check - --cookies cookies")
        .run([o] { return check(*o); });
}

}  // namespace cohort::cli
