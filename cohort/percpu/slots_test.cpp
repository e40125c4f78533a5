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

/// Takes everything of a chunk in areas of one block; they are block b's at b * block_bits.
void fill(chunk_index& index, chunk& c) {
    for (int b = 0; b < blocks; ++b) {
        const auto p = index.alloc(block_bits, block_bits, false);
        ASSERT_TRUE(p && p->chunk == &c.node);
        index.set_populated(c.node, {p->at / block_bits, p->at / block_bits + 1});
    }
}

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

// ---- Balance

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
