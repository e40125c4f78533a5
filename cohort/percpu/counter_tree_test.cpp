// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/counter_tree.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/percpu/testing/stress.hpp>

namespace cohort::percpu {
namespace {

using testing::in_threads;
using testing::scaled;

/// A tree over leaves that are plain numbers: machines that are not there.
struct machine_of {
    machine_of(unsigned leaves, std::int64_t batch, unsigned arity) : leaf(leaves), tree(leaves, batch, arity) {}
    void add(unsigned cpu, std::int64_t amount) {
        const std::int64_t before = leaf[cpu];
        leaf[cpu] += amount;
        if (tree.passes_mark(before, leaf[cpu])) tree.moved(cpu, before, leaf[cpu]);
    }
    std::int64_t sum() const { return std::accumulate(leaf.begin(), leaf.end(), std::int64_t{0}); }
    std::int64_t off() const { return std::abs(tree.root() - sum()); }
    std::vector<std::int64_t> leaf;
    carry_tree tree;
};

TEST(carry_tree, carries_at_the_batch_and_up_at_the_next_heights_step) {
    machine_of m(4, 8, 2);
    EXPECT_EQ(m.tree.levels(), 2u);
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(m.tree.root(), 0);
        m.add(0, 1);
    }
    EXPECT_EQ(m.tree.root(), 0) << "8 of 16 are in the node above";
    m.add(1, 8);
    EXPECT_EQ(m.tree.root(), 16);
    m.add(0, -8);
    EXPECT_EQ(m.tree.root(), 0) << "back over the mark";
    m.add(3, -1000);
    EXPECT_EQ(m.tree.root(), -992);
}

TEST(carry_tree, its_bound_is_a_batch_for_each_leaf_and_height_at_most) {
    for (const unsigned arity : {2u, 4u, 8u, 16u}) {
        for (const unsigned leaves : {1u, arity, arity * arity, arity * arity * arity}) {
            const carry_tree tree(leaves, 32, arity);
            const double heights = std::max(1.0, std::round(std::log2(leaves) / std::log2(arity)));
            EXPECT_EQ(tree.levels(), heights) << leaves << " leaves, arity " << arity;
            EXPECT_LE(tree.bound(), 32 * leaves * heights);
            EXPECT_GT(tree.bound(), 31 * leaves);
        }
    }
    EXPECT_EQ(carry_tree(2, 32, 8).bound(), 2 * 31 + 1);
    EXPECT_EQ(carry_tree(8192, 32, 8).levels(), 5u);
}

TEST(carry_tree, stays_within_its_bound_and_comes_near_it) {
    std::mt19937_64 random(testing::seed());
    for (const auto& [leaves, arity] : {std::pair{1u, 2u}, {2u, 8u}, {9u, 8u}, {64u, 4u}, {384u, 2u}, {384u, 8u}}) {
        machine_of m(leaves, 16, arity);
        for (int i = 0; i < scaled(300'000); ++i) {
            const int phase = i / 10'000 % 3;
            const auto amount = static_cast<std::int64_t>(random() % 41) - (phase == 0 ? 10 : phase == 1 ? 30 : 20);
            m.add(static_cast<unsigned>(random() % leaves), amount);
            ASSERT_LT(m.off(), m.tree.bound()) << leaves << " leaves, arity " << arity << ", step " << i;
        }
    }
    // The worst: every node is one below its step.
    machine_of worst(64, 16, 4);
    for (unsigned cpu = 0; cpu < 64; ++cpu) worst.add(cpu, 15);
    for (unsigned group = 0; group < 16; ++group) {
        for (int i = 0; i < 3; ++i) worst.add(group * 4, 16);
    }
    EXPECT_EQ(worst.tree.root(), 0);
    EXPECT_LT(worst.off(), worst.tree.bound());
    EXPECT_GT(worst.off(), worst.tree.bound() / 2);
}

TEST(carry_tree, carries_of_many_threads_are_each_made_once) {
    constexpr unsigned leaves = 8;
    carry_tree tree(leaves, 4, 2);
    std::array<std::atomic<std::int64_t>, leaves> leaf{};
    in_threads(16, [&](int t) {
        for (int i = 0; i < scaled(50'000); ++i) {
            const unsigned at = static_cast<unsigned>(t + i) % leaves;
            const std::int64_t amount = i % 5 - (t % 2 ? 1 : 3), before = leaf[at].fetch_add(amount);
            if (tree.passes_mark(before, before + amount)) tree.moved(at, before, before + amount);
        }
    });
    std::int64_t total = 0;
    for (const auto& l : leaf) total += l;
    EXPECT_LT(std::abs(tree.root() - total), tree.bound());
}

TEST(counter_tree, reads_within_its_bound_and_sums_exactly_with_64_threads) {
    const testing::bare_chunk chunk;
    counter_tree c(chunk.at<std::int64_t>(64), {.batch = 16, .arity = 2});
    const std::uint64_t seed = testing::seed();
    std::atomic<std::int64_t> expected{0};
    in_threads(64, [&](int t) {
        std::mt19937_64 random(seed + static_cast<unsigned>(t));
        std::int64_t mine = 0;
        for (int i = 0; i < scaled(50'000); ++i) {
            const std::int64_t amount = static_cast<std::int64_t>(random() % 101) - 40;
            c.add(amount);
            mine += amount;
        }
        expected += mine;
    });
    EXPECT_EQ(c.sum(), expected);
    EXPECT_LT(std::abs(c.read() - expected), c.bound());
    EXPECT_GT(std::abs(c.read()), 0);
    for (const std::int64_t near : {-2, -1, 0, 1, 2}) EXPECT_EQ(c.compare(expected + near), near < 0 ? 1 : near > 0 ? -1 : 0);
    EXPECT_EQ(c.compare(std::numeric_limits<std::int64_t>::max()), -1);
    EXPECT_EQ(c.compare(std::numeric_limits<std::int64_t>::min()), 1);
}

constinit counter_tree* interrupted = nullptr;

TEST(counter_tree, sums_are_exact_when_handlers_add_to_the_same_counter) {
    auto made = counter_tree::create({.batch = 2, .arity = 2});
    ASSERT_TRUE(made) << made.error().line();
    counter_tree& c = **made;
    interrupted = &c;
    std::atomic<std::int64_t> expected{0};
    {
        const testing::interruptions every([] { interrupted->add(3); });
        in_threads(8, [&](int t) {
            std::int64_t mine = 0;
            for (int i = 0; i < scaled(500'000) || (t == 0 && testing::interruptions::so_far() == 0); ++i, ++mine) c.add(1);
            expected += mine;
        });
    }
    EXPECT_GT(testing::interruptions::so_far(), 0);
    EXPECT_EQ(c.sum(), expected + 3 * testing::interruptions::so_far());
    EXPECT_LT(std::abs(c.read() - c.sum()), c.bound());
}

TEST(counter_tree, refuses_what_is_no_power_of_two) {
    for (const counter_tree_options bad : {counter_tree_options{.batch = 0}, {.batch = 3}, {.batch = -8}, {.batch = 1 << 21}, {.arity = 1}, {.arity = 6}, {.arity = 2048}}) {
        const auto c = counter_tree::create(bad);
        ASSERT_FALSE(c);
        EXPECT_EQ(c.error().code, EINVAL);
    }
    EXPECT_EQ(counter_tree::create({.batch = 48}).error().line(), "percpu counter tree: create: EINVAL: batch is 48, not a power of two from 1 to 2^20");
    EXPECT_DEATH(carry_tree(0, 1, 2), "needs leaves");
}

}  // namespace
}  // namespace cohort::percpu
