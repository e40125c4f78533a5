// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/coresched/scenario.hpp>
#include <cohort/coresched/trace_check.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::coresched {
namespace {

using ::testing::HasSubstr;

machine::topology smt(const std::string& what = "pack:1 core:1 pu:2") {
    sys::recorded none;
    return machine::load("synthetic:" + what, none).value();
}

std::string two(std::uint64_t n, int digits) {
    std::string s = std::to_string(n);
    return std::string(std::max<std::size_t>(s.size(), static_cast<std::size_t>(digits)) - s.size(), '0') + s;
}
std::string stamp(std::uint64_t ns) { return std::to_string(ns / 1'000'000'000) + "." + two(ns % 1'000'000'000, 9); }
/// As tracefs prints it.
std::string switched(std::uint64_t ns, int cpu, const std::string& from, const std::string& state, const std::string& to) {
    const auto name = [](const std::string& pid) { return pid == "0" ? std::string("swapper/0") : "t " + pid; };
    return " " + name(from) + "-" + from + "  [" + two(static_cast<std::uint64_t>(cpu), 3) + "] d..2. " + stamp(ns) + ": sched_switch: prev_comm=" + name(from) + " prev_pid=" + from +
           " prev_prio=120 prev_state=" + state + " ==> next_comm=" + name(to) + " next_pid=" + to + " next_prio=120\n";
}
std::string woken(std::uint64_t ns, int cpu, const std::string& pid) {
    return " x-1 [000] d..3. " + stamp(ns) + ": sched_wakeup: comm=t pid=" + pid + " prio=120 target_cpu=" + two(static_cast<std::uint64_t>(cpu), 3) + "\n";
}

constexpr std::uint64_t ms = 1'000'000;

TEST(trace_text, three_recorders_print_the_same_events) {
    for (const char* text : {
             "# tracer: nop\n#\n          <idle>-0       [001] d..2.  1234.567890: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=a b next_pid=12 next_prio=120\n"
             "  a b-12   [001] d.h3.  1234.567895: sched_wakeup: comm=c=d pid=13 prio=120 target_cpu=000\n",
             "cpus=2\n          <idle>-0     [001]  1234.567890: sched_switch:         swapper/1:0 [120] R ==> a b:12 [120]\n   a b-12    [001]  1234.567895: sched_wakeup:         c=d:13 [120] CPU:000\n",
             "swapper     0 [001]  1234.567890: sched:sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=a b next_pid=12 next_prio=120\n\n"
             "a b    12 [001]  1234.567895:       sched:sched_wakeup: comm=c=d pid=13 prio=120 target_cpu=000\n"}) {
        const auto t = read_trace(text);
        ASSERT_TRUE(t) << t.error().line() << text;
        ASSERT_EQ(t->events.size(), 2u) << text;
        const trace_event &s = t->events[0], &w = t->events[1];
        EXPECT_EQ(s.at_ns, 1'234'567'890'000u);
        EXPECT_EQ(s.cpu, 1);
        EXPECT_EQ(s.pid, 0);
        EXPECT_EQ(s.other, 12);
        EXPECT_EQ(s.other_name, "a b");
        EXPECT_TRUE(s.runnable);
        EXPECT_EQ(w.what, trace_kind::wake);
        EXPECT_EQ(w.pid, 13);
        EXPECT_EQ(w.cpu, 0);
        EXPECT_EQ(w.name, "c=d");
        EXPECT_EQ(w.at_ns, 1'234'567'895'000u);
    }
}

TEST(trace_text, other_events_are_read_and_what_is_lost_is_counted) {
    const auto t = read_trace("CPU:3 [LOST 12 EVENTS]\nCPU 1 [7 EVENTS DROPPED]\n"
                              " x-1 [000] .... 2.000000: sched_migrate_task: comm=x pid=7 prio=120 orig_cpu=0 dest_cpu=1\n x-1 [000] .... 3.000000: sched_process_fork: comm=x pid=7 child_comm=y pid=1 child_pid=8\n"
                              " x-1 [000] .... 4.000000: sched_process_exit: comm=x pid=7 prio=120\n x-1 [000] .... 1.500000: tracing_mark_write: cohort_cookie pid=7 cookie=0x1f\n"
                              " x-1 [000] .... 5: sched_wakeup_new: comm=x pid=8 prio=120 target_cpu=001\r\n x-1 [000] .... 5.1: sched_stat_runtime: comm=x pid=8\n" +
                              switched(5 * ms, 0, "7", "S", "0"));
    ASSERT_TRUE(t) << t.error().line();
    EXPECT_EQ(t->lost, 19u);
    EXPECT_EQ(t->passed_over, 1u);
    ASSERT_EQ(t->events.size(), 6u);
    EXPECT_EQ(t->events[0].at_ns, 5u) << "no fraction: nanoseconds";
    EXPECT_FALSE(t->events[1].runnable);
    EXPECT_EQ(t->events[2].tag, 0x1fu);
    EXPECT_EQ(t->events[3].cpu, 1);
    EXPECT_EQ(t->events[4].pid, 7);
    EXPECT_EQ(t->events[4].other, 8);
}

TEST(trace_text, what_is_not_understood_is_told_with_its_line) {
    for (const char* bad : {" x-1 [000] .... 1.0: sched_switch: prev_comm=x\n", " x-1 [zero] .... 1.0: sched_wakeup: comm=x pid=1 prio=1 target_cpu=0\n", " x-1 [000] .... soon: sched_process_exit: comm=x pid=7 prio=1\n",
                            " x-1 [000] .... 1.0: sched_migrate_task: comm=x pid=7\n", " x-1 [000] .... 1.0: sched_process_fork: comm=x pid=7\n", " x-1 [000] .... 1.0: print: cohort_cookie pid=7\n",
                            " x-1 [000] .... 1.0: sched_switch: a:1 [120] R ==> b\n", " x-1 [000] .... 1.0: sched_wakeup: a:1 [120]\n"}) {
        const auto r = read_trace("# one\n" + std::string(bad));
        ASSERT_FALSE(r) << bad;
        EXPECT_EQ(r.error().code, EINVAL);
        EXPECT_THAT(r.error().line(), HasSubstr("line 2: read: EINVAL: \"")) << bad;
    }
    EXPECT_THAT(read_trace("nothing\n").error().line(), HasSubstr("it has no sched_switch"));
    EXPECT_EQ(read_cookies("12 0x1 web\n# all\n\n 13 2").value(), (std::map<int, cookie>{{12, 1}, {13, 2}}));
    EXPECT_THAT(read_cookies("12 1\n13\n").error().line(), HasSubstr("line 2"));
    EXPECT_FALSE(read_cookies("x 1"));
    EXPECT_FALSE(read_cookies("0 1"));
}

TEST(trace_check, an_overlap_of_unequal_cookies_is_a_violation_and_a_short_one_a_window) {
    std::string text = switched(10 * ms, 0, "0", "R", "1") + switched(12 * ms, 1, "0", "R", "2") + switched(15 * ms, 0, "1", "S", "0");
    text += switched(20 * ms, 0, "0", "R", "1") + switched(20 * ms + 50'000, 1, "2", "R", "3") + switched(30 * ms, 1, "3", "R", "0");
    const auto trace = read_trace(text).value();
    const std::map<int, cookie> cookies{{1, 5}, {2, 6}, {3, 5}};
    const auto r = check_trace(trace, cookies, smt()).value();
    ASSERT_EQ(r.violations.size(), 1u);
    const trace_violation& v = r.violations[0];
    EXPECT_EQ(v.from_ns, 12 * ms);
    EXPECT_EQ(v.to_ns, 15 * ms);
    EXPECT_TRUE(v.cpu == 0 && v.task == 1 && v.tag == 5 && v.other_cpu == 1 && v.other_task == 2 && v.other_tag == 6);
    EXPECT_EQ(r.violation_ns, 3 * ms);
    EXPECT_EQ(r.longest_ns, 3 * ms);
    EXPECT_EQ(r.window_count, 1u);
    EXPECT_EQ(r.window_ns, 50'000u);
    EXPECT_EQ(r.duration_ns, 20 * ms);
    EXPECT_EQ(check_trace(trace, cookies, smt(), {.window_ns = 0}).value().violation_count, 2u);
    EXPECT_EQ(check_trace(trace, {{1, 5}, {2, 5}, {3, 5}}, smt()).value().violation_count, 0u);
    EXPECT_EQ(check_trace(trace, cookies, smt("pack:1 core:2 pu:1")).value().violation_count, 0u) << "no siblings";
    EXPECT_THAT(check_trace(trace, cookies, smt("pack:1 core:1 pu:1")).error().line(), HasSubstr("CPU 1, which the machine does not have"));
}

TEST(trace_check, forced_idleness_is_of_who_waits_for_another_cookie_and_is_charged_to_who_runs) {
    // 1 (cookie 5) runs on CPU 0 from 10; 2 (none) is woken on CPU 1 at 12 and runs there from 18, when 1 sleeps; 3 (cookie 5) waits there as well.
    const std::string text = switched(10 * ms, 0, "0", "R", "1") + woken(12 * ms, 1, "2") + woken(13 * ms, 1, "3") + switched(18 * ms, 0, "1", "S", "0") + switched(18 * ms, 1, "0", "R", "2") + switched(20 * ms, 1, "2", "R", "3") +
                             switched(21 * ms, 1, "3", "S", "0");
    const auto r = check_trace(read_trace(text).value(), {{1, 5}, {3, 5}}, smt()).value();
    EXPECT_EQ(r.violation_count, 0u);
    EXPECT_EQ(r.total.forced_idle_ns, 6 * ms) << "12 to 18; at the end 2 waits, but the core is idle";
    EXPECT_EQ(r.cpus[1].forced_idle_ns, 6 * ms);
    EXPECT_EQ(r.cpus[0].busy_ns, 8 * ms);
    EXPECT_EQ(r.cpus[1].busy_ns, 3 * ms);
    ASSERT_EQ(r.tasks.size(), 3u);
    EXPECT_EQ(r.tasks[0].forced_idle_ns, 6 * ms);
    EXPECT_EQ(r.tasks[0].runtime_ns, 8 * ms);
    EXPECT_EQ(r.tasks[1].name, "t 2");
    EXPECT_EQ(r.who_forced_whom, (std::map<std::pair<cookie, cookie>, std::uint64_t>{{{5, 0}, 6 * ms}}));
    // A waiter that moves away or ends forces nobody; one of the cookie that runs is only late.
    const std::string base = switched(10 * ms, 0, "0", "R", "1") + woken(12 * ms, 1, "2");
    const std::string moved = base + " x-1 [000] .... 0.014: sched_migrate_task: comm=t pid=2 prio=120 orig_cpu=1 dest_cpu=0\n" + switched(20 * ms, 0, "1", "S", "0");
    EXPECT_EQ(check_trace(read_trace(moved).value(), {{1, 5}}, smt()).value().total.forced_idle_ns, 2 * ms);
    const std::string ended = base + " x-1 [000] .... 0.015: sched_process_exit: comm=t pid=2 prio=120\n" + switched(20 * ms, 0, "1", "S", "0");
    EXPECT_EQ(check_trace(read_trace(ended).value(), {{1, 5}}, smt()).value().total.forced_idle_ns, 3 * ms);
    EXPECT_EQ(check_trace(read_trace(moved).value(), {{1, 5}, {2, 5}}, smt()).value().total.forced_idle_ns, 0u);
}

TEST(trace_check, cookies_may_change_and_are_inherited) {
    const std::string text = switched(10 * ms, 0, "0", "R", "1") + " x-1 [000] .... 0.011: sched_process_fork: comm=t pid=1 child_comm=k child_pid=2\n" + switched(12 * ms, 1, "0", "R", "2") +
                             " x-1 [000] .... 0.015: print: cohort_cookie pid=2 cookie=0\n x-1 [000] .... 0.016: print: cohort_cookie pid=1 cookie=0x0\n" + switched(20 * ms, 0, "1", "S", "0");
    const auto r = check_trace(read_trace(text).value(), {{1, 5}}, smt()).value();
    EXPECT_EQ(r.violation_ns, 1 * ms) << "from 15, when the child lost it, to 16, when its parent did";
    EXPECT_EQ(r.tasks[1].tag, no_cookie);
    EXPECT_EQ(r.tasks[1].name, "t 2") << "the newest";
}

/// A simulated course, as tracefs would have printed it: hogs that are always runnable.
std::string trace_of(const outcome& o) {
    std::vector<std::tuple<std::uint64_t, int, std::string>> lines;  // by time; a CPU that is left goes before one that is entered
    std::map<int, std::vector<segment>> by_cpu;
    for (const segment& s : o.timeline) {
        if (!s.forced_idle) by_cpu[s.cpu].push_back(s);
    }
    for (std::size_t t = 0; t < o.tasks.size(); ++t) {
        const auto first = std::ranges::find_if(o.timeline, [&](const segment& s) { return !s.forced_idle && s.task == t; });
        lines.emplace_back(0, 0, woken(0, first->cpu, std::to_string(t + 1)));
    }
    for (auto& [cpu, all] : by_cpu) {
        std::ranges::sort(all, {}, &segment::from_ns);
        std::string before = "0";
        std::uint64_t until = 0;
        const auto put = [&](std::uint64_t at, const std::string& now) {
            if (now != before) lines.emplace_back(at, now == "0" ? 1 : 2, switched(at, cpu, before, "R", now));
            before = now;
        };
        for (const segment& s : all) {
            if (s.from_ns != until) put(until, "0");
            put(s.from_ns, std::to_string(s.task + 1));
            until = s.to_ns;
        }
        put(until, "0");
    }
    std::ranges::stable_sort(lines, {}, [](const auto& l) { return std::pair(std::get<0>(l), std::get<1>(l)); });
    std::string text;
    for (const auto& l : lines) text += std::get<2>(l);
    return text;
}

TEST(trace_check, agrees_with_the_engine_on_a_simulated_course) {
    const auto machine = smt("pack:1 core:2 pu:2");
    scenario s{.duration_ms = 200, .timeline = true, .tasks = {{.name = "a", .tag = 1, .cpus = {0}}, {.name = "b", .cpus = {1}}, {.name = "c", .tag = 2, .cpus = {1}}, {.name = "d", .tag = 1, .cpus = {2}}, {.name = "e", .tag = 2, .cpus = {3}}}};
    const std::map<int, cookie> cookies{{1, 1}, {3, 2}, {4, 1}, {5, 2}};
    for (const char* policy : {"kernel", "search0", "unprotected"}) {
        const auto o = simulate(s, machine, {.rules = parse_policy(policy).value()}).value();
        const auto r = check_trace(read_trace(trace_of(o)).value(), cookies, machine, {.window_ns = 0}).value();
        const bool apart = std::string(policy) != "unprotected";
        EXPECT_EQ(r.violation_count == 0, apart) << policy;
        // Before a task's first moment the trace does not show it: a millisecond of the beginning.
        EXPECT_NEAR(static_cast<double>(r.total.forced_idle_ns), static_cast<double>(apart ? o.forced_idle_ns : 0), 4e6) << policy;
        for (const trace_task& t : r.tasks) EXPECT_EQ(t.runtime_ns, o.tasks[static_cast<std::size_t>(t.pid - 1)].runtime_ns) << policy << t.pid;
        std::uint64_t charged = 0;
        for (const trace_task& t : r.tasks) charged += t.forced_idle_ns;
        EXPECT_EQ(charged, r.total.forced_idle_ns);
    }
}

}  // namespace
}  // namespace cohort::coresched
