// SPDX-License-Identifier: Apache-2.0
// Where tasks go: at wake-up, by stealing for a forced-idle CPU, and to a CPU that has nothing to do.
// Kernel: select_idle_sibling, sched_core_cookie_match, try_steal_cookie, sched_balance_newidle (v6.12), the last in its simplest form: by number of tasks.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

bool core_is_idle(const state& s, const core& c) {
    return std::ranges::all_of(c.cpus, [&](int cpu) { return s.queue_of(cpu).curr == idle; });
}

/// May a task with this cookie run on the core now, beside what runs there?
bool matches(const state& s, const core& c, cookie tag) { return !s.core_wide() || core_is_idle(s, c) || c.tag == tag; }

bool is_free(const queue& q) { return q.online && q.curr == idle && q.runnable() == 0; }

/// CPUs from the nearest on: siblings, the package, the rest; within each from the one after `cpu` on, wrapping.
template <class Visit>
void by_distance(const state& s, int cpu, Visit visit) {
    const int n = static_cast<int>(s.cpus.size());
    const auto domain = [&](int c) { return s.domain[static_cast<std::size_t>(c)]; };
    for (int ring = 0; ring < 3; ++ring) {
        for (int k = 1; k < n; ++k) {
            const int c = (cpu + k) % n;
            if (!s.possible.test(c) || !s.queue_of(c).online) continue;
            const bool sibling = s.queue_of(c).core == s.queue_of(cpu).core, near = domain(c) == domain(cpu);
            if (ring != (sibling ? 0 : near ? 1 : 2)) continue;
            if (visit(c)) return;
        }
    }
}

}  // namespace

int cpu_for(const state& s, task_id id) {
    const task& t = s.tasks[id];
    const cpumask may = t.o.cpus & s.online;
    if (may.empty()) return s.online.first();  // nowhere to go: the last resort
    const queue& last = s.queue_of(t.cpu);
    if (may.test(t.cpu) && is_free(last) && matches(s, s.cores[last.core], t.o.tag)) return t.cpu;
    int best = -1;
    if (may.weight() > 1) {
        for (const bool whole_core : {true, false}) {
            by_distance(s, t.cpu, [&](int c) {
                const core& there = s.cores[s.queue_of(c).core];
                if (!may.test(c) || !is_free(s.queue_of(c)) || !(whole_core ? core_is_idle(s, there) : matches(s, there, t.o.tag))) return false;
                best = c;
                return true;
            });
            if (best >= 0) return best;
        }
    }
    if (may.test(t.cpu)) return t.cpu;
    best = may.first();
    for (const int c : may) {
        if (s.queue_of(c).runnable() < s.queue_of(best).runnable()) best = c;
    }
    return best;
}

void steal(state& s, queue& to) {
    const core& c = s.core_of(to);
    const cookie tag = c.tag;
    if (tag == no_cookie && !s.o.rules.steal_untagged) return;
    by_distance(s, to.cpu, [&](int from) {
        const queue& src = s.queue_of(from);
        task_id best = idle;
        for (const auto* list : {&src.real_time, &src.fair}) {
            for (const task_id id : *list) {
                const task& t = s.tasks[id];
                if (t.o.tag != tag || id == src.curr || (src.picked && id == src.pick) || !t.o.cpus.test(to.cpu)) continue;
                if (t.occupation > to.idle_occupation) continue;  // it runs beside more siblings where it is
                if (best == idle || goes_before(s, id, best, false)) best = id;
            }
        }
        if (best == idle) return false;
        ++s.steals;
        move(s, best, to);
        must_choose(s, to);
        return true;
    });
}

void pull(state& s, queue& to) {
    const core& c = s.core_of(to);
    by_distance(s, to.cpu, [&](int from) {
        const queue& src = s.queue_of(from);
        if (src.curr == idle || src.runnable() < 2) return false;
        for (const auto* list : {&src.real_time, &src.fair}) {
            for (const task_id id : *list) {
                const task& t = s.tasks[id];
                if (id == src.curr || (src.picked && id == src.pick) || !t.o.cpus.test(to.cpu) || !matches(s, c, t.o.tag)) continue;
                move(s, id, to);
                return true;
            }
        }
        return false;
    });
}

}  // namespace cohort::coresched::detail
