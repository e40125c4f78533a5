// SPDX-License-Identifier: Apache-2.0
/// Runs of units in small (README.md, steps 6 and 7, and their recovery): a few units, areas, superblocks of two classes of two blocks and one.
///
/// The first unit's state is the truth of a run; a later one is claimed(somebody, distance). `run_fault` leaves a rule out or moves it. What users know (which
/// unit is in use) is kept beside, in no step.
#pragma once

#include <array>
#include <string>

#include <cohort/base/testing/interleave.hpp>
#include <cohort/sharepool/testing/member_model.hpp>

namespace cohort::sharepool::testing {

enum class run_fault {
    none,
    top_raised_after_the_claim,
    claims_by_a_store,
    abandons_from_the_first,
    publishes_before_the_pages,
    finishes_without_taking_over,
    finishes_in_the_name_of_the_dead,
    finishes_with_all_pages_at_once,
    finishes_units_of_others,
    finishes_the_first_unit_first,
    leaves_claims_of_the_dead,
    leaves_pages_of_the_dead,
    area_freed_by_a_store,
    area_freed_whoever_has_it_now,
    retires_without_taking,
    retires_without_a_look,
    retires_with_the_tags_of_old,
    leaves_retirings_of_the_dead,
};

class run_model {
public:
    static constexpr int units = 3, blocks = 2;

    run_model(interleave::run& x, run_fault f) : m(x), fault_(f) {
        x.at_end([this] { return account(); });
    }

    machine m;

    // ---- how it stands at first

    /// A superblock of class 0 at `unit`, all its blocks linked; the last one has the tag that `stale` left.
    void has_superblock(int unit, owner_of stale) {
        top_ = unit + 1;
        states_[at(unit)] = {kind::small, nobody, 0};
        in_use_[at(unit)] = everybody;
        pages_[at(unit)] = true;
        cards_[at(unit)] = {.bits = {true, true}, .tags = {nobody, stale}};
    }

    // ---- areas

    /// The first unit, or -1.
    int alloc_area(thread& t, int n) {
        const int first = claim(t, n);
        if (first < 0) return -1;
        publish(t, first, n, {kind::area, t.me(), n}, t.me());
        return first;
    }
    /// `from`: whose it was when the caller got it.
    bool free_area(thread& t, int first, owner_of from) {
        m.step(t);
        const state seen = states_[at(first)];
        return seen.what == kind::area && seen.by == from && retire_area(t, first, seen, from);
    }

    // ---- superblocks

    int add_superblock(thread& t, int c) {
        const int first = claim(t, 1);
        if (first < 0) return -1;
        card& k = cards_[at(first)];
        for (int i = 0; i < blocks_of(c); ++i) {
            m.step(t);
            k.tags[at(i)] = nobody;
        }
        m.step(t);
        for (int i = 0; i < blocks_of(c); ++i) k.bits[at(i)] = true;
        publish(t, first, 1, {kind::small, nobody, c}, everybody);
        return first;
    }
    /// One block.
    bool take(thread& t, int unit) {
        const state s = exchange_taker(t, unit, nobody, t.me());
        if (s.what != kind::small) return false;
        card& k = cards_[at(unit)];
        int got = -1;
        for (int i = 0; i < blocks_of(s.count) && got < 0; ++i) {
            m.step(t);
            if (!k.bits[at(i)]) continue;
            got = i;
            m.step(t);
            k.tags[at(i)] = t.me();
            m.step(t);
            k.bits[at(i)] = false;
            ++held_[at(unit)];
        }
        exchange_taker(t, unit, t.me(), nobody);
        return got >= 0;
    }
    bool retire_superblock(thread& t, int unit) {
        const bool takes = fault_ != run_fault::retires_without_taking;
        m.step(t);
        const state before = states_[at(unit)];
        if (before.what != kind::small || before.by != nobody) return false;
        if (takes && exchange_taker(t, unit, nobody, t.me()).what != kind::small) return false;
        if (!all_linked(t, unit, before.count) && fault_ != run_fault::retires_without_a_look) {
            if (takes) exchange_taker(t, unit, t.me(), nobody);
            return false;
        }
        if (fault_ != run_fault::retires_with_the_tags_of_old) {
            for (int i = 0; i < blocks_of(before.count); ++i) {
                m.step(t);
                cards_[at(unit)].tags[at(i)] = nobody;
            }
        }
        m.step(t);
        if (!takes && states_[at(unit)] != before) return false;
        if (held_[at(unit)] != 0) m.broken("a superblock went whose blocks are in use");
        in_use_[at(unit)] = nobody;
        states_[at(unit)] = {kind::retiring, t.me(), 1};
        finish_retiring(t, unit, 1, true);
        return true;
    }

