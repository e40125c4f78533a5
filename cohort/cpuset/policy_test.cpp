// SPDX-License-Identifier: Apache-2.0
// Memory policies within a set's nodes.
#include <cohort/cpuset/policy.hpp>
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

memory_policy made(memory_policy asked, const nodemask& allowed) {
    auto p = contextualize(asked, allowed);
    EXPECT_TRUE(p.has_value()) << asked.text();
    return p.value_or(memory_policy{});
}

int refused(const memory_policy& asked, const nodemask& allowed) {
    auto p = contextualize(asked, allowed);
    return p ? 0 : p.error().code;
}

TEST(policy, nodes_outside_the_set_are_filtered_and_none_left_is_einval) {
    EXPECT_EQ(made({.mode = policy_mode::bind, .nodes = {0, 2, 5}}, {2, 3}).effective, (nodemask{2}));
    EXPECT_EQ(refused({.mode = policy_mode::bind, .nodes = {0}}, {2, 3}), EINVAL);
    EXPECT_EQ(made({.mode = policy_mode::preferred, .nodes = {2, 3}}, {2, 3}).effective, (nodemask{2}));
}

TEST(policy, forms_without_meaning_are_einval) {
    EXPECT_EQ(refused({.mode = policy_mode::none, .nodes = {0}}, {0}), EINVAL);
    EXPECT_EQ(refused({.mode = policy_mode::local, .static_nodes = true}, {0}), EINVAL);
    EXPECT_EQ(refused({.mode = policy_mode::local, .nodes = {0}}, {0}), EINVAL);
    EXPECT_EQ(refused({.mode = policy_mode::bind}, {0}), EINVAL);
    EXPECT_EQ(refused({.mode = policy_mode::bind, .static_nodes = true, .relative_nodes = true, .nodes = {0}}, {0}), EINVAL);
    EXPECT_EQ(refused({.mode = policy_mode::preferred, .static_nodes = true}, {0}), EINVAL);
    EXPECT_EQ(made({.mode = policy_mode::preferred}, {0}).mode, policy_mode::local);
    EXPECT_EQ(made({.mode = policy_mode::none, .static_nodes = true}, {0}).text(), "default") << "its flags are dropped";
}

TEST(policy, relative_nodes_count_within_the_set) {
    EXPECT_EQ(relative_to({0, 2}, {4, 5, 7}), (nodemask{4, 7}));
    EXPECT_EQ(relative_to({3, 5}, {4, 5, 7}), (nodemask{4, 7}));
    memory_policy p = made({.mode = policy_mode::interleave, .relative_nodes = true, .nodes = {0, 1}}, {2, 3, 4});
    EXPECT_EQ(p.effective, (nodemask{2, 3}));
    rebind(p, {6, 7});
    EXPECT_EQ(p.effective, (nodemask{6, 7}));
}

TEST(policy, plain_nodes_move_by_their_ordinal_and_static_ones_stay) {
    EXPECT_EQ(remap({0, 3, 9}, {0, 1, 2, 3}, {4, 5, 6, 7}), (nodemask{4, 7, 9}));
    EXPECT_EQ(remap({3}, {0, 1, 2, 3}, {4, 5}), (nodemask{5}));
    memory_policy plain = made({.mode = policy_mode::interleave, .nodes = {1}}, {0, 1});
    rebind(plain, {4, 5});
    EXPECT_EQ(plain.effective, (nodemask{5}));
    memory_policy fixed = made({.mode = policy_mode::bind, .static_nodes = true, .nodes = {0, 1}}, {0});
    EXPECT_EQ(fixed.effective, (nodemask{0}));
    rebind(fixed, {1, 2});
    EXPECT_EQ(fixed.effective, (nodemask{1}));
    rebind(fixed, {2});
    EXPECT_EQ(fixed.effective, (nodemask{2})) << "nothing left: the whole set";
    rebind(fixed, {0, 2});
    EXPECT_EQ(fixed.effective, (nodemask{0})) << "what was asked for is remembered";
}

TEST(policy, of_tasks_and_their_memory_follow_the_set) {
    testing::script m;
    m.run(R"(
        mkdir a; write a cpuset.mems 0; attach a t
        mempolicy t bind 1 -> EINVAL
        mempolicy t bind 900 -> EINVAL
        mempolicy nobody bind 0 -> ESRCH
        mempolicy t interleave 0; mbind t bind+static 0-1; fork t u; write a cpuset.mems 1
        policy t -> interleave:1
        vma_policy t -> bind+static:1
        policy u -> interleave:1
        vma_policy u -> bind+static:1
        mempolicy t default; mbind t default
        policy t -> default
        vma_policy t -> ""
    )");
}

}  // namespace
}  // namespace cohort::cpuset
