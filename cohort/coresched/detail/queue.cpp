// SPDX-License-Identifier: Apache-2.0
// Tasks that become runnable, sleep, and move. Kernel: enqueue_task, dequeue_task, sched_core_enqueue, sched_core_find (v6.12).
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

/// Should what runs make way for t?
bool preempts(state& s, queue& q, task_id id) {
    if (q.curr == idle) return true;
    const task &now = s.tasks[q.curr], &then = s.tasks[id];
    if (is_fair(then)) return is_fair(now) && preempts_fair(s, q, then);
    if (is_fair(now)) return true;
    return goes_before(s, id, q.curr, false) && !(then.o.how == scheduling::deadline && now.o.how == scheduling::deadline && then.due == now.due);
}

/// Its place is what it is now; it is not looked at again while the task is queued, whatever runs meanwhile.
void insert_by_cookie(state& s, queue& q, task_id id) {
    const cookie tag = s.tag_of(id);
    if (tag == no_cookie && !s.o.rules.search_untagged) return;
    const bool forced = s.core_of(q).forced > 0;
    std::size_t low = 0, high = q.by_cookie.size();
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        const tagged& there = q.by_cookie[middle];
        if (tag != there.tag ? tag < there.tag : goes_before(s, id, there.id, forced)) high = middle;
        else low = middle + 1;
    }
    q.by_cookie.insert(q.by_cookie.begin() + static_cast<std::ptrdiff_t>(low), {tag, id});
}

void erase_by_cookie(state& s, queue& q, task_id id, cookie tag) {
    if (tag == no_cookie && !s.o.rules.search_untagged) return;
    auto at = std::ranges::lower_bound(q.by_cookie, tag, {}, &tagged::tag);
    while (at->id != id) ++at;
    q.by_cookie.erase(at);
}

void enlist(state& s, queue& q, task_id id) {
    task& t = s.tasks[id];
    t.place = static_cast<std::uint32_t>(q.tasks.size());
    q.tasks.push_back(id);
    if (t.o.how == scheduling::deadline) {
        renew_budget(s, t);
        q.deadline.push_back(id);
    } else if (is_real_time(t)) {
        const auto lower = std::ranges::find_if(q.real_time, [&](task_id other) { return s.tasks[other].o.priority < t.o.priority; });
        q.real_time.insert(lower, id);
    } else {
        enqueue_fair(s, q, t);
    }
}

}  // namespace

void enqueue(state& s, queue& q, task_id id) {
    task& t = s.tasks[id];
    update_curr(s, q);
    t.cpu = q.cpu;
    t.queued = true;
    enlist(s, q, id);
    ++s.core_of(q).task_seq;
    insert_by_cookie(s, q, id);
    note_free(s, q);
    if (preempts(s, q, id)) must_choose(s, q);
}

void dequeue(state& s, task_id id, bool sleeps) {
    task& t = s.tasks[id];
    queue& q = s.queue_of(t.cpu);
    account(s, s.core_of(q));
    update_curr(s, q);
    ++s.core_of(q).task_seq;
    erase_by_cookie(s, q, id, t.o.tag);
    if (is_fair(t)) dequeue_fair(s, q, t, sleeps);
    else std::erase(is_real_time(t) ? q.real_time : q.deadline, id);
    t.queued = false;
    s.tasks[q.tasks.back()].place = t.place;
    q.tasks[t.place] = q.tasks.back();
    q.tasks.pop_back();
    note_free(s, q);
    if (q.curr == id) must_choose(s, q);
    // The last one that was kept from running is gone: the core is not forced idle any more.
    else if (q.forced && q.runnable() == 0) must_choose(s, q);
}

void move(state& s, task_id id, queue& to) {
    dequeue(s, id, false);
    enqueue(s, to, id);
}

void retag(state& s, task_id id, cookie from) {
    queue& q = s.queue_of(s.tasks[id].cpu);
    ++s.core_of(q).task_seq;
    erase_by_cookie(s, q, id, from);
    insert_by_cookie(s, q, id);
    if (q.curr == id) must_choose(s, q);
}

task_id find(const queue& q, cookie tag) {
    const auto at = std::ranges::lower_bound(q.by_cookie, tag, {}, &tagged::tag);
    return at != q.by_cookie.end() && at->tag == tag ? at->id : idle;
}

void note_free(state& s, const queue& q) {
    if (q.online && q.curr == idle && q.tasks.empty()) s.free.set(q.cpu);
    else s.free.clear(q.cpu);
}

}  // namespace cohort::coresched::detail
