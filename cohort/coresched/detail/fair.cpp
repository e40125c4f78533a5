// SPDX-License-Identifier: Apache-2.0
// The fair class on one CPU: tasks in groups in groups, each level a queue of its own. Kernel: kernel/sched/fair.c (v6.12, v6.1).
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

std::uint32_t up(const state& s, std::uint32_t e) { return s.fair[s.entities[e].in].owner; }

/// From e up: loads are averaged and groups weighed anew.
void reweigh(state& s, std::uint32_t e) {
    for (; e != none; e = up(s, e)) {
        update_load(s, e);
        update_group(s, e);
    }
}

/// It woke up before the others had caught up: no more than forgotten, and no gain.
void resume(state& s, std::uint32_t id) {
    entity& e = s.entities[id];
    fair_queue& f = s.fair[e.in];
    e.delayed = false;
    const std::int64_t lag = lag_of(s, f, e);
    if (lag <= 0) return;
    e.lag = 0;
    if (id != f.curr) out_of_tree(s, f, id);
    --f.count;
    place(s, f, id);
    ++f.count;
    if (id != f.curr) into_tree(s, f, id);
}

void join(state& s, std::uint32_t id) {
    fair_queue& f = s.fair[s.entities[id].in];
    update_load(s, id);
    update_group(s, id);
    place(s, f, id);
    entity& e = s.entities[id];
    ++f.count;
    f.load += e.weight;
    e.queued = true;
    into_tree(s, f, id);
    if (!s.eevdf()) update_least(s, f);
}

/// False: it stays, delayed.
bool part(state& s, std::uint32_t id, bool sleeps) {
    entity& e = s.entities[id];
    fair_queue& f = s.fair[e.in];
    update_load(s, id);
    if (s.eevdf() && sleeps && !e.delayed && !eligible(s, f, e.vruntime)) {
        e.delayed = true;
        return false;
    }
    e.lag = lag_of(s, f, e);
    if (std::exchange(e.delayed, false)) e.lag = std::min<std::int64_t>(e.lag, 0);
    if (id == f.curr) f.curr = none;
    else out_of_tree(s, f, id);
    if (!sleeps) {
        e.relative = true;
        if (s.eevdf()) e.deadline -= e.vruntime;
        else e.vruntime -= f.least;
    }
    e.queued = false;
    --f.count;
    f.load -= e.weight;
    if (!s.eevdf()) update_least(s, f);
    return true;
}

/// From e up: each level that becomes empty goes with it.
void leave(state& s, std::uint32_t e, bool sleeps) {
    while (e != none && part(s, e, sleeps)) {
        const bool rest = s.fair[s.entities[e].in].count > 0;
        e = up(s, e);
        if (rest) break;
        sleeps = true;
    }
    reweigh(s, e);
}

/// The ancestors of both that compete in the same group.
void meet(const state& s, std::uint32_t& a, std::uint32_t& b) {
    const auto group_of = [&](std::uint32_t e) { return s.fair[s.entities[e].in].group; };
    while (group_of(a) != group_of(b)) {
        const int da = s.groups[group_of(a)].depth, db = s.groups[group_of(b)].depth;
        if (da >= db) a = up(s, a);
        if (da <= db) b = up(s, b);
    }
}

/// 6.1: how long e may run among the others; the latency is shared by all, but nobody gets less than a slice.
std::int64_t turn_of(const state& s, std::uint32_t e) {
    const fair_queue& first = s.fair[s.entities[e].in];
    const std::size_t all = s.queue_of(first.cpu).tasks.size();
    auto turn = static_cast<std::int64_t>(s.slice * std::max<std::size_t>(8, all));
    for (; e != none; e = up(s, e)) turn = turn * plain(s.entities[e].weight) / std::max<std::int64_t>(1, plain(s.fair[s.entities[e].in].load));
    return std::max(turn, static_cast<std::int64_t>(s.slice));
}

/// 6.1: its turn is over, or it is far ahead of the one that waits longest.
bool turn_is_over(const state& s, const fair_queue& f, std::uint32_t id) {
    const entity& e = s.entities[id];
    const auto ran = static_cast<std::int64_t>(e.executed - e.began_at);
    const std::int64_t turn = std::min(turn_of(s, id), static_cast<std::int64_t>(8 * s.slice));
    if (ran > turn) return true;
    return ran >= static_cast<std::int64_t>(s.slice) && f.tree != none && e.vruntime - s.entities[tree_first(s.entities, f.tree)].vruntime > turn;
}

}  // namespace

std::uint32_t fair_queue_of(state& s, group_id g, int cpu) {
    auto& queues = s.groups[g].queues;
    queues.resize(s.cpus.size(), none);
    if (const std::uint32_t there = queues[static_cast<std::size_t>(cpu)]; there != none) return there;
    fair_queue f{.cpu = cpu, .group = g};
    f.averaged_at = f.told_at = s.now;
    const auto made = static_cast<std::uint32_t>(s.fair.size());
    queues[static_cast<std::size_t>(cpu)] = made;
    s.fair.push_back(f);
    if (g != 0) {
        const std::uint32_t above = fair_queue_of(s, s.groups[g].parent, cpu);
        entity e;
        e.in = above;
        e.own = made;
        e.weight = static_cast<std::int64_t>(s.groups[g].weight) << weight_shift;
        s.fair[made].owner = static_cast<std::uint32_t>(s.entities.size());
        s.entities.push_back(e);
    }
    return made;
}