    // ---- recovery

    void recover(thread& t, const member& d) {
        m.wait_for_end(d);
        if (!d.dead) return;
        const owner_of gone = d.name;
        m.step(t);
        const int top = top_;
        for (int u = 0; u < top; ++u) finish_what_it_did_to(t, u, gone);
        for (int u = 0; u < top; ++u) sweep(t, u, gone);
    }

private:
    enum class kind { free, claimed, small, area, retiring };
    struct state {
        kind what = kind::free;
        owner_of by;
        int count = 0;  // claimed: distance to the first; small: class; else units
        bool operator==(const state&) const = default;
    };
    struct card {
        std::array<bool, blocks> bits{};
        std::array<owner_of, blocks> tags{};
    };
    static constexpr owner_of everybody{-1, 0};

    static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
    static constexpr int blocks_of(int c) { return c == 0 ? 2 : 1; }

    // ---- runs

    int claim(thread& t, int n) {
        for (int first = 0; first + n <= units; ++first) {
            const auto raise_top = [&] { m.step(t), top_ = std::max(top_, first + n); };
            if (fault_ != run_fault::top_raised_after_the_claim) raise_top();
            int k = 0;
            for (; k < n; ++k) {
                m.step(t);
                if (states_[at(first + k)].what != kind::free) break;
                if (fault_ == run_fault::claims_by_a_store) m.step(t);
                states_[at(first + k)] = {kind::claimed, t.me(), k};
            }
            if (k == n) {
                if (fault_ == run_fault::top_raised_after_the_claim) raise_top();
                if (fault_ != run_fault::publishes_before_the_pages) populate(t, first, n);
                return first;
            }
            abandon(t, first, k);
        }
        return -1;
    }
    void abandon(thread& t, int first, int n) {
        for (int i = 0; i < n; ++i) {
            m.step(t);
            states_[at(first + (fault_ == run_fault::abandons_from_the_first ? i : n - 1 - i))] = {};
        }
    }
    void populate(thread& t, int first, int n) {
        for (int k = 0; k < n; ++k) {
            m.step(t);
            pages_[at(first + k)] = true;
        }
    }
    void publish(thread& t, int first, int n, state as, owner_of user) {
        m.step(t);
        states_[at(first)] = as;
        for (int u = first; u < first + n; ++u) {
            if (!pages_[at(u)]) m.broken("a run was published without its pages");
            if (in_use_[at(u)] != nobody) m.broken("a unit is in two runs");
            in_use_[at(u)] = user;
        }
    }
    void punch(thread& t, int u) {
        m.step(t);
        if (used(u)) m.broken("the pages of a run in use went");
        pages_[at(u)] = false;
    }
    void becomes_free(thread& t, int u) {
        m.step(t);
        if (used(u)) m.broken("a unit in use became free");
        states_[at(u)] = {};
    }
    void finish_retiring(thread& t, int first, int n, bool anew) {
        const bool at_once = anew || fault_ == run_fault::finishes_with_all_pages_at_once;
        const bool pages_go = fault_ != run_fault::leaves_pages_of_the_dead || anew;
        for (int k = 0; at_once && k < n; ++k) punch(t, first + k);
        clear_card(t, first);
        const auto frees_first = [&] {
            if (!at_once && pages_go) punch(t, first);
            becomes_free(t, first);
        };
        if (fault_ == run_fault::finishes_the_first_unit_first) frees_first();
        for (int k = n - 1; k > 0; --k) {
            m.step(t);
            const state s = states_[at(first + k)];
            if ((s.what != kind::claimed || s.count != k) && fault_ != run_fault::finishes_units_of_others) continue;
            if (!at_once && pages_go) punch(t, first + k);
            becomes_free(t, first + k);
        }
        if (fault_ != run_fault::finishes_the_first_unit_first) frees_first();
    }
    /// The bits first: the worse order of the two.
    void clear_card(thread& t, int first) {
        m.step(t);
        cards_[at(first)].bits = {};
        m.step(t);
        cards_[at(first)].tags = {};
    }
    /// whose: users know the area to be.
    bool retire_area(thread& t, int first, state seen, owner_of whose) {
        for (;; seen = states_[at(first)]) {
            m.step(t);
            if (states_[at(first)] == seen || fault_ == run_fault::area_freed_by_a_store) break;
            const state& now = states_[at(first)];
            if (fault_ != run_fault::area_freed_whoever_has_it_now || now.what != kind::area || now.count != seen.count) return false;
        }
        if (in_use_[at(first)] != whose) m.broken("an area went that somebody has");
        for (int k = 0; k < seen.count; ++k) in_use_[at(first + k)] = nobody;
        states_[at(first)] = {kind::retiring, t.me(), seen.count};
        finish_retiring(t, first, seen.count, true);
        return true;
    }

