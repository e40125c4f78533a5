// SPDX-License-Identifier: Apache-2.0
/// What is simulated: a machine, tasks that compute and sleep, and what happens to them.
///
///     scenario s{.duration_ms = 1000, .tasks = {{.name = "web", .tag = 1, .cpus = {0}}, {.name = "db", .cpus = {1}}}};
///     auto r = simulate(s, machine::load("synthetic:pack:1 core:1 pu:2", os).value(), {}).value();
///     r.tasks[0].share;                               // of one CPU's time: 0.5
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/coresched/engine.hpp>

namespace cohort::coresched {

enum class behaviour {
    hog,       ///< computes all the time
    periodic,  ///< computes run_us, sleeps sleep_us, and again
    pingpong,  ///< computes run_us, wakes its partner and sleeps until that wakes it
};

struct task_spec {
    std::string name = {};
    std::uint64_t tag = 0;          ///< tasks with the same number share a cookie; 0: none
    cpumask cpus = {};              ///< empty: all
    scheduling how = scheduling::fair;
    int weight = 1024, priority = 0;///< as task_options
    behaviour kind = behaviour::hog;
    std::uint64_t run_us = 0;       ///< of work: time alone on its core
    std::uint64_t sleep_us = 0;
    std::string with = {};          ///< a pingpong task's partner
    std::uint64_t runtime_us = 0, deadline_us = 0, period_us = 0;  ///< of the deadline class
    std::string group = {};         ///< "": the root
};

/// Its tasks compete as one, at its weight, with what is beside it: a cgroup with the cpu controller.
struct group_spec {
    std::string name = {};          ///< "a/b" is within "a", which comes before it
    int weight = 1024;              ///< 2 .. 262144; cpu.weight 100 is 1024
};

enum class change { create, share_to, share_from, clear, fork, exit, offline, online };

struct event_spec {
    std::uint64_t at_us = 0;
    change what = change::create;
    std::string task = {};          ///< who acts; who forks or exits
    std::string target = {};        ///< whose cookie is set (share_to), taken (share_from); the name of a fork's child
    int cpu = -1;                   ///< offline, online
};

enum class tick_order { any, ascending, descending };  ///< among siblings, by number; any: by chance, each time anew

struct scenario {
    std::uint64_t duration_ms = 1000;
    bool timeline = false;          ///< record who ran when
    std::uint64_t seed = 1;         ///< when tasks begin: each within the first millisecond; 0: all at once, in their order
    /// Siblings' ticks do not come in the same instant; whose comes first decides between equals. Where one order for ever gives other shares than chance does, a machine's are not to be foretold.
    tick_order ticks = tick_order::any;
    std::uint64_t tick_seed = 0;    ///< of the chance
    /// What a core with all siblings busy does in a second, in seconds of one alone: 1 .. number of siblings.
    double smt_yield = 1.25;
    std::vector<group_spec> groups = {};
    std::vector<task_spec> tasks = {};
    std::vector<event_spec> events = {};
};

struct task_result {
    std::string name;
    std::uint64_t runtime_ns = 0, forced_idle_ns = 0, switches = 0;
    double share = 0;               ///< runtime over duration
    std::uint64_t work_ns = 0;      ///< done, in time of one alone on its core
    std::uint64_t waits = 0, wait_p50_ns = 0, wait_p99_ns = 0;  ///< from being runnable to running; percentiles within 3 %
};
struct cpu_result {
    int cpu = 0;
    std::uint64_t busy_ns = 0, idle_ns = 0, forced_idle_ns = 0;
};
struct forced_pair {
    std::uint64_t ran = 0, waited = 0;  ///< tags
    std::uint64_t ns = 0;
};

/// One CPU for a while: a task ran, or it was forced idle.
struct segment {
    int cpu = 0;
    std::uint64_t from_ns = 0, to_ns = 0;
    std::size_t task = 0;               ///< index into outcome::tasks; while forced idle: of none
    std::uint64_t tag = 0;              ///< of what ran
    bool forced_idle = false;
};

struct outcome {
    std::string policy;
    std::uint64_t duration_ns = 0;
    std::vector<task_result> tasks;
    std::vector<cpu_result> cpus;
    std::vector<forced_pair> who_forced_whom;
    double throughput = 0;          ///< work done, over duration: CPUs' worth
    std::uint64_t forced_idle_ns = 0, switches = 0, picks = 0, steals = 0;
    /// Seconds of a core with at least one sibling busy, and with more of them: (busy - 1) / (siblings - 1). A core does the first and, at yield y, y - 1 times the second.
    double one_busy_s = 0, more_busy_s = 0;
    double jain = 1;                ///< of runtime over weight, of the fair tasks that never sleep; 1: equal
    std::vector<segment> timeline;  ///< in the order of their ends; where it was asked for
};

/// The SMT yield at which o does as much as `other` did, which used one thread a core (nosmt): below it threads do not pay. Of hogs exact; of tasks that sleep what this course suggests.
/// None: it does so at no yield (o's siblings are never busy together).
std::optional<double> break_even(const outcome& o, const outcome& other);

/// Deterministic: equal arguments, equal outcomes. Errors: EINVAL, a task is named that is not there, twice, or cannot do what it is to; a CPU is beyond the machine;
/// the yield is out of range. Cost: about a microsecond an event; 4 ms are a tick.
result<outcome> simulate(const scenario& s, const machine::topology& t, const engine_options& o);

}  // namespace cohort::coresched
