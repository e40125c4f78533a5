// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/detail/presence.hpp>

#include <algorithm>

#include <cohort/base/check.hpp>
#include <cohort/base/held.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::coresched {

namespace {
constexpr std::uint64_t look_again_ns = 10'000'000;  // the affinity of a thread may be changed from outside
}

presence& presence::here() {
    thread_local presence mine;
    return mine;
}

tenant* presence::runs_for(const executor& e) const { return inside() && &visits_.back().who->executor_ == &e ? visits_.back().who : nullptr; }

// ---- tasks

void presence::enter(tenant& t, int cpu) {
    // relaxed: a cookie that is changed meanwhile counts for this task or the next.
    const cookie tag = t.tag_.load(std::memory_order_relaxed);
    if (!visits_.empty()) {
        visit& v = visits_.back();
        if (v.depth == 0) {
            if (v.who == &t && v.tag == tag && !must_go() && sits_right()) {
                v.depth = 1;
                return;
            }
            go_out();
            visits_.pop_back();
        } else if (v.away == 0 && v.tag == tag && &v.who->executor_ == &t.executor_) {
            if (v.who == &t) {
                ++v.depth;
                return;
            }
            visits_.push_back({.who = &t, .tag = tag, .cpu = cpu, .rides = true});
            return;
        } else if (v.away++ == 0) {
            go_out();
        }
    }
    visits_.push_back({.who = &t, .tag = tag, .cpu = cpu, .stays = visits_.empty() && resident_of_ == &t});
    come_in(visits_.back());
}

void presence::leave(tenant& t) {
    COHORT_CHECK(inside() && visits_.back().who == &t, "a task leaves a gate that it did not enter last");
    visit& v = visits_.back();
    if (--v.depth > 0) return;
    if (v.stays && !must_go() && sits_right()) return;
    const bool rode = v.rides;
    if (!rode) go_out();
    visits_.pop_back();
    if (rode || visits_.empty()) return;
    visit& outer = visits_.back();
    if (--outer.away == 0) come_in(outer);
}

void presence::rest(tenant& t) {
    if (visits_.empty() || visits_.back().who != &t || visits_.back().depth > 0) return;
    go_out();
    visits_.pop_back();
}

void presence::attach(tenant& t, int cpu) {
    resident_of_ = &t;
    look(t.executor_.internals(), cpu, sys::real().now());
}

/// Inline, on a thread of somebody else's: only where it need not wait, and would block one core alone.
bool presence::may_run(tenant& t, int cpu) {
    executor::impl& e = t.executor_.internals();
    const cookie tag = t.tag_.load(std::memory_order_relaxed);
    if (inside()) return visits_.back().away == 0 && visits_.back().tag == tag && &visits_.back().who->executor_ == &t.executor_;
    look(e, cpu, sys::real().now());
    return reach_.empty() || (reach_.size() == 1 && reach_.front()->room.is_open_to(tag));
}

void presence::safepoint() {
    if (!inside() || visits_.back().away > 0 || visits_.back().rides || !must_go()) return;
    COHORT_CHECK(locks_held() == 0, "a task makes way at a safepoint while it holds a lock");
    go_out();
    visits_.back().tag = visits_.back().who->tag_.load(std::memory_order_relaxed);
    come_in(visits_.back());
}

void presence::go_away() {
    if (!inside()) return;
    COHORT_CHECK(locks_held() == 0, "a task gives its place up to wait while it holds a lock");
    // Who rides waits with all that carry it.
    for (auto v = visits_.rbegin(); v != visits_.rend(); ++v) {
        ++v->away;
        if (v->rides) continue;
        if (v->away == 1) go_out();
        return;
    }
}

void presence::come_back() {
    if (!inside()) return;
    for (auto v = visits_.rbegin(); v != visits_.rend(); ++v) {
        --v->away;
        if (v->rides) continue;
        if (v->away == 0) come_in(*v);
        return;
    }
}

// ---- rooms

/// The rooms of all CPUs that the thread may run on: one for a thread that is bound. Who could be anywhere has everything to itself.
void presence::look(executor::impl& e, int cpu, std::uint64_t now) {
    if (looked_for_ == e.number_ && looked_cpu_ == cpu && now - looked_at_ < look_again_ns && (!e.options_.real_cpus || sys::current_cpu() == cpu)) return;
    looked_for_ = e.number_;
    looked_cpu_ = cpu;
    looked_at_ = now;
    reach_.clear();
    if (!e.options_.real_cpus) {
        if (auto* at = e.seat_of(cpu).at) reach_.push_back(at);
        return;
    }
    const auto may = sys::real().sched_getaffinity(0);
    for (const auto& c : e.cores_) {
        if (!may || may->intersects(c->cpus)) reach_.push_back(c.get());
    }
}

void presence::come_in(visit& v) {
    COHORT_CHECK(locks_held() == 0, "a task that may have to wait for its turn begins while its thread holds a lock");
    executor::impl& e = of(v);
    look(e, v.cpu, sys::real().now());
    const auto seat = e.seat_of(e.options_.real_cpus ? sys::current_cpu() : v.cpu);
    const bool wide = reach_.size() > 1;
    if (wide) e.wide_.fetch_add(1, std::memory_order_relaxed);
    for (auto* c : reach_) {  // ascending: two that want several wait for each other in one direction
        const int place = !wide && seat.at == c ? seat.place : -1;
        entries_.push_back({c, place, c->room.enter(place, v.tag, static_cast<std::uint32_t>(v.who->id_ - 1))});
    }
}

void presence::go_out() {
    if (!sits_right()) {
        of(visits_.back()).astray_.fetch_add(1, std::memory_order_relaxed);
        looked_for_ = 0;
    }
    while (!entries_.empty()) {
        const entry en = entries_.back();
        entries_.pop_back();
        en.at->room.leave(en.place, en.ticket);
    }
}

/// Is the thread still on a core whose room it has entered?
bool presence::sits_right() const {
    const executor::impl& e = of(visits_.back());
    if (!e.options_.real_cpus) return true;
    const auto* at = e.seat_of(sys::current_cpu()).at;
    return !at || std::any_of(entries_.begin(), entries_.end(), [at](const entry& en) { return en.at == at; });
}

bool presence::must_go() const {
    return std::any_of(entries_.begin(), entries_.end(), [](const entry& en) { return en.at->room.must_go(); });
}

}  // namespace cohort::coresched