    // ---- superblocks

    /// By compare-and-swap; the state before. Not small: it failed.
    state exchange_taker(thread& t, int unit, owner_of from, owner_of to) {
        m.step(t);
        state& s = states_[at(unit)];
        if (s.what != kind::small || s.by != from) return {};
        s.by = to;
        return s;
    }
    bool all_linked(thread& t, int unit, int c) {
        m.step(t);
        const auto& bits = cards_[at(unit)].bits;
        return bits[0] && (blocks_of(c) == 1 || bits[1]);
    }

    // ---- recovery

    void finish_what_it_did_to(thread& t, int u, owner_of d) {
        m.step(t);
        const state s = states_[at(u)];
        if (s.by != d) return;
        switch (s.what) {
            case kind::small: exchange_taker(t, u, d, nobody); break;
            case kind::claimed:
                if (s.count == 0 && fault_ != run_fault::leaves_claims_of_the_dead) finish_for(t, u, s);
                break;
            case kind::retiring:
                if (fault_ != run_fault::leaves_retirings_of_the_dead) finish_for(t, u, s);
                break;
            case kind::area: retire_area(t, u, s, d); break;
            case kind::free: break;
        }
    }
    void finish_for(thread& t, int first, state s) {
        int n = s.count;
        if (s.what == kind::claimed) {
            for (n = 1; first + n < units; ++n) {
                m.step(t);
                if (states_[at(first + n)] != state{kind::claimed, s.by, n}) break;
            }
        }
        m.step(t);
        if (states_[at(first)] != s && fault_ != run_fault::finishes_without_taking_over) return;
        const bool in_its_name = fault_ == run_fault::finishes_in_the_name_of_the_dead || fault_ == run_fault::finishes_without_taking_over;
        states_[at(first)] = {kind::retiring, in_its_name ? s.by : t.me(), n};
        finish_retiring(t, first, n, false);
    }
    void sweep(thread& t, int unit, owner_of d) {
        m.step(t);
        const state s = states_[at(unit)];
        if (s.what != kind::small) return;
        card& k = cards_[at(unit)];
        for (int i = 0; i < blocks_of(s.count); ++i) {
            m.step(t);
            if (k.tags[at(i)] != d) continue;
            m.step(t);
            if (k.bits[at(i)]) continue;
            m.step(t);
            if (k.tags[at(i)] != d) continue;
            k.tags[at(i)] = t.me();
            m.step(t);
            if (states_[at(unit)].what != kind::small || i >= blocks_of(states_[at(unit)].count)) m.broken("a block was linked in a superblock that has it not");
            k.bits[at(i)] = true;
            --held_[at(unit)];
        }
    }

    // ---- what users know

    bool used(int u) const { return in_use_[at(u)] == everybody || (in_use_[at(u)] != nobody && m.lives(in_use_[at(u)])); }

    std::string account() {
        for (int u = 0; u < units; ++u) {
            const std::string name = "unit " + std::to_string(u);
            const state& s = states_[at(u)];
            if (s.what == kind::free && pages_[at(u)]) return "the pages of " + name + " stayed";
            if (s.what == kind::free && used(u)) return name + " is free and in use";
            if (s.what == kind::free) continue;
            const bool stands = s.what == kind::claimed ? s.count > 0 : s.what == kind::area || (s.what == kind::small && s.by == nobody);
            if (!stands || !used(u)) return name + " is stuck";
        }
        return "";
    }

    const run_fault fault_;
    int top_ = 0;
    std::array<state, units> states_{};
    std::array<card, units> cards_{};
    std::array<bool, units> pages_{};
    std::array<owner_of, units> in_use_{};  // what users know
    std::array<int, units> held_{};         // blocks of it that are not linked
};

}  // namespace cohort::sharepool::testing
