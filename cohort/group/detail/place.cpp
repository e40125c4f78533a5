// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/place.hpp>

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace cohort::group::detail {
namespace {

/// So many CPUs of one core.
struct share {
    std::size_t core = 0;
    int cpus = 0;
};
using shares = std::vector<share>;

struct search {
    const std::vector<place_wish>& wishes;
    const std::vector<place_core>& cores;
    const std::function<bool(std::size_t, std::size_t)>& conflict;
    std::vector<int> left = {};                            // by core: CPUs not given out
    std::vector<std::vector<std::size_t>> tenants = {};    // by core
    std::vector<shares> now = {}, best = {};               // by wish
    place_cost cost = {}, best_cost = {};
    std::vector<std::size_t> order = {};                   // of wishes, hardest first
    std::size_t steps = 0;

    void begin();
    bool may_use(std::size_t wish, std::size_t core) const;
    int offers(std::size_t wish, std::size_t core) const { return may_use(wish, core) ? left[core] : 0; }
    void take(std::size_t wish, const shares& s);
    void give_back(std::size_t wish);
    place_cost cost_of(const shares& s) const;
    shares fit(std::size_t wish, std::vector<std::size_t> from, int count) const;
    shares greedy(std::size_t wish) const;
    place_cost bound(std::size_t from) const;
    void try_wish(std::size_t at);
    void try_cores(std::size_t at, const std::vector<std::size_t>& usable, std::size_t next, int missing, shares& taken);
    bool alike(std::size_t wish, std::size_t a, std::size_t b) const;
};

place_cost sum(place_cost a, const place_cost& b) { return {a.homeless + b.homeless, a.crossings + b.crossings, a.cores + b.cores}; }

void search::begin() {
    for (const place_core& c : cores) {
        left.push_back(static_cast<int>(c.cpus.size()));
        tenants.push_back(c.tenants);
    }
    now.resize(wishes.size());
    order.resize(wishes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::erase_if(order, [&](std::size_t w) { return wishes[w].count <= 0; });
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        const auto key = [&](std::size_t w) { return std::tuple(wishes[w].count, wishes[w].same_node, wishes[w].whole_cores); };
        return key(a) > key(b);
    });
}

bool search::may_use(std::size_t wish, std::size_t core) const {
    const std::vector<int>& nodes = wishes[wish].nodes;
    if (left[core] == 0 || (!nodes.empty() && std::find(nodes.begin(), nodes.end(), cores[core].node) == nodes.end())) return false;
    return std::none_of(tenants[core].begin(), tenants[core].end(), [&](std::size_t other) {
        return wishes[wish].whole_cores || wishes[other].whole_cores || conflict(wish, other);
    });
}

void search::take(std::size_t wish, const shares& s) {
    for (const share& one : s) {
        left[one.core] -= one.cpus;
        tenants[one.core].push_back(wish);
    }
    now[wish] = s;
    cost = sum(cost, cost_of(s));
}

void search::give_back(std::size_t wish) {
    const place_cost c = cost_of(now[wish]);
    cost = {cost.homeless - c.homeless, cost.crossings - c.crossings, cost.cores - c.cores};
    for (const share& one : now[wish]) {
        left[one.core] += one.cpus;
        tenants[one.core].pop_back();
    }
    now[wish].clear();
}

/// No shares: no place.
place_cost search::cost_of(const shares& s) const {
    if (s.empty()) return {.homeless = 1};
    std::vector<int> nodes;
    for (const share& one : s) nodes.push_back(cores[one.core].node);
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    return {.crossings = nodes.size() - 1, .cores = s.size()};
}

/// As many CPUs, at most `count`, as these cores have for it, of the fewest cores: the widest first, and at the end the narrowest that is wide enough.
shares search::fit(std::size_t wish, std::vector<std::size_t> from, int count) const {
    std::stable_sort(from.begin(), from.end(), [&](std::size_t a, std::size_t b) { return offers(wish, a) > offers(wish, b); });
    shares out;
    for (auto it = from.begin(); it != from.end() && count > 0 && offers(wish, *it) > 0;) {
        const auto narrower = std::upper_bound(it, from.end(), count, [&](int n, std::size_t core) { return offers(wish, core) < n; });  // the first that is too narrow
        if (narrower != it) it = std::find_if(it, narrower, [&](std::size_t core) { return offers(wish, core) == offers(wish, *(narrower - 1)); });
        const int width = offers(wish, *it);
        out.push_back({*it, wishes[wish].whole_cores ? width : std::min(width, count)});
        count -= width;
        ++it;
    }
    return out;
}

shares search::greedy(std::size_t wish) const {
    const int count = wishes[wish].count;
    std::map<int, std::vector<std::size_t>> by_node;
    std::map<int, int> room;
    for (std::size_t c = 0; c < cores.size(); ++c) {
        if (const int n = offers(wish, c); n > 0) by_node[cores[c].node].push_back(c), room[cores[c].node] += n;
    }
    // The node that is filled best; without one, the largest, and so on.
    shares out;
    int missing = count;
    while (missing > 0 && !room.empty()) {
        auto chosen = room.end();
        for (auto it = room.begin(); it != room.end(); ++it) {
            if (it->second >= missing && (chosen == room.end() || it->second < chosen->second)) chosen = it;
        }
        if (chosen == room.end()) {
            if (wishes[wish].same_node) return {};
            chosen = std::max_element(room.begin(), room.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
        }
        for (const share& s : fit(wish, by_node[chosen->first], missing)) {
            out.push_back(s);
            missing -= s.cpus;
        }
        room.erase(chosen);
    }
    return missing > 0 ? shares{} : out;
}

/// The least that the wishes from `from` on can cost, whatever the others do: each on an empty machine of its widest cores.
place_cost search::bound(std::size_t from) const {
    int widest = 1;
    for (const place_core& c : cores) widest = std::max(widest, static_cast<int>(c.cpus.size()));
    place_cost out;
    for (std::size_t i = from; i < order.size(); ++i) out.cores += static_cast<std::size_t>((wishes[order[i]].count + widest - 1) / widest);
    return out;
}

/// Taking from one or from the other makes no difference to anybody.
bool search::alike(std::size_t wish, std::size_t a, std::size_t b) const {
    return cores[a].node == cores[b].node && left[a] == left[b] && tenants[a] == tenants[b] && may_use(wish, a) == may_use(wish, b);
}

void search::try_wish(std::size_t at) {
    if (steps == 0) return;
    --steps;
    // With a place for all that are left it is not better; without one for some of them it is worse still: where this holds, the best has no more homeless ones than we have.
    if (sum(cost, bound(at)) >= best_cost) return;
    if (at == order.size()) {
        best = now;
        best_cost = cost;
        return;
    }
    const std::size_t wish = order[at];
    std::vector<std::size_t> usable;
    for (std::size_t c = 0; c < cores.size(); ++c) {
        if (may_use(wish, c)) usable.push_back(c);
    }
    shares taken;
    try_cores(at, usable, 0, wishes[wish].count, taken);
    // And without a place.
    cost.homeless += 1;
    try_wish(at + 1);
    cost.homeless -= 1;
}

void search::try_cores(std::size_t at, const std::vector<std::size_t>& usable, std::size_t next, int missing, shares& taken) {
    const std::size_t wish = order[at];
    if (missing <= 0) {
        take(wish, taken);
        try_wish(at + 1);
        give_back(wish);
        return;
    }
    for (std::size_t i = next; i < usable.size() && steps > 0; ++i) {
        const std::size_t core = usable[i];
        if (wishes[wish].same_node && !taken.empty() && cores[core].node != cores[taken.front().core].node) continue;
        // Of cores that are alike only the first that is not taken is tried.
        const bool passed_over = std::any_of(usable.begin() + static_cast<std::ptrdiff_t>(next), usable.begin() + static_cast<std::ptrdiff_t>(i), [&](std::size_t before) { return alike(wish, before, core); });
        if (passed_over) continue;
        const int most = wishes[wish].whole_cores ? left[core] : std::min(left[core], missing);
        for (int n = most; n >= (wishes[wish].whole_cores ? most : 1); --n) {
            taken.push_back({core, n});
            if (sum(cost, cost_of(taken)) < best_cost) try_cores(at, usable, i + 1, missing - n, taken);
            taken.pop_back();
            if (steps == 0) return;
            --steps;
        }
    }
}

}  // namespace

placement place(const std::vector<place_wish>& wishes, const std::vector<place_core>& cores, const std::function<bool(std::size_t, std::size_t)>& conflict, std::size_t steps) {
    search s{.wishes = wishes, .cores = cores, .conflict = conflict};
    s.begin();
    for (const std::size_t wish : s.order) s.take(wish, s.greedy(wish));
    s.best = s.now;
    s.best_cost = s.cost;
    placement out;
    if (const place_cost least = s.bound(0); least < s.best_cost) {
        for (auto it = s.order.rbegin(); it != s.order.rend(); ++it) s.give_back(*it);
        s.steps = steps;
        s.try_wish(0);
        out.exact = s.steps > 0;
    }
    // CPUs of a core are given out in its order, to the wishes in theirs.
    out.cost = s.best_cost;
    out.cpus.resize(wishes.size());
    std::vector<std::size_t> given(cores.size());
    for (std::size_t wish = 0; wish < wishes.size(); ++wish) {
        for (const share& one : s.best[wish]) {
            for (int n = 0; n < one.cpus; ++n) out.cpus[wish].set(cores[one.core].cpus[given[one.core]++]);
        }
    }
    return out;
}

}  // namespace cohort::group::detail
