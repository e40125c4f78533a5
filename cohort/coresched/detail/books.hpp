// SPDX-License-Identifier: Apache-2.0
/// What a room tells of its tasks, and what is made of it: the engine's own account of a core, and the proof that unequal cookies never ran together.
///
///     books b(2);                                           // two places
///     auto t = b.begin(0, web, tenant, now, false);
///     b.waits(1, db, now);                                  // place 1 is forced idle from here on
///     b.end(t, later);
///     b.ledger().cpus[1].figures.forced_idle_ns;
#pragma once

#include <cstdint>
#include <vector>

#include <cohort/base/histogram.hpp>
#include <cohort/coresched/detail/overlap.hpp>
#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {

/// Not thread-safe: the room's lock is held. Times are of one clock and never go back.
class books {
public:
    using ticket = std::uint32_t;

    explicit books(int places);

    /// A task runs. who: a number below those that know_tenants() was told. waited: waits() and comes() were told of it.
    ticket begin(int place, cookie tag, std::uint32_t who, std::uint64_t now, bool waited);
    void end(ticket t, std::uint64_t now);
    /// A task waits for its cookie's turn.
    void waits(int place, cookie tag, std::uint64_t now);
    /// It waits no more; it begins as soon as its thread has woken up.
    void comes(int place, cookie tag, std::uint64_t now);

    void know_tenants(std::size_t count) { state_.tasks.resize(std::max(state_.tasks.size(), count)); }
    void detect(bool on) { detect_ = on; }

    /// The account, up to now: cpus by place, tasks by tenant. A CPU is forced idle while nobody runs there, somebody waits there, and a sibling runs.
    const state& ledger(std::uint64_t now);
    overlap_detector::sums overlap(std::uint64_t now) const { return detector_.total(now); }
    std::uint64_t turns() const { return turns_; }
    /// Time in which nobody ran though somebody wanted to: between the last one out and the next one awake.
    std::uint64_t changing_ns() const { return changing_ns_; }
    /// Of each turn that others waited for: from the last one out to the first one in, in ns.
    const histogram& changes() const { return changes_; }
    std::uint64_t longest_wait_ns() const { return longest_wait_; }

private:
    struct run {
        int place = -1;
        cookie tag = no_cookie;
        std::uint32_t who = 0;
        overlap_detector::ticket proof = 0;
        bool used = false;
    };
    struct wait {
        int place;
        cookie tag;
        std::uint64_t since;
    };
    void settle(std::uint64_t now);
    void look_again();

    state state_;                  // of one core; its CPUs are the places
    std::vector<run> runs_;        // by ticket
    std::vector<wait> waiting_, coming_;
    overlap_detector detector_;
    bool detect_ = true;
    cookie last_ = no_cookie;
    bool any_ = false;             // somebody has run
    std::uint64_t empty_since_ = 0;  // when the last one went whom others waited for; 0: somebody runs, or nobody waits
    histogram changes_;
    std::uint64_t turns_ = 0, changing_ns_ = 0, longest_wait_ = 0;
};

}  // namespace cohort::coresched::detail
