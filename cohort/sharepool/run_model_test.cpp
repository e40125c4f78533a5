// SPDX-License-Identifier: Apache-2.0
/// Runs of units over all interleavings of small scenarios in which members die at any step: when all rests and the dead are recovered, each unit is free, without
/// pages, or of a run that somebody has; and no page of a run in use ever goes.
///
/// `run_fault` leaves a rule out or moves it: each must be found, else the model would prove nothing.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include <cohort/base/testing/model.hpp>
#include <cohort/sharepool/testing/run_model.hpp>

namespace cohort::sharepool::testing {
namespace {

using fault = run_fault;

struct world {
    world(interleave::run& x, fault f) : pool(x, f) {}
    run_model pool;
    std::vector<member*> members;
    int mail = -1;  // an area that the victim handed over

    const member& victim() const { return *members[0]; }
};

using act = std::function<void(world&, thread&)>;
struct role {
    act does;
    bool mortal = false;
};
using scenario = interleave::scenario<fault>;
using setup = std::function<void(run_model&)>;

const owner_of victim{1, 1};
const setup nothing = [](run_model&) {};
const setup a_superblock = [](run_model& p) { p.has_superblock(0, victim); };

/// The first role is the victim's. Runs know no CPU: each thread has its own.
scenario of(const setup& at_first, const std::vector<role>& roles) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f);
        at_first(w->pool);
        for (const role& r : roles) {
            const int n = static_cast<int>(w->members.size());
            w->members.push_back(&w->pool.m.joins(n + 1));
            thread& t = w->pool.m.starts(*w->members.back(), n);
            t.mortal = r.mortal;
            x.thread([w, &t, does = r.does] {
                does(*w, t);
                if (t.mortal) w->pool.m.step(t);  // it may die with what it holds
                w->pool.m.ends(t);
            });
        }
    };
}

const act allocates_and_frees = [](world& w, thread& t) {
    const int first = w.pool.alloc_area(t, 2);
    if (first >= 0) w.pool.free_area(t, first, t.me());
};
const act allocates_three = [](world& w, thread& t) { w.pool.alloc_area(t, 3); };
const act allocates_one = [](world& w, thread& t) { w.pool.alloc_area(t, 1); };
const act hands_an_area_over = [](world& w, thread& t) {
    const int first = w.pool.alloc_area(t, 2);
    w.pool.m.step(t);
    w.mail = first;
};
const act frees_what_it_was_given = [](world& w, thread& t) {
    interleave::run::wait_until([&w] { return w.mail >= 0 || w.victim().threads_left == 0; });
    w.pool.m.step(t);
    if (w.mail >= 0 && w.pool.free_area(t, w.mail, victim)) w.pool.alloc_area(t, 2);
};
const act recovers = [](world& w, thread& t) { w.pool.recover(t, w.victim()); };
const act recovers_and_allocates = [](world& w, thread& t) {
    w.pool.recover(t, w.victim());
    w.pool.alloc_area(t, 2);
};
/// The victim, and then the other recoverer (the second role), should it have died.
const act recovers_both = [](world& w, thread& t) { w.pool.recover(t, w.victim()), w.pool.recover(t, *w.members[1]); };
const act takes = [](world& w, thread& t) { w.pool.take(t, 0); };
const act retires = [](world& w, thread& t) { w.pool.retire_superblock(t, 0); };
const act changes_the_class = [](world& w, thread& t) {
    if (w.pool.retire_superblock(t, 0)) w.pool.add_superblock(t, 1);
};
const act adds_and_retires = [](world& w, thread& t) {
    const int first = w.pool.add_superblock(t, 0);
    if (first >= 0) w.pool.retire_superblock(t, first);
};

const scenario two_recover = of(nothing, {{allocates_and_frees, true}, {recovers_and_allocates}, {recovers}});
const scenario one_recoverer_dies = of(nothing, {{allocates_and_frees, true}, {recovers, true}, {recovers_both}, {allocates_one}});
const scenario claims_that_meet = of(nothing, {{allocates_three, true}, {allocates_one}, {recovers}});
const scenario a_free_by_another = of(nothing, {{hands_an_area_over, true}, {frees_what_it_was_given}, {recovers}});
const scenario a_superblock_of_the_dead = of(nothing, {{adds_and_retires, true}, {recovers_and_allocates}, {recovers}});
const scenario a_take_beside_a_retire = of(a_superblock, {{takes, true}, {retires}, {recovers}});
const scenario a_class_that_changes = of(a_superblock, {{takes, true}, {changes_the_class}, {recovers}});

TEST(run_model, is_finished_by_one_of_two_recoverers) { interleave::expect_clean(two_recover, 2); }
TEST(run_model, is_finished_after_a_recoverer_that_died) { interleave::expect_clean(one_recoverer_dies, 1); }
TEST(run_model, leaves_nothing_of_a_claim_that_gave_up) { interleave::expect_clean(claims_that_meet, 3); }
TEST(run_model, is_freed_once_by_recovery_or_by_who_has_it) { interleave::expect_clean(a_free_by_another, 3); }
TEST(run_model, takes_superblocks_back_that_the_dead_left) { interleave::expect_clean(a_superblock_of_the_dead, 2); }
TEST(run_model, keeps_a_superblock_whose_blocks_are_in_use) { interleave::expect_clean(a_take_beside_a_retire, 3); }
TEST(run_model, changes_its_class_beside_a_recovery) { interleave::expect_clean(a_class_that_changes, 3); }

TEST(run_model, finds_every_rule_that_is_left_out) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(top_raised_after_the_claim), two_recover},
        {COHORT_FAULT(claims_by_a_store), claims_that_meet},
        {COHORT_FAULT(abandons_from_the_first), claims_that_meet},
        {COHORT_FAULT(publishes_before_the_pages), two_recover},
        {COHORT_FAULT(finishes_without_taking_over), two_recover},
        {COHORT_FAULT(finishes_in_the_name_of_the_dead), two_recover},
        {COHORT_FAULT(finishes_with_all_pages_at_once), one_recoverer_dies},
        {COHORT_FAULT(finishes_units_of_others), one_recoverer_dies},
        {COHORT_FAULT(finishes_the_first_unit_first), one_recoverer_dies},
        {COHORT_FAULT(leaves_claims_of_the_dead), two_recover},
        {COHORT_FAULT(leaves_pages_of_the_dead), two_recover},
        {COHORT_FAULT(area_freed_by_a_store), a_free_by_another},
        {COHORT_FAULT(area_freed_whoever_has_it_now), two_recover},
        {COHORT_FAULT(retires_without_taking), a_take_beside_a_retire},
        {COHORT_FAULT(retires_without_a_look), a_take_beside_a_retire},
        {COHORT_FAULT(retires_with_the_tags_of_old), a_class_that_changes},
        {COHORT_FAULT(leaves_retirings_of_the_dead), two_recover},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool::testing
