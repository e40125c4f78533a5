// SPDX-License-Identifier: Apache-2.0
// The core-wide pick: one CPU chooses for all siblings. Kernel: pick_next_task, sched_core_find, prio_less (kernel/sched/core.c, v6.12).
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

void put_on(state& s, queue& q, task_id next) {
    account(s, s.core_of(q));
    q.must_choose = q.due = false;
    if (next != q.curr) {
        update_curr(s, q);
        if (q.curr != idle && is_fair(s.tasks[q.curr])) put_fair(s, s.tasks[q.curr]);
        q.curr = next;
        q.exec_since = s.now;
        if (next != idle) {
            task& t = s.tasks[next];
            ++t.switches;
            t.began_at = t.slice_began = t.runtime;
            if (is_fair(t)) set_fair(s, t);
        }
        note_free(s, q);
    }
    if (next != idle) q.forced = false;
}

/// Without cookies each CPU is for itself.
void choose_alone(state& s, queue& q) {
    const task_id next = pick_own(s, q);
    put_on(s, q, next);
    q.picked = q.forced = false;
    s.core_of(q).tag = s.core_wide() ? s.tag_of(next) : no_cookie;
}

void tell(state& s, const core& c, pick_step step) {
    for (const int cpu : c.cpus) {
        const queue& q = s.queue_of(cpu);
        if (!q.online) continue;
        const task_id first = step.followed ? idle : s.first[static_cast<std::size_t>(std::ranges::find(c.cpus, cpu) - c.cpus.begin())];
        step.siblings.push_back({cpu, first, step.followed ? q.curr : q.pick, q.forced});
    }
    step.at_ns = s.now;
    step.tag = c.tag;
    s.o.on_pick(step);
}

/// The first choice of each sibling, in s.first; the best of them, where nobody is better than the CPU that asks, which is first in turn.
task_id best_of_core(state& s, core& c, const queue& asks, bool in_forced_idle) {
    const std::size_t n = c.cpus.size();
    const auto at = static_cast<std::size_t>(std::ranges::find(c.cpus, asks.cpu) - c.cpus.begin());
    task_id best = idle;
    s.first.assign(n, idle);
    for (std::size_t k = 0; k < n; ++k) {
        const std::size_t i = (at + k) % n;
        queue& q = s.queue_of(c.cpus[i]);
        if (!q.online) continue;
        if (q.cpu != asks.cpu) update_curr(s, q);
        s.first[i] = pick_own(s, q);
        if (s.first[i] != idle && (best == idle || goes_before(s, s.first[i], best, in_forced_idle))) best = s.first[i];
    }
    return s.o.rules.whole_turns ? gang_choice(s, c, best) : best;
}

/// The queue's task of this cookie that is to run beside the best.
task_id member(state& s, const queue& q, cookie tag, bool was_forced) {
    if (s.o.rules.whole_turns) return gang_member(s, q, tag);
    if (!s.o.rules.fresh_means) return find(q, tag);
    task_id best = idle;
    for (auto at = std::ranges::lower_bound(q.by_cookie, tag, {}, &tagged::tag); at != q.by_cookie.end() && at->tag == tag; ++at) {
        if (best == idle || goes_before(s, at->id, best, was_forced)) best = at->id;
    }
    return best;
}

/// What each sibling runs beside the best.
void give_out(state& s, core& c, bool was_forced) {
    for (std::size_t i = 0; i < c.cpus.size(); ++i) {
        queue& q = s.queue_of(c.cpus[i]);
        if (!q.online) continue;
        q.pick = s.first[i];
        if (q.pick != idle && s.tag_of(q.pick) != c.tag) q.pick = member(s, q, c.tag, was_forced);
        q.picked = true;
        if (q.pick != idle) {
            ++c.occupied;
        } else if (q.runnable() > 0) {
            q.hindered = s.tag_of(s.first[i]);
            ++c.forced;
            if (!was_forced) ++c.forced_seq;
        }
    }
    c.pick_seq = c.task_seq;
}

