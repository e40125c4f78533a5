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

/// CPUs from the nearest on: siblings, the package, the rest; within each from the one after `cpu` on, wrapping.
const std::vector<int>& by_distance(state& s, int cpu) {
    s.near.resize(s.cpus.size());
    auto& out = s.near[static_cast<std::size_t>(cpu)];
    if (!out.empty()) return out;
    const int n = static_cast<int>(s.cpus.size());
    const auto ring = [&](int c) { return s.queue_of(c).core == s.queue_of(cpu).core ? 0 : s.domain[static_cast<std::size_t>(c)] == s.domain[static_cast<std::size_t>(cpu)] ? 1 : 2; };
    for (int k = 1; k < n; ++k) {
        if (s.possible.test((cpu + k) % n)) out.push_back((cpu + k) % n);
    }
    std::ranges::stable_sort(out, {}, ring);
    return out;
}

/// May it be taken from `from`, where it waits?
bool may_move(const state& s, const queue& from, const queue& to, task_id id) { return id != from.curr && !(from.picked && id == from.pick) && s.tasks[id].o.cpus.test(to.cpu); }

}  // namespace

int cpu_for(state& s, task_id id) {
    const task& t = s.tasks[id];
    const cpumask may = t.o.cpus & s.online;
    if (may.empty()) return s.online.first();  // nowhere to go: the last resort
    const queue& last = s.queue_of(t.cpu);
    if (may.test(t.cpu) && s.free.test(t.cpu) && matches(s, s.cores[last.core], t.o.tag)) return t.cpu;
    if (may.weight() > 1 && !(may & s.free).empty()) {
        for (const bool whole_core : {true, false}) {
            for (const int c : by_distance(s, t.cpu)) {
                if (!may.test(c) || !s.free.test(c)) continue;
                const core& there = s.cores[s.queue_of(c).core];
                if (whole_core ? core_is_idle(s, there) : matches(s, there, t.o.tag)) return c;
            }
        }
    }
    if (may.test(t.cpu)) return t.cpu;
    int best = may.first();
    for (const int c : may) {
        if (s.queue_of(c).runnable() < s.queue_of(best).runnable()) best = c;
    }
    return best;
}

void steal(state& s, queue& to) {
    const cookie tag = s.core_of(to).tag;
    if (tag == no_cookie && !s.o.rules.steal_untagged) return;
    for (const int from : by_distance(s, to.cpu)) {
        const queue& src = s.queue_of(from);
        for (auto at = std::ranges::lower_bound(src.by_cookie, tag, {}, &tagged::tag); at != src.by_cookie.end() && at->tag == tag; ++at) {
            // Not one that runs beside more siblings where it is.
            task& t = s.tasks[at->id];
            if (!may_move(s, src, to, at->id) || t.occupation > to.idle_occupation || t.stolen_at == s.now) continue;
            t.stolen_at = s.now;
            ++s.steals;
            move(s, at->id, to);
            must_choose(s, to);
            return;
        }
    }
}

void pull(state& s, queue& to) {
    const core& c = s.core_of(to);
    for (const int from : by_distance(s, to.cpu)) {
        const queue& src = s.queue_of(from);
        if (src.curr == idle || src.runnable() < 2) continue;
        for (const task_id id : src.tasks) {
            if (!may_move(s, src, to, id) || !matches(s, c, s.tag_of(id))) continue;
            move(s, id, to);
            return;
        }
    }
}

}  // namespace cohort::coresched::detail
