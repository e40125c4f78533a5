// SPDX-License-Identifier: Apache-2.0
// One level of the fair class: earliest eligible virtual deadline first (6.12), or least virtual runtime first (6.1).
// Kernel: kernel/sched/fair.c; Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995.
#include <algorithm>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {

std::int64_t mean(state& s, fair_queue& f) {
    std::int64_t sum = f.sum, weight = f.weight;
    if (f.curr != none) {
        const entity& c = s.entities[f.curr];
        // Of one alone the mean is its own, whatever rounding says.
        if (weight == 0) {
            f.zero = c.vruntime;
            return f.zero;
        }
        sum += (c.vruntime - f.zero) * plain(c.weight);
        weight += plain(c.weight);
    }
    if (weight == 0) return f.zero;
    if (sum < 0) sum -= weight - 1;  // towards minus infinity: the least one is eligible
    const std::int64_t moved = sum / weight;
    f.sum -= f.weight * moved;
    f.zero += moved;
    return f.zero;
}

bool eligible(const state& s, const fair_queue& f, std::int64_t vruntime) {
    std::int64_t sum = f.sum, weight = f.weight;
    if (f.curr != none) {
        const entity& c = s.entities[f.curr];
        sum += (c.vruntime - f.zero) * plain(c.weight);
        weight += plain(c.weight);
    }
    return sum >= (vruntime - f.zero) * weight;
}

void into_tree(state& s, fair_queue& f, std::uint32_t id) {
    entity& e = s.entities[id];
    f.sum += (e.vruntime - f.zero) * plain(e.weight);
    f.weight += plain(e.weight);
    e.links.key = s.eevdf() ? e.deadline : e.vruntime;
    e.links.stamp = ++s.stamp;
    f.tree = tree_insert(s.entities, f.tree, id);
}

void out_of_tree(state& s, fair_queue& f, std::uint32_t id) {
    const entity& e = s.entities[id];
    f.tree = tree_erase(s.entities, f.tree, id);
    f.sum -= (e.vruntime - f.zero) * plain(e.weight);
    f.weight -= plain(e.weight);
}

/// No more than two slices, or a tick.
std::int64_t lag_of(state& s, fair_queue& f, const entity& e) {
    const std::int64_t limit = virtual_of(static_cast<std::int64_t>(std::max(2 * s.slice, s.o.tick_ns)), e);
    return std::clamp(mean(s, f) - e.vruntime, -limit, limit);
}

namespace {

void place_by_lag(state& s, fair_queue& f, entity& e) {
    const std::int64_t middle = mean(s, f);
    std::int64_t lag = 0;
    if (f.count > 0) {
        const std::int64_t others = f.weight + (f.curr != none ? plain(s.entities[f.curr].weight) : 0);
        // Joining moves the mean towards the newcomer: it is placed so much farther that it has its lag afterwards.
        lag = e.lag * (others + plain(e.weight)) / std::max<std::int64_t>(1, others);
    }
    e.vruntime = middle - lag;
    if (std::exchange(e.relative, false)) {
        e.deadline += e.vruntime;
        return;
    }
    std::int64_t slice = virtual_of(static_cast<std::int64_t>(s.slice), e);
    if (!e.placed && e.task != idle) slice /= 2;  // a newborn begins in the middle of its slice
    e.deadline = e.vruntime + slice;
}

/// Sleepers get half a scheduling period of credit at most; newborns begin a slice later.
void place_by_vruntime(state& s, fair_queue& f, entity& e) {
    if (std::exchange(e.relative, false)) {
        e.vruntime += f.least;
        return;
    }
    std::int64_t v = f.least;
    if (e.placed || e.task == idle) v -= static_cast<std::int64_t>(4 * s.slice);
    else v += virtual_of(static_cast<std::int64_t>(std::max(s.slice, 8 * s.slice / (f.count + 1))), e);
    e.vruntime = e.placed ? std::max(e.vruntime, v) : v;
}

std::uint32_t pick_by_deadline(state& s, fair_queue& f) {
    if (f.count == 1) return f.curr != none ? f.curr : f.tree;
    std::uint32_t curr = f.curr;
    if (curr != none && !eligible(s, f, s.entities[curr].vruntime)) curr = none;
    if (curr != none && s.entities[curr].lag == s.entities[curr].deadline) return curr;  // its slice is not used up yet
    std::uint32_t best = none;
    for (std::uint32_t at = f.tree; at != none;) {
        const tree_links& links = s.entities[at].links;
        if (links.left != none && eligible(s, f, s.entities[links.left].links.least)) {
            at = links.left;
        } else if (eligible(s, f, s.entities[at].vruntime)) {
            best = at;
            break;
        } else {
            at = links.right;
        }
    }
    if (best == none || (curr != none && s.entities[curr].deadline < s.entities[best].deadline)) best = curr;
    // What was alone eligible may have become so by rounding only.
    return best != none ? best : f.curr != none ? f.curr : tree_first(s.entities, f.tree);
}

}  // namespace

void place(state& s, fair_queue& f, std::uint32_t id) {
    entity& e = s.entities[id];
    s.eevdf() ? place_by_lag(s, f, e) : place_by_vruntime(s, f, e);
    e.placed = true;
}

std::uint32_t pick_entity(state& s, fair_queue& f) {
    if (s.eevdf()) return pick_by_deadline(s, f);
    if (f.tree == none) return f.curr;
    const std::uint32_t left = tree_first(s.entities, f.tree);
    return f.curr != none && s.entities[f.curr].vruntime < s.entities[left].vruntime ? f.curr : left;
}

bool charge(state& s, fair_queue& f, std::uint32_t id, std::int64_t ns) {
    entity& e = s.entities[id];
    e.executed += static_cast<std::uint64_t>(ns);
    e.vruntime += virtual_of(ns, e);
    if (!s.eevdf()) {
        update_least(s, f);
        return false;
    }
    if (e.vruntime < e.deadline) return false;
    e.deadline = e.vruntime + virtual_of(static_cast<std::int64_t>(s.slice), e);
    mean(s, f);
    return true;
}

bool overdue(const state& s, const fair_queue& f) {
    if (!s.eevdf() || f.curr == none) return false;
    const entity& e = s.entities[f.curr];
    return e.lag != e.deadline && !eligible(s, f, e.vruntime);
}

/// What it is owed stays what it is, as time; what is left of its slice too.
void set_weight(state& s, std::uint32_t id, std::int64_t weight) {
    entity& e = s.entities[id];
    if (e.weight == weight) return;
    s.fair[e.in].average += e.active * static_cast<double>(plain(weight) - plain(e.weight));
    if (!e.queued) {
        e.lag = e.lag * e.weight / weight;
        e.weight = weight;
        return;
    }
    fair_queue& f = s.fair[e.in];
    const std::int64_t middle = mean(s, f), lag = lag_of(s, f, e);
    if (id != f.curr) out_of_tree(s, f, id);
    if (s.eevdf()) {
        if (middle != e.vruntime) e.vruntime = middle - lag * e.weight / weight;
        e.deadline = middle + (e.deadline - middle) * e.weight / weight;
    }
    f.load += weight - e.weight;
    e.weight = weight;
    if (id != f.curr) into_tree(s, f, id);
}

void update_least(state& s, fair_queue& f) {
    if (f.count == 0) return;
    std::int64_t least = f.curr != none ? s.entities[f.curr].vruntime : INT64_MAX;
    if (f.tree != none) least = std::min(least, s.entities[f.tree].links.least);
    f.least = std::max(f.least, least);
}

}  // namespace cohort::coresched::detail
