// SPDX-License-Identifier: Apache-2.0
// Policy gang: a core is one cookie's for a slice, then another's, in proportion to the weights of their tasks on it. Kernel: none; Xen's sched-gran=core is alike.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

struct candidate {
    cookie tag;
    std::int64_t weight;
    task_id best;
};

/// Cookies with runnable fair tasks on the core.
std::vector<candidate> candidates_of(state& s, const core& c) {
    std::vector<candidate> out;
    for (const int cpu : c.cpus) {
        for (const task_id id : s.queue_of(cpu).tasks) {
            const task& t = s.tasks[id];
            if (!is_fair(t)) continue;
            auto it = std::ranges::find(out, t.o.tag, &candidate::tag);
            if (it == out.end()) it = out.insert(out.end(), {t.o.tag, 0, id});
            it->weight += t.o.weight;
            if (s.entities[t.self].vruntime < s.entities[s.tasks[it->best].self].vruntime) it->best = id;
        }
    }
    return out;
}

/// Whoever has the core is charged by its weight; whoever is new has had as much as the one that had least, whoever is gone is forgotten.
void settle_turns(state& s, core& c, cookie now, const std::vector<candidate>& all) {
    const auto passed = static_cast<std::int64_t>(s.now - std::exchange(c.turns_at, s.now));
    std::erase_if(c.turns, [&](const core_turn& t) { return std::ranges::find(all, t.tag, &candidate::tag) == all.end(); });
    const auto least = std::ranges::min_element(c.turns, {}, &core_turn::had);
    const std::int64_t start = least == c.turns.end() ? 0 : least->had;
    for (const candidate& x : all) {
        auto it = std::ranges::find(c.turns, x.tag, &core_turn::tag);
        if (it == c.turns.end()) c.turns.push_back({x.tag, start});
        else if (x.tag == now) it->had += passed * 1024 / x.weight;
    }
}

}  // namespace

task_id gang_choice(state& s, core& c, task_id best) {
    if (best == idle || !is_fair(s.tasks[best])) return best;
    const std::vector<candidate> all = candidates_of(s, c);
    settle_turns(s, c, c.turn, all);
    const auto of = [&](cookie tag) { return std::ranges::find(all, tag, &candidate::tag); };
    const bool goes_on = of(c.turn) != all.end() && s.now - c.turn_began < s.slice;
    const cookie next = goes_on ? c.turn : std::ranges::min_element(c.turns, {}, &core_turn::had)->tag;
    if (!goes_on) c.turn_began = s.now;
    c.turn = next;
    return of(next)->best;
}

task_id gang_member(state& s, const queue& q, cookie tag) {
    task_id best = idle;
    for (const task_id id : q.tasks) {
        if (s.tag_of(id) != tag) continue;
        if (best == idle || goes_before(s, id, best, true)) best = id;
    }
    return best;
}

}  // namespace cohort::coresched::detail