void choose_core_wide(state& s, queue& asks) {
    core& c = s.core_of(asks);
    const bool was_forced = c.forced > 0;
    const bool together = c.tag != no_cookie || was_forced || s.o.rules.whole_turns;
    const cookie before = c.tag;
    account(s, c);
    c.tag = no_cookie;
    c.forced = c.occupied = 0;
    ++c.task_seq;
    if (!together) {
        const task_id own = pick_own(s, asks);
        if (s.tag_of(own) == no_cookie) {
            asks.picked = false;
            if (own != idle && is_fair(s.tasks[own])) refresh_base(s, c, s.tasks[own].self, false);
            put_on(s, asks, own);
            return;
        }
    }
    const task_id best = best_of_core(s, c, asks, was_forced);
    c.tag = s.tag_of(best);
    give_out(s, c, was_forced);
    for (const int cpu : c.cpus) {
        queue& q = s.queue_of(cpu);
        if (!q.online) continue;
        q.forced = q.pick == idle && q.runnable() > 0;
        if (q.pick == idle) q.idle_occupation = c.occupied;
        else s.tasks[q.pick].occupation = c.occupied;
        // While forced idleness continues the base stays: siblings are as one queue, and what a task was kept from counts.
        if (q.pick != idle && is_fair(s.tasks[q.pick]) && !(was_forced && c.forced > 0)) refresh_base(s, c, s.tasks[q.pick].self, c.forced > 0);
        if (q.cpu == asks.cpu) continue;
        if (q.curr == q.pick) q.picked = false;
        else must_choose(s, q);
    }
    asks.sched_seq = c.pick_seq;
    asks.picked = false;
    if (s.o.on_pick) tell(s, c, {.asks = asks.cpu, .before = before, .forced_before = was_forced, .best = best});
    put_on(s, asks, asks.pick);
}

}  // namespace

task_id pick_own(state& s, queue& q) {
    if (!q.deadline.empty()) return pick_deadline(s, q);
    return q.real_time.empty() ? pick_fair(s, q) : q.real_time.front();
}

bool goes_before(state& s, task_id a, task_id b, bool in_forced_idle) {
    const task &x = s.tasks[a], &y = s.tasks[b];
    const auto rank = [](const task& t) { return t.o.how == scheduling::deadline ? 0 : is_real_time(t) ? 1 : 2; };
    if (rank(x) != rank(y)) return rank(x) < rank(y);
    if (is_fair(x)) return fair_goes_before(s, x, y, in_forced_idle);
    return rank(x) == 0 ? x.due <= y.due : x.o.priority > y.o.priority;  // of equal deadlines the one asked last
}

void must_choose(state& s, queue& q) {
    if (q.must_choose || !q.online) return;
    q.must_choose = true;
    s.choosing.push_back(q.cpu);
}

void choose(state& s, queue& q) {
    ++s.picks;
    update_curr(s, q);
    if (!s.core_wide()) {
        choose_alone(s, q);
    } else {
        core& c = s.core_of(q);
        if (std::exchange(c.picked_at, s.now) != s.now) c.picks_now = 0;
        if (q.picked && c.pick_seq == c.task_seq && c.pick_seq != q.sched_seq) {
            q.sched_seq = c.pick_seq;
            q.picked = false;
            put_on(s, q, q.pick);
            if (s.o.on_pick) tell(s, c, {.asks = q.cpu, .followed = true});
        } else if (c.picks_now > 4 * c.cpus.size() && c.pick_seq == c.task_seq && q.curr == q.pick) {
            // Each pick moves the bases, so that siblings that have all been told to choose may answer each other for ever where no time passes: the last answer stands.
        } else {
            ++c.picks_now;
            choose_core_wide(s, q);
        }
    }
    q.must_choose = q.due = false;
    if (q.curr != idle) return;
    if (q.forced) steal(s, q);
    else if (q.runnable() == 0) pull(s, q);
}

}  // namespace cohort::coresched::detail
