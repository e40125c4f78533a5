// SPDX-License-Identifier: Apache-2.0
// The fair class: earliest eligible virtual deadline first. Kernel: kernel/sched/fair.c (v6.12); Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

constexpr std::int64_t unit_weight = 1024;

/// Real time as the task's virtual time.
std::int64_t virtual_of(std::int64_t ns, const task& t) { return ns * unit_weight / t.o.weight; }

/// The weighted mean of the queue's vruntimes, as a sum over the distances from min_vruntime and the sum of weights.
struct mean {
    std::int64_t sum = 0, weight = 0;
};

mean mean_of(const state& s, const queue& q) {
    mean m;
    for (const task_id id : q.fair) {
        const task& t = s.tasks[id];
        m.sum += (t.vruntime - q.min_vruntime) * t.o.weight;
        m.weight += t.o.weight;
    }
    return m;
}

std::int64_t value(const queue& q, const mean& m) {
    if (m.weight == 0) return q.min_vruntime;
    std::int64_t d = m.sum / m.weight;
    if (m.sum < 0 && m.sum % m.weight) --d;  // towards minus infinity, so that the least one is eligible
    return q.min_vruntime + d;
}

/// It has had no more than its share: its vruntime is not above the mean.
bool eligible(const queue& q, const mean& m, const task& t) { return m.sum >= (t.vruntime - q.min_vruntime) * m.weight; }

}  // namespace

void update_curr(state& s, queue& q) {
    const std::uint64_t passed = s.now - q.exec_since;
    q.exec_since = s.now;
    if (q.curr == idle || passed == 0) return;
    task& t = s.tasks[q.curr];
    if (!is_fair(t) || !t.queued) return;
    t.vruntime += virtual_of(static_cast<std::int64_t>(passed), t);
    if (t.vruntime >= t.deadline) {
        t.deadline = t.vruntime + virtual_of(static_cast<std::int64_t>(s.slice), t);
        if (q.runnable() > 1) must_choose(s, q);
    }
    update_min_vruntime(s, q);
}

void update_min_vruntime(state& s, queue& q) {
    if (q.fair.empty()) return;
    std::int64_t least = s.tasks[q.fair.front()].vruntime;
    for (const task_id id : q.fair) least = std::min(least, s.tasks[id].vruntime);
    q.min_vruntime = std::max(q.min_vruntime, least);
}

void place(state& s, queue& q, task& t) {
    const mean m = mean_of(s, q);
    std::int64_t lag = t.placed ? t.lag : 0;
    // Joining moves the mean towards the newcomer: it is placed so much farther that it has its lag afterwards.
    if (m.weight > 0) lag = lag * (m.weight + t.o.weight) / m.weight;
    else lag = 0;
    t.vruntime = value(q, m) - lag;
    std::int64_t slice = virtual_of(static_cast<std::int64_t>(s.slice), t);
    if (!t.placed) slice /= 2;  // a newborn begins in the middle of its slice
    t.deadline = t.vruntime + slice;
    t.placed = true;
}

void remember_lag(state& s, queue& q, task& t) {
    const std::int64_t limit = virtual_of(static_cast<std::int64_t>(std::max(2 * s.slice, s.o.tick_ns)), t);
    t.lag = std::clamp(value(q, mean_of(s, q)) - t.vruntime, -limit, limit);
}

task_id pick_fair(const state& s, const queue& q) {
    const mean m = mean_of(s, q);
    task_id curr = idle;
    if (q.curr != idle && s.tasks[q.curr].queued && is_fair(s.tasks[q.curr]) && eligible(q, m, s.tasks[q.curr])) {
        curr = q.curr;
        if (s.tasks[curr].lag == s.tasks[curr].deadline) return curr;  // its slice is not used up yet
    }
    task_id best = idle;
    for (const task_id id : q.fair) {
        if (id == q.curr || !eligible(q, m, s.tasks[id])) continue;
        if (best == idle || s.tasks[id].deadline < s.tasks[best].deadline) best = id;
    }
    if (curr != idle && (best == idle || s.tasks[curr].deadline < s.tasks[best].deadline)) best = curr;
    return best;
}

}  // namespace cohort::coresched::detail
