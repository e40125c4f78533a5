// SPDX-License-Identifier: Apache-2.0
// Tasks that become runnable, sleep, and move.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

/// Should what runs make way for t?
bool preempts(state& s, queue& q, task_id t) {
    if (q.curr == idle) return true;
    const task &now = s.tasks[q.curr], &then = s.tasks[t];
    if (is_fair(then)) return is_fair(now) && pick_fair(s, q) == t;
    return is_fair(now) || then.o.priority > now.o.priority;
}

}  // namespace

void enqueue(state& s, queue& q, task_id id) {
    task& t = s.tasks[id];
    update_curr(s, q);
    t.cpu = q.cpu;
    t.queued = true;
    if (is_fair(t)) {
        place(s, q, t);
        q.fair.push_back(id);
    } else {
        q.real_time.push_back(id);
    }
    ++s.core_of(q).task_seq;
    if (preempts(s, q, id)) must_choose(s, q);
}

void dequeue(state& s, task_id id) {
    task& t = s.tasks[id];
    queue& q = s.queue_of(t.cpu);
    account(s, s.core_of(q));
    update_curr(s, q);
    if (is_fair(t)) remember_lag(s, q, t);
    std::erase(is_fair(t) ? q.fair : q.real_time, id);
    t.queued = false;
    ++s.core_of(q).task_seq;
    update_min_vruntime(s, q);
    if (q.curr == id) must_choose(s, q);
    // The last one that was kept from running is gone: the core is not forced idle any more.
    else if (q.forced && q.runnable() == 0) must_choose(s, q);
}

void move(state& s, task_id id, queue& to) {
    dequeue(s, id);
    enqueue(s, to, id);
}

}  // namespace cohort::coresched::detail
