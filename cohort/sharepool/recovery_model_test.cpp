// SPDX-License-Identifier: Apache-2.0
/// The protocol of README.md over all interleavings of small scenarios in which members die at any step: when all rests and the dead are recovered, each block is
/// linked once, or a living member's, or kept; and no block is ever handed out that somebody holds.
///
/// Each scenario runs with restartable sequences and with slots. `fault` leaves a rule out or moves it: each must be found, else the model would prove nothing.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

#include <cohort/base/testing/model.hpp>
#include <cohort/sharepool/testing/pool_model.hpp>

namespace cohort::sharepool::testing {
namespace {

struct world {
    world(interleave::run& x, fault f, magazines kind) : pool(x, f, kind) {}
    pool_model pool;
    std::vector<member*> members;
    int mail = -1;  // a pointer that the first member handed over

    const member& victim() const { return *members[0]; }
};

using act = std::function<void(world&, thread&)>;
enum trait { stays = 0, mortal = 1, moves = 2 };
struct role {
    int cpu = 0;
    act does;
    int traits = stays;
    int thread_of = -1;  // a role whose member it is a thread of; -1: a member of its own
};
using setup = std::function<void(pool_model&)>;
using scenario = interleave::scenario<fault>;

/// The first role is the victim's.
scenario of(magazines kind, const setup& at_first, const std::vector<role>& roles) {
    return [=](interleave::run& x, fault f) {
        auto w = std::make_shared<world>(x, f, kind);
        at_first(w->pool);
        for (const role& r : roles) {
            w->members.push_back(r.thread_of >= 0 ? w->members[static_cast<std::size_t>(r.thread_of)] : &w->pool.m.joins(static_cast<int>(w->members.size()) + 1));
            thread& t = w->pool.m.starts(*w->members.back(), r.cpu);
            t.mortal = (r.traits & mortal) != 0;
            t.moves = (r.traits & moves) != 0;
            x.thread([w, &t, does = r.does] {
                does(*w, t);
                if (t.mortal) w->pool.m.step(t);  // it may die with what it holds
                w->pool.m.ends(t);
            });
        }
    };
}

const owner_of victim{1, 1};

// ---- how it stands at first

/// The victim left its tag on linked blocks, as a sequence does that was aborted, or a free.
const setup two_in_a_magazine = [](pool_model& p) {
    p.is_in_magazine(0, 0, victim), p.is_in_magazine(0, 1, victim);
    p.is_in_bits(2, victim), p.is_in_bits(3);
};
const setup one_in_each = [](pool_model& p) {
    p.is_in_magazine(0, 0, victim), p.is_in_magazine(1, 1);
    p.is_in_bits(2, victim), p.is_in_bits(3);
};
const setup all_in_superblocks = [](pool_model& p) {
    for (int x = 0; x < pool_model::blocks; ++x) p.is_in_bits(x, x % 2 ? victim : nobody);
};
const setup all_in_a_magazine = [](pool_model& p) {
    for (int x = 0; x < 3; ++x) p.is_in_magazine(0, x, x % 2 ? nobody : victim);
    p.is_in_bits(3);
};

// ---- what members do

const act allocates = [](world& w, thread& t) { w.pool.alloc(t); };
const act allocates_and_frees = [](world& w, thread& t) {
    const int x = w.pool.alloc(t);
    if (x >= 0) w.pool.free(t, x);
};
const act uses = [](world& w, thread& t) {
    const int x = w.pool.alloc(t), y = w.pool.alloc(t);
    if (x >= 0) w.pool.free(t, x);
    if (y < 0) w.pool.alloc(t);
};
const act flushes = [](world& w, thread& t) { w.pool.flush(t); };
const act hands_over = [](world& w, thread& t) {
    const int x = w.pool.alloc(t);
    w.pool.m.step(t);
    w.mail = x;
};
const act shares_and_hands_over = [](world& w, thread& t) {
    const int x = w.pool.alloc(t);
    w.pool.share(t, x, t.me());
    w.pool.m.step(t);
    w.mail = x;
};
/// A pointer that came: -1, none will.
int what_came(world& w, thread& t) {
    interleave::run::wait_until([&w] { return w.mail >= 0 || w.victim().threads_left == 0; });
    w.pool.m.step(t);
    return w.mail;
}
const act frees_what_it_was_given = [](world& w, thread& t) {
    if (const int x = what_came(w, t); x >= 0) w.pool.free_of(t, x, victim);
};
const act hands_on_what_it_was_given = [](world& w, thread& t) {
    if (const int x = what_came(w, t); x >= 0) w.pool.share(t, x, victim);
};
const act replaces_blocks = [](world& w, thread& t) {
    if (const int x = w.pool.alloc(t); x >= 0) w.pool.replace(t, x);
};
const act allocates_and_leaves = [](world& w, thread& t) {
    w.pool.alloc(t);
    w.pool.leave(t);
};
const act recovers = [](world& w, thread& t) { w.pool.recover(t, w.victim()); };
const act recovers_and_allocates = [](world& w, thread& t) {
    w.pool.recover(t, w.victim());
    w.pool.alloc(t), w.pool.alloc(t);
};
/// The victim, and then the other recoverer (the second role), should it have died.
const act recovers_both = [](world& w, thread& t) { w.pool.recover(t, w.victim()), w.pool.recover(t, *w.members[1]); };
const act joins_and_allocates = [](world& w, thread& t) {
    w.pool.join_in_place_of(t, w.victim());
    if (w.pool.joined(t)) w.pool.alloc(t);
};

// ---- scenarios

scenario beside_a_user(magazines k) { return of(k, two_in_a_magazine, {{0, allocates, mortal}, {0, uses}, {1, recovers}}); }
scenario beside_one_that_moves(magazines k) { return of(k, one_in_each, {{1, uses, mortal | moves}, {0, uses, moves}, {0, recovers_and_allocates}}); }
scenario beside_a_refill(magazines k) { return of(k, all_in_superblocks, {{0, allocates_and_frees, mortal}, {1, uses}, {0, recovers_and_allocates}}); }
scenario beside_a_flush(magazines k) { return of(k, all_in_a_magazine, {{0, flushes, mortal}, {0, flushes}, {1, recovers_and_allocates}}); }
scenario beside_a_foreign_free(magazines k) { return of(k, one_in_each, {{0, hands_over, mortal}, {1, frees_what_it_was_given}, {1, recovers}}); }
scenario of_what_was_handed_over(magazines k) { return of(k, one_in_each, {{0, shares_and_hands_over, mortal}, {1, frees_what_it_was_given}, {0, recovers}}); }
scenario by_two(magazines k) { return of(k, two_in_a_magazine, {{0, allocates, mortal}, {0, recovers_and_allocates}, {1, recovers}}); }
scenario by_one_that_dies_too(magazines k) { return of(k, one_in_each, {{0, allocates, mortal}, {0, recovers_and_allocates, mortal}, {1, recovers_both}}); }
scenario of_two_that_die(magazines k) { return of(k, two_in_a_magazine, {{0, allocates, mortal}, {0, uses, mortal}, {1, recovers_both}}); }
scenario beside_a_new_member(magazines k) {
    return of(k, two_in_a_magazine, {{0, allocates, mortal}, {0, recovers}, {1, recovers}, {0, joins_and_allocates}});
}

scenario of_two_threads(magazines k) {
    return of(k, two_in_a_magazine, {{0, allocates_and_frees, mortal}, {1, allocates, mortal, 0}, {0, uses}, {1, recovers}});
}
scenario of_what_is_handed_on(magazines k) { return of(k, one_in_each, {{0, hands_over, mortal}, {1, hands_on_what_it_was_given}, {1, recovers_and_allocates}}); }
scenario beside_one_that_replaces(magazines k) { return of(k, two_in_a_magazine, {{1, allocates, mortal}, {0, replaces_blocks}, {1, recovers}}); }
scenario of_one_that_leaves(magazines k) { return of(k, two_in_a_magazine, {{0, allocates_and_leaves, mortal}, {0, uses}, {1, recovers_and_allocates}}); }

class recovery_model : public ::testing::TestWithParam<magazines> {};
INSTANTIATE_TEST_SUITE_P(with, recovery_model, ::testing::Values(magazines::sequences, magazines::slots),
                         [](const auto& p) { return p.param == magazines::slots ? "slots" : "sequences"; });

/// Slots take more steps: where many do a lot, they get one preemption.
int fewer(magazines k) { return k == magazines::slots ? 1 : 2; }

TEST_P(recovery_model, loses_nothing_beside_a_user) { interleave::expect_clean(beside_a_user(GetParam()), 2); }
TEST_P(recovery_model, loses_nothing_beside_one_that_moves) { interleave::expect_clean(beside_one_that_moves(GetParam()), fewer(GetParam())); }
TEST_P(recovery_model, loses_nothing_beside_a_refill) { interleave::expect_clean(beside_a_refill(GetParam()), 2); }
TEST_P(recovery_model, loses_nothing_beside_a_flush) { interleave::expect_clean(beside_a_flush(GetParam()), 2); }
TEST_P(recovery_model, loses_nothing_beside_a_foreign_free) { interleave::expect_clean(beside_a_foreign_free(GetParam()), 2); }
TEST_P(recovery_model, keeps_what_was_handed_over) { interleave::expect_clean(of_what_was_handed_over(GetParam()), 2); }
TEST_P(recovery_model, is_done_by_two_at_once) { interleave::expect_clean(by_two(GetParam()), 2); }
TEST_P(recovery_model, may_be_killed_itself) { interleave::expect_clean(by_one_that_dies_too(GetParam()), 1); }
TEST_P(recovery_model, loses_nothing_of_two_that_die) { interleave::expect_clean(of_two_that_die(GetParam()), fewer(GetParam())); }
TEST_P(recovery_model, leaves_the_next_member_of_the_slot_alone) { interleave::expect_clean(beside_a_new_member(GetParam()), fewer(GetParam())); }

TEST_P(recovery_model, waits_for_the_last_thread) { interleave::expect_clean(of_two_threads(GetParam()), 1); }
TEST_P(recovery_model, keeps_what_another_hands_on) { interleave::expect_clean(of_what_is_handed_on(GetParam()), 2); }
TEST_P(recovery_model, loses_nothing_beside_blocks_that_are_replaced) { interleave::expect_clean(beside_one_that_replaces(GetParam()), 2); }
TEST_P(recovery_model, is_done_by_one_that_leaves) { interleave::expect_clean(of_one_that_leaves(GetParam()), fewer(GetParam())); }

TEST(recovery_model_faults, finds_every_rule_that_is_left_out) {
    constexpr auto seq = magazines::sequences, slots = magazines::slots;
    interleave::expect_found<fault>({
        {COHORT_FAULT(drop_the_tag), beside_a_user(seq)},
        {COHORT_FAULT(drop_the_tag), beside_a_user(slots)},
        {COHORT_FAULT(tag_after_the_commit), beside_a_user(seq)},
        {COHORT_FAULT(flush_drops_the_tags), beside_a_flush(seq)},
        {COHORT_FAULT(push_commits_before_the_item), beside_one_that_moves(seq)},
        {COHORT_FAULT(take_clears_the_bits_before_the_tags), beside_a_refill(seq)},
        {COHORT_FAULT(take_drops_the_tags), beside_a_refill(seq)},
        {COHORT_FAULT(take_does_not_take_the_superblock), beside_a_refill(seq)},
        {COHORT_FAULT(give_before_the_tag), beside_a_flush(seq)},
        {COHORT_FAULT(skip_adoption), beside_a_foreign_free(seq)},
        {COHORT_FAULT(adoption_by_a_store), beside_a_foreign_free(seq)},
        {COHORT_FAULT(hand_over_by_a_store), of_what_is_handed_on(seq)},
        {COHORT_FAULT(items_overtake_tags), beside_one_that_replaces(seq)},
        {COHORT_FAULT(sweep_does_not_look_again), of_what_is_handed_on(seq)},
        {COHORT_FAULT(marks_before_the_death), beside_one_that_moves(seq)},
        {COHORT_FAULT(sweep_before_mark), beside_a_user(seq)},
        {COHORT_FAULT(marks_one_cpu_only), beside_a_user(seq)},
        {COHORT_FAULT(sweep_ignores_the_bits), beside_a_refill(seq)},
        {COHORT_FAULT(sweep_claims_by_a_store), by_two(seq)},
        {COHORT_FAULT(sweep_claims_by_a_store), beside_a_foreign_free(seq)},
        {COHORT_FAULT(sweep_claims_for_nobody), by_one_that_dies_too(seq)},
        {COHORT_FAULT(sweep_passes_over_taken_superblocks), beside_a_refill(seq)},
        {COHORT_FAULT(sweep_frees_what_was_handed_over), of_what_was_handed_over(seq)},
        {COHORT_FAULT(resets_superblocks_of_the_living), beside_a_refill(seq)},
        {COHORT_FAULT(leaves_superblocks_of_the_dead), beside_a_refill(seq)},
        {COHORT_FAULT(generation_stays), beside_a_new_member(seq)},
        {COHORT_FAULT(slot_of_the_member_freed_by_a_store), beside_a_new_member(seq)},
        {COHORT_FAULT(slot_cleared_before_the_tag), beside_a_user(slots)},
        {COHORT_FAULT(slot_claimed_by_a_store), beside_a_user(slots)},
        {COHORT_FAULT(claimed_slots_are_not_marked), beside_a_user(slots)},
        {COHORT_FAULT(slots_of_the_dead_stay), beside_a_user(slots)},
        {COHORT_FAULT(slots_of_all_are_given_back), beside_one_that_moves(slots)},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool::testing
