// SPDX-License-Identifier: Apache-2.0
/// Core scheduling as a machine in memory: tasks with cookies, CPUs with siblings, and the core-wide pick that never lets unequal cookies share a core.
///
///     auto machine = machine::load("synthetic:pack:1 core:1 pu:2", os).value();
///     coresched::engine e(machine);
///     task_id web = e.add({.name = "web", .tag = e.cookies().create(), .cpus = {0}});
///     task_id db = e.add({.name = "db", .cpus = {1}});
///     e.wake(web), e.wake(db);
///     e.settle();                                     // every CPU that has to choose has chosen
///     e.running(0) == web && e.forced_idle(1);        // db waits: its cookie is another
///     e.advance(4'000'000), e.tick(), e.settle();     // 4 ms later
///
/// Kernel: kernel/sched/core.c (pick_next_task, try_steal_cookie), core_sched.c, fair.c, rt.c, deadline.c (v6.12). Pure and deterministic: no clock, no chance. Not thread-safe: one
/// thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/coresched/cookie.hpp>
#include <cohort/coresched/policy.hpp>
#include <cohort/machine/topology.hpp>

namespace cohort::coresched {

using task_id = std::uint32_t;
inline constexpr task_id idle = ~task_id{0};  ///< no task: the CPU's idle loop

using group_id = std::uint32_t;  ///< 0: the root, which is always there

enum class scheduling { fair, round_robin, fifo, deadline };
/// The kernel's fair class: of 6.12 (earliest eligible virtual deadline first) or 6.1 (least virtual runtime first).
enum class fair_class { eevdf, cfs };

struct task_options {
    std::string name = {};
    cookie tag = no_cookie;                  ///< the task takes a reference of its own
    cpumask cpus = {};                       ///< empty: all
    scheduling how = scheduling::fair;
    int weight = 1024;                       ///< of a fair one: 1 .. 88761 (nice -20); nice 0 is 1024
    int priority = 0;                        ///< of a real-time one: 1 .. 99, the higher first
    std::uint64_t runtime_ns = 0, deadline_ns = 0, period_ns = 0;  ///< of a deadline one: so much in each period, by the deadline; runtime <= deadline <= period
    group_id group = 0;                      ///< where a fair one competes
};

/// A core-wide pick, or a CPU that follows one (then only siblings[].given tells).
struct pick_step {
    struct sibling {
        int cpu = 0;
        task_id first = idle;                ///< what its own queue would run
        task_id given = idle;
        bool forced_idle = false;
    };
    std::uint64_t at_ns = 0;
    int asks = 0;
    bool followed = false;
    cookie before = no_cookie;               ///< the core's
    bool forced_before = false;              ///< a sibling was forced idle
    task_id best = idle;                     ///< of the first choices
    cookie tag = no_cookie;                  ///< the core's from here on
    std::vector<sibling> siblings = {};
};

struct engine_options {
    policy rules = {};
    std::uint64_t tick_ns = 4'000'000;       ///< HZ 250
    std::uint64_t slice_ns = 0;              ///< of fair tasks; 0: as the kernel's, by the number of CPUs (0.7 ms, 6.1: 0.75 ms, times 1 to 4)
    fair_class fair = fair_class::eevdf;
    std::function<void(const pick_step&)> on_pick = {};  ///< called within settle()
};

struct task_figures {
    std::uint64_t runtime_ns = 0;            ///< on a CPU
    std::uint64_t forced_idle_ns = 0;        ///< charged: idleness of siblings that this task's cookie forced
    std::uint64_t switches = 0;              ///< times it began to run
};
struct cpu_figures {
    std::uint64_t busy_ns = 0, idle_ns = 0;
    std::uint64_t forced_idle_ns = 0;        ///< of idle_ns: while a task was there that its core's cookie kept from running
};

namespace detail {
struct state;
}

/// A resource type. Cost of a pick: linear in the core's siblings, logarithmic in what is queued on them.
class engine {
public:
    explicit engine(const machine::topology& t, engine_options o = {});
    ~engine();
    engine(engine&&) noexcept;
    engine& operator=(engine&&) noexcept;

    cookie_table& cookies();

    /// A group of tasks, and of groups, which competes as one at its weight: 2 .. 262144, a task at nice 0 is 1024. parent: 0 or another.
    group_id add_group(std::string name, group_id parent, int weight);

    // ---- tasks. All of them leave CPUs that have to choose anew; settle() lets them.

    /// A task that sleeps. o.cpus: must hold a CPU of the machine (a caller's bug otherwise).
    task_id add(task_options o);
    /// It becomes runnable, on a CPU that its mask, the cookies and what is idle speak for. Nothing when it is runnable.
    void wake(task_id t);
    /// It sleeps. Nothing when it does.
    void block(task_id t);
    /// It is gone for good; its cookie is put back.
    void exit(task_id t);
    void set_cookie(task_id t, cookie c);
    /// A new task with the same options and the parent's cookie, asleep.
    task_id fork(task_id parent, std::string name);
    /// Its tasks move to other CPUs of their masks, or, where none is online, anywhere. False: it is the last one. Nothing when it is so already.
    bool set_online(int cpu, bool on);

    // ---- time

    std::uint64_t now() const;
    /// Time passes; what runs is charged. Settle first.
    void advance(std::uint64_t ns);
    /// The periodic tick, on every CPU, one after the other: each chooses, where it has to, before the next one's tick.
    void tick();
    /// The tick of one CPU. True: it is to choose anew, which it does at the next choose(), or before that when a sibling's pick makes it.
    bool tick(int cpu);
    /// It chooses, if a tick has told it to and it has not since.
    void choose(int cpu);
    /// Every CPU that has to choose does, until none has to.
    void settle();
    /// When a budget of the deadline class is renewed next, for settle() to see it: time is best stopped there. Never: the greatest number.
    std::uint64_t next_timer() const;

    // ---- looking

    task_id running(int cpu) const;
    bool online(int cpu) const;
    /// The sibling that keeps what its core shares. It goes to the next online one when it leaves.
    int leader_of(int cpu) const;
    /// Idle, and something is queued here that the core's cookie keeps from running.
    bool forced_idle(int cpu) const;
    cookie cookie_of(task_id t) const;
    int cpu_of(task_id t) const;
    bool runnable(task_id t) const;
    std::size_t tasks() const;
    const std::string& name_of(task_id t) const;
    task_figures figures(task_id t) const;
    cpu_figures figures_of_cpu(int cpu) const;
    /// Forced idleness by (cookie that ran, cookie of the task that would have).
    const std::map<std::pair<cookie, cookie>, std::uint64_t>& who_forced_whom() const;
    std::uint64_t picks() const;
    std::uint64_t steals() const;
    /// The first broken invariant (README.md), or "". Settle first. Cost: all tasks and CPUs.
    std::string broken() const;

private:
    std::unique_ptr<detail::state> s_;
};

}  // namespace cohort::coresched
