// SPDX-License-Identifier: Apache-2.0
/// Accounts over all interleavings of small scenarios in which a member dies at any step (README.md, "Accounts"): what is counted is never less than what is there, whoever settles meanwhile.
///
/// `fault` leaves a rule out or moves it: each must be found, else the model would prove nothing.
#include <gtest/gtest.h>

#include <array>
#include <memory>

#include <cohort/base/testing/model.hpp>
#include <cohort/sharepool/testing/member_model.hpp>

namespace cohort::sharepool::testing {
namespace {

enum class fault { none, begins_after_the_charge, ends_before_the_state, looks_once, publishes_before_the_charge, uncharges_before_the_state_goes, settles_beside_another, overlooks_who_acts };

/// Two rows, an area of each, one counter.
struct books {
    books(interleave::run& x, fault f) : m(x), wrong(f) {
        x.at_step([this] { return std::string(usage < area[0] + area[1] ? "less is counted than there is" : ""); });
        x.at_end([this] { return std::string(quiet && usage != area[0] + area[1] ? "what a kill left was not put right" : ""); });
    }
    struct row {
        bool present = true;
        int acting = 0, through = 0;
        bool operator==(const row&) const = default;
    };
    machine m;
    const fault wrong;
    std::array<row, 2> rows{};
    std::array<int, 2> area{};
    int usage = 0;
    bool settling = false, quiet = false;

    void begin(thread& t, unsigned who) { m.step(t), ++rows[who].acting; }
    void end(thread& t, unsigned who) { m.step(t), --rows[who].acting, ++rows[who].through; }

    void allocate(thread& t, unsigned who) {
        if (wrong != fault::begins_after_the_charge) begin(t, who);
        if (wrong == fault::publishes_before_the_charge) m.step(t), area[who] = 1;
        m.step(t), ++usage;
        if (wrong == fault::begins_after_the_charge) begin(t, who);
        if (wrong == fault::ends_before_the_state) end(t, who);
        m.step(t), area[who] = 1;
        if (wrong != fault::ends_before_the_state) end(t, who);
    }
    /// who: acts; whose: area.
    void free(thread& t, unsigned who, unsigned whose) {
        begin(t, who);
        if (wrong == fault::uncharges_before_the_state_goes) m.step(t), --usage;
        m.step(t), area[whose] = 0;
        if (wrong != fault::uncharges_before_the_state_goes) m.step(t), --usage;
        end(t, who);
    }
    bool settle(thread& t) {
        m.step(t);
        if (settling && wrong != fault::settles_beside_another) return false;
        settling = true;
        const bool done = settle_if_quiet(t);
        m.step(t), settling = false;
        return done;
    }
    bool settle_if_quiet(thread& t) {
        std::array<row, 2> seen;
        for (unsigned who = 0; who < 2; ++who) {
            m.step(t), seen[who] = rows[who];
            if (seen[who].present && seen[who].acting != 0 && wrong != fault::overlooks_who_acts) return false;
        }
        int truth = 0;
        for (unsigned who = 0; who < 2; ++who) m.step(t), truth += area[who];
        m.step(t);
        const int counted = usage;
        for (unsigned who = 0; who < 2 && wrong != fault::looks_once; ++who) {
            m.step(t);
            if (rows[who] != seen[who]) return false;
        }
        m.step(t), usage += truth - counted;
        return true;
    }
};

using scenario = interleave::scenario<fault>;

/// A member that may die allocates and frees; another recovers it and settles; a third one (of the second's process: same row) settles at any time.
const scenario settles_beside = [](interleave::run& x, fault f) {
    auto b = std::make_shared<books>(x, f);
    member &victim = b->m.joins(1), &other = b->m.joins(2);
    thread &dies = b->m.starts(victim, 0), &recovers = b->m.starts(other, 1), &settles = b->m.starts(other, 2);
    dies.mortal = true;
    x.thread([b, &dies] {
        b->allocate(dies, 0);
        b->free(dies, 0, 0);
        b->allocate(dies, 0);
        b->m.step(dies);
        b->m.ends(dies);
    });
    x.thread([b, &recovers, &victim] {
        b->m.wait_for_end(victim);
        b->m.step(recovers);
        if (b->area[0] != 0) b->free(recovers, 1, 0);
        b->m.step(recovers), b->rows[0].present = false;
        b->quiet = b->settle(recovers);
        b->m.ends(recovers);
    });
    x.thread([b, &settles] {
        (void)b->settle(settles);
        b->m.ends(settles);
    });
};

/// What a kill left is found by two at once, while a member goes on.
const scenario two_settle = [](interleave::run& x, fault f) {
    auto b = std::make_shared<books>(x, f);
    b->usage = 1;
    member &first = b->m.joins(1), &second = b->m.joins(2);
    thread &one = b->m.starts(first, 0), &two = b->m.starts(second, 1), &acts = b->m.starts(second, 2);
    for (thread* t : {&one, &two}) {
        x.thread([b, t] {
            (void)b->settle(*t);
            b->m.ends(*t);
        });
    }
    x.thread([b, &acts] {
        b->allocate(acts, 1);
        b->m.ends(acts);
    });
};

TEST(account_model, counts_no_less_than_there_is_whoever_dies) { interleave::expect_clean(settles_beside, 3); }
TEST(account_model, is_settled_by_one_at_a_time) { interleave::expect_clean(two_settle, 3); }
TEST(account_model, finds_every_rule_that_is_left_out) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(begins_after_the_charge), settles_beside},
        {COHORT_FAULT(ends_before_the_state), settles_beside},
        {COHORT_FAULT(looks_once), settles_beside},
        {COHORT_FAULT(publishes_before_the_charge), settles_beside},
        {COHORT_FAULT(uncharges_before_the_state_goes), settles_beside},
        {COHORT_FAULT(settles_beside_another), two_settle},
        {COHORT_FAULT(overlooks_who_acts), settles_beside},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool::testing
