// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include <cohort/percpu/testing/chunk_index_model.hpp>

namespace cohort::percpu::testing {
namespace {

using chunk = chunk_index_model::chunk;
std::unique_ptr<chunk> make(chunk_kind kind = chunk_kind::ordinary) { return std::make_unique<chunk>(kind); }
#define EXPECT_SOUND(index) EXPECT_EQ((index).check_invariants(), "")

// ---- Search order

TEST(slots, a_size_has_the_kernels_slot) {
    EXPECT_EQ(slot_of_bytes(4), 1);
    EXPECT_EQ(slot_of_bytes(15), 1);
    EXPECT_EQ(slot_of_bytes(16), 2);
    EXPECT_EQ(slot_of_bytes(32), 3);
    EXPECT_EQ(slot_of_bytes(4096), 10);
    EXPECT_LT(last_sized_slot, sidelined_slot);
    EXPECT_LT(sidelined_slot, free_slot);
    EXPECT_LT(free_slot, to_depopulate_slot);
}

TEST(slots, the_fullest_chunk_that_fits_serves_and_an_unused_one_last) {
    chunk_index index;
    auto a = make(), b = make(), c = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(unit_bits - 100, 1, false));
    index.insert(b->node);
    ASSERT_EQ(index.alloc(200, 1, false)->chunk, &b->node);
    index.insert(c->node);
    EXPECT_EQ(index.alloc(100, 1, false)->chunk, &a->node);
    EXPECT_EQ(a->node.slot, 0);
    EXPECT_EQ(index.alloc(1, 1, false)->chunk, &b->node);
    EXPECT_EQ(index.alloc(unit_bits, 1, false)->chunk, &c->node);
    EXPECT_EQ(index.alloc(unit_bits, 1, false), std::nullopt);
    EXPECT_SOUND(index);
}

TEST(slots, a_chunk_of_crumbs_that_misses_is_not_tried_again_before_a_free) {
    chunk_index index;
    auto a = make();
    index.insert(a->node);
    for (int i = 0; i < unit_bits / 2; ++i) ASSERT_TRUE(index.alloc(1, 2, false));
    EXPECT_EQ(a->node.slot, 1);
    EXPECT_FALSE(index.alloc(1, 2, true));
    EXPECT_EQ(a->node.slot, 1) << "a search of populated blocks says nothing about the others";
    EXPECT_FALSE(index.alloc(1, 2, false));
    EXPECT_EQ(a->node.slot, 0);
    EXPECT_SOUND(index);
    EXPECT_FALSE(index.alloc(1, 1, false));
    index.free(a->node, 100);
    EXPECT_EQ(a->node.slot, 1);
    EXPECT_EQ(index.alloc(1, 2, false)->at, 100);
    EXPECT_SOUND(index);
}

TEST(slots, a_chunk_with_more_than_crumbs_keeps_its_slot_when_it_misses) {
    chunk_index index;
    auto a = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(unit_bits - 9, 1, false));
    EXPECT_EQ(a->node.slot, 3);  // 36 bytes
    EXPECT_FALSE(index.alloc(9, 8, false));
    EXPECT_EQ(a->node.slot, 3);
}

TEST(slots, chunks_that_just_miss_a_size_are_tried_once) {
    chunk_index index;
    std::vector<std::unique_ptr<chunk>> nearly;
    for (int i = 0; i < 20; ++i) {
        nearly.push_back(make());
        index.insert(nearly.back()->node);
        if (i > 0) {
            ASSERT_TRUE(index.alloc(unit_bits - 300, 1, false));
            continue;
        }
        ASSERT_TRUE(index.alloc(unit_bits - 500, 1, false));  // a list may have had one that fitted
        ASSERT_TRUE(index.alloc(200, 1, false));
    }
    ASSERT_EQ(nearly[0]->node.slot, slot_of_bytes(450 * min_alloc_bytes));
    auto fresh = make();
    index.insert(fresh->node);
    const auto tries = [&] {
        const auto before = index.figures().nr_tried;
        EXPECT_TRUE(index.alloc(450, 1, false));
        return index.figures().nr_tried - before;
    };
    EXPECT_EQ(tries(), 21);
    EXPECT_EQ(tries(), 1);
    EXPECT_EQ(tries(), 1);
    // What is free again is found again.
    index.free(nearly[7]->node, 0);
    EXPECT_EQ(index.alloc(unit_bits, 1, false)->chunk, &nearly[7]->node);
    EXPECT_SOUND(index);
}

TEST(slots, a_chunk_that_rises_goes_to_the_front_and_one_that_falls_to_the_tail) {
    chunk_index index;
    auto a = make(), b = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(unit_bits - 300, 1, false));
    ASSERT_TRUE(index.alloc(20, 1, false));  // a: 280 bits
    index.insert(b->node);
    const auto big = index.alloc(unit_bits - 300, 1, false);
    ASSERT_EQ(big->chunk, &b->node);
    EXPECT_EQ(b->node.slot, a->node.slot);
    EXPECT_EQ(b->node.prev, &a->node) << "fell: tail";
    const auto less = index.alloc(270, 1, false);
    ASSERT_EQ(less->chunk, &a->node);
    EXPECT_LT(a->node.slot, b->node.slot);
    index.free(a->node, less->at);
    EXPECT_EQ(a->node.slot, b->node.slot);
    EXPECT_EQ(b->node.prev, &a->node) << "rose: front";
    EXPECT_SOUND(index);
}