void update_curr(state& s, queue& q) {
    const std::uint64_t passed = s.now - q.exec_since;
    q.exec_since = s.now;
    if (q.curr == idle || passed == 0 || !is_fair(s.tasks[q.curr])) return;
    for (std::uint32_t e = s.tasks[q.curr].self; e != none; e = up(s, e)) {
        if (!s.entities[e].queued) continue;
        fair_queue& f = s.fair[s.entities[e].in];
        const bool used_up = charge(s, f, e, static_cast<std::int64_t>(passed));
        if (f.count > 1 && (used_up || overdue(s, f))) must_choose(s, q);
    }
}

void enqueue_fair(state& s, queue& q, task& t) {
    if (s.entities[t.self].delayed) return resume(s, t.self);
    s.entities[t.self].in = fair_queue_of(s, t.o.group, q.cpu);
    std::uint32_t e = t.self;
    for (; e != none && !s.entities[e].queued; e = up(s, e)) join(s, e);
    if (e == none) return;
    if (s.entities[e].delayed) resume(s, e);
    reweigh(s, e);
}

void dequeue_fair(state& s, queue&, task& t, bool sleeps) { leave(s, t.self, sleeps); }

void end_delay(state& s, task& t) {
    if (s.entities[t.self].delayed) leave(s, t.self, true);
}

task_id pick_fair(state& s, queue& q) {
    std::uint32_t at = q.root;
    while (s.fair[at].count > 0) {
        const std::uint32_t e = pick_entity(s, s.fair[at]);
        if (s.entities[e].delayed) {
            leave(s, e, true);
            at = q.root;
            continue;
        }
        if (s.entities[e].own == none) return s.entities[e].task;
        at = s.entities[e].own;
    }
    return idle;
}

void put_fair(state& s, task& t) {
    for (std::uint32_t e = t.self; e != none; e = up(s, e)) {
        fair_queue& f = s.fair[s.entities[e].in];
        if (f.curr != e) continue;
        f.curr = none;
        if (s.entities[e].queued) into_tree(s, f, e);
    }
}

void set_fair(state& s, task& t) {
    for (std::uint32_t id = t.self; id != none; id = up(s, id)) {
        entity& e = s.entities[id];
        fair_queue& f = s.fair[e.in];
        out_of_tree(s, f, id);
        update_load(s, id);
        f.curr = id;
        e.lag = e.deadline;  // from here on it is preempted only when its slice is used up
        e.began_at = e.executed;
    }
}

bool preempts_fair(state& s, queue& q, const task& t) {
    std::uint32_t now = s.tasks[q.curr].self, then = t.self;
    if (now == then || !s.entities[now].queued) return true;
    meet(s, now, then);
    if (s.eevdf()) return pick_entity(s, s.fair[s.entities[then].in]) == then;
    const entity& e = s.entities[then];
    return s.entities[now].vruntime - e.vruntime > virtual_of(static_cast<std::int64_t>(s.slice * 4 / 3), e);
}

void tick_fair(state& s, queue& q) {
    const std::uint32_t self = s.tasks[q.curr].self;
    reweigh(s, self);
    if (!s.eevdf()) {
        for (std::uint32_t e = self; e != none; e = up(s, e)) {
            const fair_queue& f = s.fair[s.entities[e].in];
            if (f.count > 1 && turn_is_over(s, f, e)) must_choose(s, q);
        }
    }
    // A sibling that is forced idle gets its turn after half a slice where this CPU has nobody else to turn to.
    const entity& e = s.entities[self];
    const auto slice = s.eevdf() ? static_cast<std::int64_t>(s.slice) : turn_of(s, self);
    if (s.core_of(q).forced > 0 && s.fair[q.root].count == 1 && 2 * static_cast<std::int64_t>(e.executed - e.began_at) > slice) must_choose(s, q);
}

void refresh_base(state& s, const core& c, std::uint32_t e, bool in_forced_idle) {
    for (; e != none; e = up(s, e)) {
        fair_queue& f = s.fair[s.entities[e].in];
        if (in_forced_idle) {
            if (f.base_seq == c.forced_seq) return;
            f.base_seq = c.forced_seq;
        }
        f.base = !s.eevdf() ? f.least : s.o.rules.fresh_means ? mean(s, f) : f.zero;
    }
}

bool fair_goes_before(state& s, const task& a, const task& b, bool in_forced_idle) {
    std::uint32_t x = a.self, y = b.self;
    meet(s, x, y);
    const core& c = s.core_of(s.queue_of(a.cpu));
    refresh_base(s, c, x, in_forced_idle);
    refresh_base(s, c, y, in_forced_idle);
    return s.entities[x].vruntime - s.fair[s.entities[x].in].base < s.entities[y].vruntime - s.fair[s.entities[y].in].base;
}

}  // namespace cohort::coresched::detail
