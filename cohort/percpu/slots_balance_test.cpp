// SPDX-License-Identifier: Apache-2.0
// What the balance work decides: destroy, isolate, give back, populate.
#include <gtest/gtest.h>

#include <cohort/percpu/testing/chunk_index_model.hpp>

namespace cohort::percpu::testing {
namespace {

using chunk = chunk_index_model::chunk;
std::unique_ptr<chunk> make(chunk_kind kind = chunk_kind::ordinary) { return std::make_unique<chunk>(kind); }
#define EXPECT_SOUND(index) EXPECT_EQ((index).check_invariants(), "")

/// Takes everything of a chunk in areas of one block; they are block b's at b * block_bits.
void fill(chunk_index& index, chunk& c) {
    for (int b = 0; b < blocks; ++b) {
        const auto p = index.alloc(block_bits, block_bits, false);
        ASSERT_TRUE(p && p->chunk == &c.node);
        index.set_populated(c.node, {p->at / block_bits, p->at / block_bits + 1});
    }
}

TEST(slots_balance, exactly_one_unused_chunk_is_kept) {
    chunk_index index;
    auto a = make(), b = make(), c = make();
    index.insert(a->node);
    index.insert(b->node);
    index.insert(c->node);  // c is the head, then b, then a
    index.set_populated(b->node, {0, 1});
    EXPECT_TRUE(index.wants_balance());
    EXPECT_EQ(index.take_surplus(true), &a->node);
    EXPECT_EQ(index.take_surplus(true), nullptr);
    EXPECT_EQ(index.take_surplus(false), &b->node);
    EXPECT_EQ(index.take_surplus(false), nullptr);
    EXPECT_EQ(index.figures().nr_chunks, 1);
    EXPECT_EQ(index.nr_empty_pop_pages(), 0);
    EXPECT_SOUND(index);
}

TEST(slots_balance, the_free_that_leaves_a_second_unused_chunk_asks_for_it) {
    chunk_index index;
    auto a = make(), b = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(unit_bits, 1, false));
    index.insert(b->node);
    ASSERT_TRUE(index.alloc(1, 1, false));
    EXPECT_FALSE(index.free(b->node, 0).balance);
    EXPECT_TRUE(index.free(a->node, 0).balance);
}

TEST(slots_balance, the_only_unused_chunk_stays_whatever_it_has_populated) {
    chunk_index index;
    auto a = make(), b = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(unit_bits, 1, false));
    index.set_populated(a->node, {0, blocks});
    index.insert(b->node);
    ASSERT_TRUE(index.alloc(1, 1, false));
    index.set_populated(b->node, {0, 20});
    EXPECT_FALSE(index.free(a->node, 0).balance);
    EXPECT_EQ(a->node.slot, free_slot);
    EXPECT_SOUND(index);
}

/// Chunk a: full, populated. Chunk b: populated, empty but for one area, so that the reserve is elsewhere.
struct two_chunks {
    explicit two_chunks(chunk_kind kind, int reserve) : a(make(kind)), b(make()) {
        index.insert(a->node);
        fill(index, *a);
        index.insert(b->node);
        b_area = *index.alloc(1, 1, false);
        index.set_populated(b->node, {0, 1 + reserve});
    }
    chunk_index index;
    std::unique_ptr<chunk> a, b;
    placement b_area;
};

TEST(slots_balance, a_chunk_is_isolated_at_a_quarter_of_its_blocks_if_others_keep_the_reserve) {
    two_chunks t(chunk_kind::ordinary, empty_pop_pages_high + 1);
    for (int b = 0; b < blocks / 4 - 1; ++b) EXPECT_FALSE(t.index.free(t.a->node, b * block_bits).balance);
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_TRUE(t.index.free(t.a->node, 63 * block_bits).balance);
    EXPECT_TRUE(t.a->node.isolated);
    EXPECT_EQ(t.a->node.slot, to_depopulate_slot);
    EXPECT_EQ(t.index.nr_empty_pop_pages(), empty_pop_pages_high + 1);
    EXPECT_TRUE(t.index.wants_balance());
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, a_chunk_whose_blocks_are_the_reserve_is_not_isolated) {
    two_chunks t(chunk_kind::ordinary, empty_pop_pages_high);
    for (int b = 0; b < 63; ++b) EXPECT_FALSE(t.index.free(t.a->node, b * block_bits).balance) << b;
    EXPECT_FALSE(t.a->node.isolated);
}

