// SPDX-License-Identifier: Apache-2.0
// The core-wide pick: one CPU chooses for all siblings. Kernel: pick_next_task, sched_core_find, prio_less (kernel/sched/core.c), cfs_prio_less (fair.c), v6.12.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

/// The base that vruntimes are compared by. While siblings are forced idle they are as one queue: the base stays, and what a task was kept from counts.
void refresh_base(const core& c, queue& q, bool in_forced_idle) {
    if (in_forced_idle) {
        if (q.base_seq == c.forced_seq) return;
        q.base_seq = c.forced_seq;
    }
    q.base = q.min_vruntime;
}

/// The best task of the queue with this cookie.
task_id find(state& s, queue& q, cookie tag, bool in_forced_idle) {
    task_id best = idle;
    for (const auto* list : {&q.real_time, &q.fair}) {
        for (const task_id id : *list) {
            if (s.tasks[id].o.tag == tag && (best == idle || goes_before(s, id, best, in_forced_idle))) best = id;
        }
    }
    return best;
}

void put_on(state& s, queue& q, task_id next) {
    account(s, s.core_of(q));
    q.must_choose = false;
    if (next != q.curr) {
        update_curr(s, q);
        q.curr = next;
        q.exec_since = s.now;
        if (next != idle) {
            task& t = s.tasks[next];
            ++t.switches;
            t.began_at = t.slice_began = t.runtime;
            if (is_fair(t)) t.lag = t.deadline;  // from here on it is preempted only when its slice is used up
        }
    }
    if (next != idle) q.forced = false;
}

/// Without cookies each CPU is for itself.
void choose_alone(state& s, queue& q) {
    core& c = s.core_of(q);
    const task_id next = pick_own(s, q);
    put_on(s, q, next);
    q.picked = q.forced = false;
    c.tag = s.core_wide() ? s.tag_of(next) : no_cookie;
}

/// The first choice of each sibling; the best of them, where nobody is better than the CPU that asks, which is first in turn.
task_id best_of_core(state& s, core& c, const queue& asks, bool in_forced_idle, std::vector<task_id>& first) {
    const std::size_t n = c.cpus.size();
    const std::size_t at = static_cast<std::size_t>(std::ranges::find(c.cpus, asks.cpu) - c.cpus.begin());
    task_id best = idle;
    first.assign(n, idle);
    for (std::size_t k = 0; k < n; ++k) {
        const std::size_t i = (at + k) % n;
        queue& q = s.queue_of(c.cpus[i]);
        if (!q.online) continue;
        if (q.cpu != asks.cpu) update_curr(s, q);
        first[i] = pick_own(s, q);
        if (first[i] != idle && (best == idle || goes_before(s, first[i], best, in_forced_idle))) best = first[i];
    }
    return best;
}

void choose_core_wide(state& s, queue& asks) {
    core& c = s.core_of(asks);
    const bool was_forced = c.forced > 0;
    bool together = c.tag != no_cookie || was_forced;
    account(s, c);
    c.tag = no_cookie;
    c.forced = c.occupied = 0;
    ++c.task_seq;
    if (!together) {
        const task_id own = pick_own(s, asks);
        if (s.tag_of(own) == no_cookie) {
            asks.picked = false;
            if (own != idle && is_fair(s.tasks[own])) refresh_base(c, asks, false);
            put_on(s, asks, own);
            return;
        }
    }
    static thread_local std::vector<task_id> first;
    const task_id best = best_of_core(s, c, asks, was_forced, first);
    c.tag = s.tag_of(best);
    for (std::size_t i = 0; i < c.cpus.size(); ++i) {
        queue& q = s.queue_of(c.cpus[i]);
        if (!q.online) continue;
        q.pick = first[i];
        const bool may_search = c.tag != no_cookie || s.o.rules.search_untagged;
        if (q.pick != idle && s.tag_of(q.pick) != c.tag) q.pick = may_search ? find(s, q, c.tag, was_forced) : idle;
        q.picked = true;
        if (q.pick != idle) {
            ++c.occupied;
        } else if (q.runnable() > 0) {
            q.hindered = s.tag_of(first[i]);
            if (c.forced++ == 0 && !was_forced) ++c.forced_seq;
        }
    }
    c.pick_seq = c.task_seq;
    for (std::size_t i = 0; i < c.cpus.size(); ++i) {
        queue& q = s.queue_of(c.cpus[i]);
        if (!q.online) continue;
        q.forced = q.pick == idle && q.runnable() > 0;
        if (q.pick == idle) q.idle_occupation = c.occupied;
        else s.tasks[q.pick].occupation = c.occupied;
        if (q.pick != idle && is_fair(s.tasks[q.pick])) refresh_base(c, q, c.forced > 0);
        if (q.cpu != asks.cpu && q.curr != q.pick) must_choose(s, q);
    }
    asks.sched_seq = c.pick_seq;
    asks.picked = false;
    put_on(s, asks, asks.pick);
}

}  // namespace

task_id pick_own(state& s, queue& q) {
    ++s.picks;
    task_id best = idle;
    for (const task_id id : q.real_time) {
        if (best == idle || s.tasks[id].o.priority > s.tasks[best].o.priority) best = id;
    }
    return best != idle ? best : pick_fair(s, q);
}

bool goes_before(state& s, task_id a, task_id b, bool in_forced_idle) {
    const task &x = s.tasks[a], &y = s.tasks[b];
    if (is_fair(x) != is_fair(y)) return is_fair(y);
    if (!is_fair(x)) return x.o.priority > y.o.priority;
    queue &qx = s.queue_of(x.cpu), &qy = s.queue_of(y.cpu);
    if (&qx == &qy) return x.vruntime < y.vruntime;
    const core& c = s.core_of(qx);
    refresh_base(c, qx, in_forced_idle);
    refresh_base(c, qy, in_forced_idle);
    return x.vruntime - qx.base < y.vruntime - qy.base;
}

void must_choose(state& s, queue& q) {
    if (q.must_choose || !q.online) return;
    q.must_choose = true;
    s.choosing.push_back(q.cpu);
}

void choose(state& s, queue& q) {
    update_curr(s, q);
    if (!s.core_wide()) {
        choose_alone(s, q);
    } else {
        const core& c = s.core_of(q);
        if (q.picked && c.pick_seq == c.task_seq && c.pick_seq != q.sched_seq) {
            q.sched_seq = c.pick_seq;
            q.picked = false;
            put_on(s, q, q.pick);
        } else {
            choose_core_wide(s, q);
        }
    }
    q.must_choose = false;
    if (q.curr != idle) return;
    if (q.forced) steal(s, q);
    else if (q.runnable() == 0) pull(s, q);
}

}  // namespace cohort::coresched::detail
