// SPDX-License-Identifier: Apache-2.0
/// A recorded trace of the scheduler, checked: did unequal cookies ever run together on a core, which CPUs idled for that, and for whom.
///
///     auto trace = read_trace(text).value();                       // ftrace, trace-cmd report, perf script
///     auto r = check_trace(trace, {{4711, 1}, {4712, 2}}, machine).value();
///     for (auto& v : r.violations) say(v.from_ns, v.cpu, v.task, v.other_cpu, v.other_task);
///     r.total.forced_idle_ns;                                      // charged to tasks by the engine's accounts
///
/// Kernel: trace events sched_switch, sched_wakeup, sched_wakeup_new, sched_migrate_task, sched_process_fork, sched_process_exit (include/trace/events/sched.h). The kernel shows
/// cookies in none of them: they are told from outside, or by markers in the trace ("cohort_cookie pid=4711 cookie=0x1").
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/coresched/cookie.hpp>
#include <cohort/machine/topology.hpp>

namespace cohort::coresched {

enum class trace_kind { change_task, wake, migrate, fork, exit, set_cookie };

struct trace_event {
    std::uint64_t at_ns = 0;
    trace_kind what = trace_kind::change_task;
    int cpu = 0;                  ///< where it happened; wake, migrate: where the task is to run
    int pid = 0;                  ///< who: change_task: who ran before; 0: the CPU's idle loop
    int other = 0;                ///< change_task: who runs now; fork: the child
    bool runnable = false;        ///< change_task: pid could run on
    cookie tag = no_cookie;       ///< set_cookie
    std::string name = {}, other_name = {};
};

struct trace_text {
    std::vector<trace_event> events;   ///< by time
    std::uint64_t lines = 0, passed_over = 0;  ///< of other events, and comments
    std::uint64_t lost = 0;            ///< events that the recorder says it has lost
};

/// The text of `cat trace` of tracefs, of `trace-cmd report` or of `perf script`; times in seconds, or in nanoseconds where they have no fraction. Errors: EINVAL, a line of one of
/// the events above that is not understood (object: "line N"); no sched_switch at all.
result<trace_text> read_trace(std::string_view text);

/// "PID COOKIE" a line, numbers as in C; what follows, and lines from # on, is not looked at. Errors: EINVAL (object: "line N").
result<std::map<int, cookie>> read_cookies(std::string_view text);

struct trace_options {
    /// Overlaps up to this long are not violations but windows: the kernel tells a sibling to leave by an interrupt, and does not wait for it.
    std::uint64_t window_ns = 100'000;
};

/// Two tasks of unequal cookies on one core at the same time.
struct trace_violation {
    std::uint64_t from_ns = 0, to_ns = 0;
    int cpu = 0, task = 0;             ///< pid
    cookie tag = no_cookie;
    int other_cpu = 0, other_task = 0;
    cookie other_tag = no_cookie;
};

struct trace_task {
    int pid = 0;
    std::string name = {};
    cookie tag = no_cookie;            ///< at the end
    std::uint64_t runtime_ns = 0, forced_idle_ns = 0;
};
struct trace_cpu {
    int cpu = 0;
    std::uint64_t busy_ns = 0, idle_ns = 0, forced_idle_ns = 0;
};
struct trace_report {
    std::uint64_t duration_ns = 0;
    std::vector<trace_violation> violations;    ///< in the order of their ends; the first thousand
    std::uint64_t violation_count = 0, violation_ns = 0, longest_ns = 0;
    std::uint64_t window_count = 0, window_ns = 0;
    std::vector<trace_task> tasks;              ///< by pid
    std::vector<trace_cpu> cpus;
    std::map<std::pair<cookie, cookie>, std::uint64_t> who_forced_whom;  ///< (ran, waited) -> ns
    struct {
        std::uint64_t busy_ns = 0, forced_idle_ns = 0;
    } total;
};

/// cookies: who has which when the trace begins; others have none. A child has its parent's. Until a CPU's first event it is taken for idle. A CPU is forced idle while it is idle,
/// its core is not, and a task waits on it whose cookie is not the one that runs. Errors: EINVAL, the trace has a CPU that the machine does not have.
result<trace_report> check_trace(const trace_text& trace, const std::map<int, cookie>& cookies, const machine::topology& machine, const trace_options& o = {});

}  // namespace cohort::coresched
