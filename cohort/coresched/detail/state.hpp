// SPDX-License-Identifier: Apache-2.0
/// What an engine is made of, and what the files of this folder do to it.
#pragma once

#include <cstdint>
#include <vector>

#include <cohort/coresched/engine.hpp>

namespace cohort::coresched::detail {

struct task {
    task_options o;
    bool queued = false;            // runnable: in a queue of cpu
    bool gone = false;
    int cpu = 0;                    // where it is queued, or was last
    std::int64_t vruntime = 0;      // ns at weight 1024
    std::int64_t deadline = 0;      // virtual: when its slice is used up
    std::int64_t lag = 0;           // what it was owed when it went to sleep; while it runs: the deadline up to which it is not preempted
    bool placed = false;            // it has run before: `lag` means something
    std::uint64_t runtime = 0;
    std::uint64_t began_at = 0;     // runtime when it was last put on a CPU
    std::uint64_t slice_began = 0;  // round robin: runtime when its turn began
    std::uint32_t occupation = 0;   // siblings that ran something when it was last picked
    std::uint64_t forced_idle = 0, switches = 0;
};

/// Kernel: struct rq, as far as core scheduling and its classes look at it.
struct queue {
    int cpu = 0;
    std::uint32_t core = 0;
    bool online = true;
    task_id curr = idle;
    std::vector<task_id> fair, real_time;  // what is runnable, curr included; real_time: equal priorities in the order of their turns
    std::int64_t min_vruntime = 0;         // never goes back
    std::int64_t base = 0;                 // the kernel's min_vruntime_fi: what vruntimes of siblings are compared by
    std::uint64_t base_seq = 0;            // forced-idle period in which base was taken
    std::uint64_t exec_since = 0;          // curr's vruntime counts up to here
    bool must_choose = false;              // a reschedule is due
    bool picked = false;                   // a sibling has picked for this CPU
    task_id pick = idle;
    std::uint64_t sched_seq = 0;           // the pick that this CPU follows
    bool forced = false;                   // idle, and not for want of work
    cookie hindered = no_cookie;           // while forced: of the task that would have run
    std::uint32_t idle_occupation = 0;
    cpu_figures figures;

    std::size_t runnable() const { return fair.size() + real_time.size(); }
};

/// What siblings share. Kernel: the fields of one sibling's rq, the leader's, which hands them over when it goes offline; here they are the core's own.
struct core {
    std::vector<int> cpus;               // ascending
    std::uint64_t task_seq = 0;          // queueing here changes it
    std::uint64_t pick_seq = 0;          // task_seq at the last core-wide pick
    cookie tag = no_cookie;              // of what runs
    std::uint32_t forced = 0;            // CPUs that are forced idle
    std::uint32_t occupied = 0;          // CPUs that were given a task
    std::uint64_t forced_seq = 0;        // counts periods of forced idleness
    std::uint64_t since = 0;             // accounts are settled up to here
};

struct state {
    engine_options o;
    std::vector<task> tasks;
    std::vector<queue> cpus;             // by number
    std::vector<core> cores;
    std::vector<int> domain;             // by CPU: its package, for the order of stealing
    cpumask possible, online;
    cookie_table cookies;
    std::uint64_t now = 0;
    std::uint64_t slice = 0;
    std::vector<int> choosing;           // CPUs that must choose, first come first
    std::map<std::pair<cookie, cookie>, std::uint64_t> forced_by;
    std::uint64_t picks = 0, steals = 0;

    bool core_wide() const { return o.rules.cookies_count && cookies.enabled(); }
    cookie tag_of(task_id t) const { return t == idle ? no_cookie : tasks[t].o.tag; }
    core& core_of(const queue& q) { return cores[q.core]; }
    queue& queue_of(int cpu) { return cpus[static_cast<std::size_t>(cpu)]; }
    const queue& queue_of(int cpu) const { return cpus[static_cast<std::size_t>(cpu)]; }
};

inline bool is_fair(const task& t) { return t.o.how == scheduling::fair; }

// fair.cpp: the fair class of 6.12 (EEVDF) on one queue

/// curr's vruntime, up to now.
void update_curr(state& s, queue& q);
/// Gives a task that becomes runnable its place among the others.
void place(state& s, queue& q, task& t);
/// It leaves; what it is owed is remembered.
void remember_lag(state& s, queue& q, task& t);
void update_min_vruntime(state& s, queue& q);
/// The eligible task with the earliest virtual deadline; idle when there is none.
task_id pick_fair(const state& s, const queue& q);

// pick.cpp

/// The class's own choice for a CPU, cookies aside.
task_id pick_own(state& s, queue& q);
/// a runs rather than b, on siblings. in_forced_idle: it continues.
bool goes_before(state& s, task_id a, task_id b, bool in_forced_idle);
/// The CPU chooses: its sibling's pick for it, or a core-wide pick. Then it runs that.
void choose(state& s, queue& q);
void must_choose(state& s, queue& q);

// account.cpp

/// Charges what has passed on the core since the last time.
void account(state& s, core& c);

// queue.cpp

void enqueue(state& s, queue& q, task_id t);
void dequeue(state& s, task_id t);
void move(state& s, task_id t, queue& to);

// balance.cpp

/// Where a task that wakes up goes.
int cpu_for(const state& s, task_id t);
/// A forced-idle CPU looks for a task of its core's cookie elsewhere; one is moved.
void steal(state& s, queue& to);
/// A CPU without work looks for a task that waits elsewhere.
void pull(state& s, queue& to);

}  // namespace cohort::coresched::detail
