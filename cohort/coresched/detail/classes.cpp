// SPDX-License-Identifier: Apache-2.0
// Real time by priority, and by deadlines with budgets. Kernel: kernel/sched/rt.c, deadline.c (v6.12); Abeni and Buttazzo, constant bandwidth server, 1998.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {

constexpr std::uint64_t round_robin_ns = 100'000'000;

/// It is enforced at ticks, as the kernel does without high-resolution ones.
void update_budget(state& s, queue& q) {
    const task_id id = q.curr;
    task& t = s.tasks[id];
    t.budget -= static_cast<std::int64_t>(t.runtime - std::exchange(t.budget_at, t.runtime));
    if (t.budget > 0) return;
    dequeue(s, id, true);
    t.throttled = t.wanted = true;
    s.timers.emplace(t.due - t.o.deadline_ns + t.o.period_ns, id);
}

void renew_budget(state& s, task& t) {
    t.budget_at = t.runtime;
    // What is left may be used up to the old deadline, unless that would be more than its part of the time.
    const bool late = t.due <= s.now || static_cast<double>(t.budget) * static_cast<double>(t.o.deadline_ns) > static_cast<double>(t.due - s.now) * static_cast<double>(t.o.runtime_ns);
    if (!late) return;
    t.due = s.now + t.o.deadline_ns;
    t.budget = static_cast<std::int64_t>(t.o.runtime_ns);
}

void expire_timers(state& s) {
    while (!s.timers.empty() && std::get<0>(s.timers.top()) <= s.now) {
        const task_id id = std::get<1>(s.timers.top());
        s.timers.pop();
        task& t = s.tasks[id];
        if (!std::exchange(t.throttled, false)) continue;
        while (t.budget <= 0) {
            t.due += t.o.period_ns;
            t.budget += static_cast<std::int64_t>(t.o.runtime_ns);
        }
        if (std::exchange(t.wanted, false)) enqueue(s, s.queue_of(cpu_for(s, id)), id);
    }
}

task_id pick_deadline(const state& s, const queue& q) {
    task_id best = idle;
    for (const task_id id : q.deadline) {
        if (best == idle || s.tasks[id].due < s.tasks[best].due) best = id;
    }
    return best;
}

void tick_real_time(state& s, queue& q) {
    task& t = s.tasks[q.curr];
    if (t.o.how != scheduling::round_robin || t.runtime - t.slice_began < round_robin_ns) return;
    t.slice_began = t.runtime;
    std::erase(q.real_time, q.curr);  // behind those of its priority
    const auto lower = std::ranges::find_if(q.real_time, [&](task_id id) { return s.tasks[id].o.priority < t.o.priority; });
    q.real_time.insert(lower, q.curr);
    must_choose(s, q);
}

}  // namespace cohort::coresched::detail