TEST(slots_balance, the_first_chunk_is_never_isolated_nor_destroyed) {
    two_chunks t(chunk_kind::first, 30);
    for (int b = 0; b < blocks; ++b) EXPECT_FALSE(t.index.free(t.a->node, b * block_bits).balance) << b;
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_EQ(t.a->node.slot, last_sized_slot);
    t.index.free(t.b->node, 0);
    EXPECT_EQ(t.index.take_surplus(false), nullptr);
    EXPECT_SOUND(t.index);
}

struct isolated_chunk : two_chunks {
    isolated_chunk() : two_chunks(chunk_kind::ordinary, empty_pop_pages_high + 1) {
        for (int n : {60, 61, 40, 41, 42}) index.free(a->node, n * block_bits);
        for (int n = 0; n < 11; ++n) index.free(a->node, n * block_bits);
        EXPECT_TRUE(a->node.isolated);
    }
};

TEST(slots_balance, an_isolated_chunk_serves_nobody_until_it_is_sidelined_and_then_comes_back) {
    isolated_chunk t;
    const auto p = t.index.alloc(block_bits, block_bits, false);
    EXPECT_EQ(p->chunk, &t.b->node);
    auto d = t.index.next_depopulation();
    ASSERT_TRUE(d);
    EXPECT_EQ(d->chunk, &t.a->node);
    EXPECT_EQ(d->blocks, (block_run{60, 62}.set() | block_run{40, 43}.set() | block_run{0, 11}.set()));
    EXPECT_EQ(last_run(d->blocks), (block_run{60, 62}));
    t.index.depopulated(t.a->node, d->blocks);
    EXPECT_EQ(t.a->node.slot, sidelined_slot);
    EXPECT_EQ(t.a->map.nr_populated(), blocks - 16);
    EXPECT_FALSE(t.index.next_depopulation());
    EXPECT_SOUND(t.index);

    ASSERT_TRUE(t.index.alloc(t.b->map.contig_hint(), 1, false));  // b is full
    const auto q = t.index.alloc(11 * block_bits, 1, false);
    ASSERT_TRUE(q);
    EXPECT_EQ(q->chunk, &t.a->node);
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, a_sidelined_chunk_that_gets_an_empty_block_is_depopulated_again_down_to_nothing) {
    isolated_chunk t;
    t.index.depopulated(t.a->node, t.index.next_depopulation()->blocks);
    for (int b = 0; b < blocks; ++b) {
        if (t.a->map.size_at(b * block_bits) == 0) continue;
        EXPECT_TRUE(t.index.free(t.a->node, b * block_bits).balance);
        EXPECT_EQ(t.a->node.slot, to_depopulate_slot);
        const auto d = t.index.next_depopulation();
        ASSERT_TRUE(d);
        EXPECT_EQ(d->blocks, (block_run{b, b + 1}.set()));
        t.index.depopulated(t.a->node, d->blocks);
    }
    EXPECT_EQ(t.a->node.slot, free_slot);
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_EQ(t.a->map.nr_populated(), 0);
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, a_sidelined_chunk_that_is_freed_without_a_populated_block_is_an_unused_one) {
    isolated_chunk t;
    t.index.depopulated(t.a->node, t.index.next_depopulation()->blocks);
    t.index.clear_populated(t.a->node, {0, blocks});
    for (int b = 0; b < blocks; ++b) t.index.free(t.a->node, b * block_bits);
    EXPECT_EQ(t.a->node.slot, free_slot);
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, an_isolated_chunk_that_is_freed_without_a_populated_block_is_an_unused_one) {
    isolated_chunk t;
    t.index.clear_populated(t.a->node, {0, blocks});
    for (int b = 0; b < blocks; ++b) t.index.free(t.a->node, b * block_bits);
    EXPECT_FALSE(t.index.next_depopulation());
    EXPECT_EQ(t.a->node.slot, free_slot);
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, an_isolated_chunk_that_is_removed_takes_nothing_from_the_reserve) {
    isolated_chunk t;
    t.index.remove(t.a->node);
    EXPECT_EQ(t.index.nr_empty_pop_pages(), empty_pop_pages_high + 1);
    EXPECT_FALSE(t.a->node.isolated);
}