TEST(slots, a_reserved_chunk_serves_only_those_who_name_it) {
    chunk_index index;
    auto r = make(chunk_kind::reserved);
    r->map.set_populated({0, 10});
    index.insert(r->node);
    EXPECT_EQ(index.alloc(1, 1, false), std::nullopt);
    EXPECT_EQ(index.nr_empty_pop_pages(), 0);
    EXPECT_EQ(index.alloc_reserved(r->node, 4, 1, false), 0);
    EXPECT_EQ(index.figures().nr_cur_alloc, 1);
    EXPECT_EQ(index.free(r->node, 0).bits, 4);
    EXPECT_FALSE(index.next_population(1));
    EXPECT_FALSE(index.take_surplus(false));
    EXPECT_SOUND(index);
    auto ordinary = make();
    index.insert(ordinary->node);
    EXPECT_DEATH(index.alloc_reserved(ordinary->node, 4, 1, false), "not reserved");
    EXPECT_DEATH(index.insert(ordinary->node), "in an index already");
}

TEST(slots, a_wrong_free_changes_nothing) {
    chunk_index index;
    auto a = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(8, 1, false));
    EXPECT_EQ(index.free(a->node, 4).bits, -1);
    EXPECT_EQ(index.figures().nr_dealloc, 0);
    EXPECT_EQ(index.free(a->node, 0).bits, 8);
    EXPECT_EQ(index.free(a->node, 0).bits, -1);
    EXPECT_EQ(index.figures().nr_dealloc, 1);
    EXPECT_SOUND(index);
}

TEST(slots, figures_keep_the_extremes) {
    chunk_index index;
    auto a = make(), b = make();
    index.insert(a->node);
    index.insert(b->node);
    const auto p = index.alloc(3, 1, false);
    ASSERT_TRUE(index.alloc(50, 1, false));
    index.free(*p->chunk, p->at);
    index.remove(a->node);
    const index_figures& f = index.figures();
    EXPECT_EQ(f.nr_alloc, 2);
    EXPECT_EQ(f.nr_dealloc, 1);
    EXPECT_EQ(f.nr_cur_alloc, 1);
    EXPECT_EQ(f.nr_max_alloc, 2);
    EXPECT_EQ(f.nr_chunks, 1);
    EXPECT_EQ(f.nr_max_chunks, 2);
    EXPECT_EQ(f.min_alloc_size, 12);
    EXPECT_EQ(f.max_alloc_size, 200);
    EXPECT_SOUND(index);
}

// ---- Random sequences against the reference

std::uint64_t seed_of(const char* test) {
    const char* given = std::getenv("COHORT_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << test << ": COHORT_SEED=" << seed << '\n';
    return seed;
}

TEST(slots_random, tides_of_allocations_and_frees_with_balance_work_between_equal_the_reference) {
    const std::uint64_t seed = seed_of("tides");
    std::mt19937_64 random(seed);
    for (const int max_bits : {8192, 3000, 20000}) {
        auto model = std::make_unique<chunk_index_model>(12);
        for (int i = 0; i < 12000; ++i) {
            // The tide turns every 1,500 steps: mostly allocations, then mostly frees.
            const bool flood = i / 1500 % 2 == 0;
            const int dice = static_cast<int>(random() % 100);
            index_op op{.which = static_cast<std::uint32_t>(random())};
            if (dice < (flood ? 60 : 15)) op.kind = index_op::alloc;
            else if (dice < (flood ? 65 : 18)) op.kind = index_op::alloc_populated;
            else if (dice < (flood ? 66 : 19)) op.kind = index_op::alloc_reserved;
            else if (dice < 92) op.kind = index_op::free_live;
            else op.kind = static_cast<index_op::kind_t>(index_op::free_bad + random() % 5);
            op.bits = 1 + static_cast<int>(random() % static_cast<std::uint64_t>(random() % 3 ? std::max(max_bits / 32, 1) : max_bits));
            if (random() % 3 == 0) op.align = 1 << random() % 11;
            ASSERT_EQ(model->perform(op), "") << "step " << i << " seed " << seed;
            if (i % 500 != 0) continue;
            ASSERT_EQ(model->compare(), "") << "step " << i << " seed " << seed;
        }
        while (model->nr_live() > 0) ASSERT_EQ(model->perform({.kind = index_op::free_live, .which = static_cast<std::uint32_t>(random())}), "");
        ASSERT_EQ(model->perform({.kind = index_op::balance, .which = 1}), "");
        ASSERT_EQ(model->compare(), "");
        EXPECT_LE(model->nr_chunks(), 4u) << "first, reserved, one unused, one with the reserve";
        const auto& seen = model->seen;
        std::cout << "tides of " << max_bits << ": created " << seen.created << ", destroyed " << seen.destroyed << ", isolated " << seen.isolated << ", given back "
                  << seen.given_back << ", populated " << seen.populated << ", served by a sidelined " << seen.from_sidelined << ", refused " << seen.refused << '\n';
    }
}

}  // namespace
}  // namespace cohort::percpu::testing