TEST(slots_balance, depopulation_ends_and_chunks_return_when_the_reserve_is_gone) {
    isolated_chunk t;
    t.index.clear_populated(t.b->node, {1, 3});  // three are left
    EXPECT_FALSE(t.index.next_depopulation());
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_EQ(t.index.nr_empty_pop_pages(), 3 + 16);
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, blocks_that_cannot_be_given_back_return_to_use) {
    isolated_chunk t;
    ASSERT_TRUE(t.index.next_depopulation());
    t.index.depopulated(t.a->node, 0);
    EXPECT_FALSE(t.a->node.isolated);
    EXPECT_EQ(t.a->map.nr_populated(), blocks);
    EXPECT_FALSE(t.index.next_depopulation());
    EXPECT_DEATH(t.index.depopulated(t.a->node, 1), "may serve");
    EXPECT_SOUND(t.index);
}

TEST(slots_balance, blocks_in_use_are_not_given_back) {
    isolated_chunk t;
    ASSERT_TRUE(t.index.next_depopulation());
    EXPECT_DEATH(t.index.depopulated(t.a->node, block_run{59, 60}.set()), "in use");
}

TEST(slots_balance, the_reserve_is_filled_from_the_fullest_chunk_and_then_from_a_new_one) {
    chunk_index index;
    EXPECT_TRUE(index.wants_balance());
    EXPECT_EQ(index.take_population_wanted(), empty_pop_pages_high);
    EXPECT_FALSE(index.next_population(1)) << "no chunk";
    auto a = make(), b = make();
    index.insert(a->node);
    ASSERT_TRUE(index.alloc(62 * block_bits + 1, 1, false));  // one empty block is left
    index.insert(b->node);
    ASSERT_TRUE(index.alloc(block_bits, 1, false));  // of the fullest: not populated, not empty any more
    ASSERT_EQ(a->map.empty_blocks(), block_set{0});
    index.free(a->node, 63 * block_bits - block_bits + 1);
    const auto p = index.next_population(4);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->chunk, &a->node);
    EXPECT_EQ(p->run, (block_run{63, 64}));
    index.set_populated(*p->chunk, p->run);
    const auto q = index.next_population(3);
    EXPECT_EQ(q->chunk, &b->node);
    EXPECT_EQ(q->run, (block_run{0, 3}));
    index.set_populated(*q->chunk, q->run);
    EXPECT_EQ(index.take_population_wanted(), 0);
    EXPECT_FALSE(index.wants_balance());
    index.clear_populated(b->node, {0, 2});
    EXPECT_EQ(index.nr_empty_pop_pages(), empty_pop_pages_low);
    EXPECT_FALSE(index.wants_balance());
    index.clear_populated(b->node, {2, 3});
    EXPECT_TRUE(index.wants_balance());
    EXPECT_EQ(index.take_population_wanted(), empty_pop_pages_high - 1);
    EXPECT_SOUND(index);
}

TEST(slots_balance, a_refused_allocation_of_populated_blocks_asks_for_a_full_reserve_once) {
    chunk_index index;
    auto a = make();
    index.insert(a->node);
    index.set_populated(a->node, {0, 4});
    EXPECT_EQ(index.take_population_wanted(), 0);
    EXPECT_TRUE(index.alloc(4 * block_bits, 1, true));
    index.set_populated(a->node, {8, 12});
    EXPECT_FALSE(index.wants_balance());
    EXPECT_FALSE(index.alloc(5 * block_bits, 1, true));
    EXPECT_TRUE(index.wants_balance());
    EXPECT_EQ(index.take_population_wanted(), empty_pop_pages_high);
    EXPECT_EQ(index.take_population_wanted(), 0);
}

TEST(slots_balance, a_sidelined_chunk_that_is_populated_is_in_use_again) {
    isolated_chunk t;
    t.index.depopulated(t.a->node, t.index.next_depopulation()->blocks);
    ASSERT_TRUE(t.index.alloc(t.b->map.contig_hint(), 1, false));
    const auto p = t.index.next_population(2);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->chunk, &t.a->node);
    EXPECT_EQ(p->run, (block_run{0, 2}));
    t.index.set_populated(*p->chunk, p->run);
    EXPECT_EQ(t.index.nr_empty_pop_pages(), 2);
    EXPECT_SOUND(t.index);
}

}  // namespace
}  // namespace cohort::percpu::testing
