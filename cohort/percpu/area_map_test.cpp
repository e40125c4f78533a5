// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>

#include <cohort/percpu/testing/area_map_model.hpp>

namespace cohort::percpu::testing {
namespace {

std::uint64_t seed_of(const char* test) {
    const char* given = std::getenv("COHORT_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << test << ": COHORT_SEED=" << seed << '\n';
    return seed;
}

using map_ptr = std::unique_ptr<area_map>;
map_ptr whole() { return std::make_unique<area_map>(); }
#define EXPECT_SOUND(m) EXPECT_EQ((m).check_invariants(), "")

// ---- Edges

TEST(area_map, a_new_one_is_one_free_run) {
    auto m = whole();
    EXPECT_EQ(m->free_bits(), unit_bits);
    EXPECT_EQ(m->contig_hint(), unit_bits);
    EXPECT_EQ(m->first_bit(), 0);
    EXPECT_TRUE(m->fully_free());
    EXPECT_EQ(m->nr_pages(), blocks);
    EXPECT_EQ(m->nr_populated(), 0);
    EXPECT_SOUND(*m);
}

TEST(area_map, the_whole_unit_is_one_area) {
    auto m = whole();
    EXPECT_EQ(m->alloc(unit_bits, block_bits, false), 0);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->contig_hint(), 0);
    EXPECT_EQ(m->first_bit(), unit_bits);
    EXPECT_FALSE(m->may_fit(1, 1));
    EXPECT_EQ(m->alloc(1, 1, false), std::nullopt);
    EXPECT_EQ(m->size_at(0), unit_bits);
    EXPECT_EQ(m->free(0), unit_bits);
    EXPECT_TRUE(m->fully_free());
    EXPECT_SOUND(*m);
}

TEST(area_map, a_full_one_refuses_and_serves_again_after_one_free) {
    auto m = whole();
    for (int i = 0; i < unit_bits; ++i) ASSERT_EQ(m->alloc(1, 1, false), i);
    EXPECT_EQ(m->alloc(1, 1, false), std::nullopt);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->free(40000), 1);
    EXPECT_EQ(m->alloc(2, 1, false), std::nullopt);
    EXPECT_EQ(m->alloc(1, 1, false), 40000);
    EXPECT_SOUND(*m);
}

TEST(area_map, an_area_spans_blocks_and_frees_join_over_their_borders) {
    auto m = whole();
    EXPECT_EQ(m->alloc(1000, 1, false), 0);
    EXPECT_EQ(m->alloc(3000, 1, false), 1000);  // blocks 0 to 3
    EXPECT_EQ(m->alloc(unit_bits - 4000, 1, false), 4000);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->free(1000), 3000);
    EXPECT_EQ(m->contig_hint(), 3000);
    EXPECT_EQ(std::popcount(m->empty_blocks()), 2);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->alloc(3000, 8, false), 1000);
    EXPECT_SOUND(*m);
}

TEST(area_map, contig_hint_is_exact_where_two_short_runs_meet_at_a_border) {
    auto m = whole();
    ASSERT_EQ(m->alloc(block_bits - 10, 1, false), 0);
    ASSERT_EQ(m->alloc(10, 1, false), block_bits - 10);
    ASSERT_EQ(m->alloc(10, 1, false), block_bits);
    ASSERT_EQ(m->alloc(unit_bits - block_bits - 10, 1, false), block_bits + 10);
    m->free(block_bits - 10);
    m->free(block_bits);
    EXPECT_EQ(m->contig_hint(), 20);
    EXPECT_EQ(m->alloc(20, 1, false), block_bits - 10);
    EXPECT_SOUND(*m);
}

TEST(area_map, alignment_of_a_page_is_kept) {
    auto m = whole();
    EXPECT_EQ(m->alloc(1, 1, false), 0);
    EXPECT_EQ(m->alloc(1, block_bits, false), block_bits);
    EXPECT_EQ(m->alloc(block_bits + 1, block_bits, false), 2 * block_bits);
    EXPECT_EQ(m->alloc(1, block_bits, false), 4 * block_bits);
    EXPECT_SOUND(*m);
    for (int b = 5; b < blocks; ++b) EXPECT_EQ(m->alloc(1, block_bits, false), b * block_bits);
    EXPECT_EQ(m->alloc(1, block_bits, false), std::nullopt);
    EXPECT_SOUND(*m);
}

TEST(area_map, four_bytes_at_eight_leave_holes_that_their_like_skips) {
    auto m = whole();
    for (int i = 0; i < unit_bits / 2; ++i) ASSERT_EQ(m->alloc(1, 2, false), 2 * i);
    EXPECT_FALSE(m->may_fit(1, 2));
    EXPECT_EQ(m->alloc(1, 2, false), std::nullopt);
    EXPECT_EQ(m->alloc(1, 1, false), 1);
    EXPECT_SOUND(*m);
}

TEST(area_map, of_two_runs_as_long_the_better_aligned_is_the_hint) {
    auto m = whole();
    for (int i = 0; i < 12; ++i) ASSERT_EQ(m->alloc(3, 1, false), 3 * i);
    ASSERT_EQ(m->alloc(unit_bits - 36, 1, false), 36);
    for (int at : {3, 24, 33}) m->free(at);
    EXPECT_EQ(m->alloc(3, 8, false), 24);
    EXPECT_SOUND(*m);
    for (int at : {9, 24}) m->free(at);
    EXPECT_EQ(m->alloc(3, 8, false), 24);
}

/// Everything is taken but these runs.
map_ptr with_runs(const std::vector<free_run>& runs) {
    auto m = whole();
    int at = 0;
    for (const free_run run : runs) {
        if (run.start > at) m->alloc_area(run.start - at, at);
        m->alloc_area(run.length, run.start);
        at = run.end();
    }
    if (at < unit_bits) m->alloc_area(unit_bits - at, at);
    for (const free_run run : runs) m->free(run.start);
    return m;
}

TEST(area_map, the_next_longest_run_is_found_a_bit_inside_a_block) {
    for (const int start : {3 * block_bits, 3 * block_bits + 1, 4 * block_bits - 51, 4 * block_bits - 50, 4 * block_bits - 25}) {
        auto m = with_runs({{start, 50}, {9 * block_bits + 100, 60}});
        ASSERT_EQ(m->contig_hint(), 60);
        ASSERT_EQ(m->alloc(60, 1, false), 9 * block_bits + 100);
        EXPECT_EQ(m->contig_hint(), 50);
        EXPECT_SOUND(*m);
        EXPECT_EQ(m->alloc(50, 1, false), start);
    }
}

TEST(area_map, an_empty_block_that_was_skipped_is_remembered) {
    auto m = with_runs({{block_bits, block_bits}, {3 * block_bits, 3 * block_bits}});
    ASSERT_EQ(m->alloc(2000, 1, false), 3 * block_bits);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->alloc(block_bits, 1, false), block_bits);
}

TEST(area_map, a_place_that_was_found_and_not_taken_is_found_again) {
    auto m = with_runs({{100, 10}, {2 * block_bits - 500, 1000}});
    EXPECT_EQ(m->find_fit(900, 1, false), 2 * block_bits - 500);
    EXPECT_SOUND(*m);
    EXPECT_EQ(m->find_fit(900, 1, false), 2 * block_bits - 500);
}

TEST(area_map, double_free_and_free_inside_an_area_change_nothing) {
    auto m = whole();
    ASSERT_EQ(m->alloc(8, 1, false), 0);
    ASSERT_EQ(m->alloc(2000, 1, false), 8);
    for (int at : {1, 7, 9, 2007, 2008, 5000, -1, -64, unit_bits, unit_bits + 1, 1 << 30, -(1 << 30)}) {
        EXPECT_EQ(m->free(at), -1) << at;
        EXPECT_EQ(m->size_at(at), 0) << at;
    }
    EXPECT_EQ(m->free_bits(), unit_bits - 2008);
    EXPECT_EQ(m->free(0), 8);
    EXPECT_EQ(m->free(0), -1);
    EXPECT_EQ(m->size_at(8), 2000);
    EXPECT_SOUND(*m);
}

TEST(area_map, hidden_prefix_and_suffix_are_never_handed_out_freed_or_populated) {
    constexpr int start = 3 * block_bits + 100, end = unit_bits - 2 * block_bits - 7;
    area_map m(start, end);
    EXPECT_SOUND(m);
    EXPECT_EQ(m.free_bits(), end - start);
    EXPECT_EQ(m.contig_hint(), end - start);
    EXPECT_TRUE(m.fully_free());
    EXPECT_EQ(m.nr_pages(), blocks - 5);
    EXPECT_EQ(m.next_unpopulated(0), (block_run{3, blocks - 2}));
    m.set_populated({0, blocks});
    EXPECT_EQ(m.nr_populated(), blocks - 5);
    EXPECT_EQ(m.nr_empty_pop_pages(), blocks - 7);  // the first and the last are partly hidden
    EXPECT_EQ(m.alloc(end - start, 1, false), start);
    EXPECT_EQ(m.first_bit(), end);
    for (int at : {0, start - 1, start + 1, end - 1, end, end + 1, unit_bits - 1}) EXPECT_EQ(m.free(at), -1) << at;
    EXPECT_EQ(m.size_at(start), end - start);
    EXPECT_SOUND(m);
    EXPECT_EQ(m.free(start), end - start);
    EXPECT_SOUND(m);
}

TEST(area_map, populated_only_never_leaves_populated_blocks) {
    auto m = whole();
    EXPECT_EQ(m->alloc(1, 1, true), std::nullopt);
    m->set_populated({5, 6});
    m->set_populated({9, 11});
    EXPECT_EQ(m->alloc(block_bits + 1, 1, true), 9 * block_bits);
    EXPECT_EQ(m->alloc(block_bits, 1, true), 5 * block_bits);
    EXPECT_EQ(m->alloc(block_bits, 1, true), std::nullopt);
    EXPECT_EQ(m->alloc(block_bits - 1, 1, true), 10 * block_bits + 1);
    EXPECT_EQ(m->alloc(1, 1, true), std::nullopt);
    EXPECT_EQ(m->alloc(1, 1, false), 0);
    EXPECT_SOUND(*m);
}

TEST(area_map, what_populated_only_skipped_is_found_by_others) {
    auto m = whole();
    m->set_populated({20, 21});
    EXPECT_EQ(m->alloc(16, 1, true), 20 * block_bits);
    EXPECT_EQ(m->alloc(16, 1, false), 0);
    EXPECT_SOUND(*m);
}

TEST(area_map, regions_of_populated_blocks_are_found_from_any_block) {
    auto m = whole();
    m->set_populated({2, 4});
    m->set_populated({60, 64});
    m->clear_populated({62, 63});
    EXPECT_EQ(m->next_populated(0), (block_run{2, 4}));
    EXPECT_EQ(m->next_populated(3), (block_run{3, 4}));
    EXPECT_EQ(m->next_populated(4), (block_run{60, 62}));
    EXPECT_EQ(m->next_populated(63), (block_run{63, 64}));
    EXPECT_EQ(m->next_populated(64), std::nullopt);
    EXPECT_EQ(m->next_unpopulated(0), (block_run{0, 2}));
    EXPECT_EQ(m->next_unpopulated(63), std::nullopt);
    EXPECT_EQ(m->nr_populated(), 5);
    EXPECT_TRUE(m->is_populated(2 * block_bits, 2 * block_bits));
    EXPECT_FALSE(m->is_populated(2 * block_bits, 2 * block_bits + 1));
    EXPECT_EQ(last_run(m->populated()), (block_run{63, 64}));
    EXPECT_EQ(last_run(0), std::nullopt);
    EXPECT_EQ(last_run(~block_set{0}), (block_run{0, 64}));
    EXPECT_EQ(first_run(~block_set{0}), (block_run{0, 64}));
}

TEST(area_map, empty_populated_blocks_are_counted_through_alloc_and_free) {
    auto m = whole();
    m->set_populated({0, 3});
    EXPECT_EQ(m->nr_empty_pop_pages(), 3);
    ASSERT_EQ(m->alloc(block_bits + 1, 1, false), 0);
    EXPECT_EQ(m->nr_empty_pop_pages(), 1);
    m->free(0);
    EXPECT_EQ(m->nr_empty_pop_pages(), 3);
    m->clear_populated({0, 64});
    EXPECT_EQ(m->nr_empty_pop_pages(), 0);
}

TEST(area_map, figures_count_fragments_below_the_last_area_only) {
    auto m = whole();
    for (int bits : {10, 20, 30, 40, 5}) ASSERT_TRUE(m->alloc(bits, 1, false));
    m->free(10);  // 20 bits
    m->free(60);  // 40 bits
    const area_figures f = m->figures();
    EXPECT_EQ(f.nr_alloc, 3);
    EXPECT_EQ(f.max_alloc_size, 160);
    EXPECT_EQ(f.first_bit, 10);
    EXPECT_EQ(f.sum_frag, 240);
    EXPECT_EQ(f.max_frag, 160);
    EXPECT_EQ(f.cur_min_alloc, 20);
    EXPECT_EQ(f.cur_med_alloc, 40);
    EXPECT_EQ(f.cur_max_alloc, 120);
    EXPECT_EQ(f.free_bytes, unit_bytes - 180);
}

TEST(area_map_death, an_alignment_that_is_no_power_of_two_is_a_bug) {
    auto m = whole();
    EXPECT_DEATH(m->alloc(1, 3, false), "illegal size or alignment");
    EXPECT_DEATH(m->alloc(1, 2 * block_bits, false), "illegal size or alignment");
    EXPECT_DEATH(m->alloc(0, 1, false), "illegal size or alignment");
    m->alloc(4, 1, false);
    EXPECT_DEATH(m->alloc_area(4, 3), "over one that is live");
    EXPECT_DEATH(area_map(5, 5), "no bits");
}

// ---- Random sequences against the reference

struct mix {
    const char* name;
    int max_bits;        // sizes are 1 .. max_bits, small ones more often
    int max_align_log2;  // alignments are powers of two up to it
    int free_percent;    // of the operations; the rest allocate, save a few
    int start = 0, end = unit_bits;
};

area_op random_op(std::mt19937_64& random, const mix& m) {
    area_op op;
    const int dice = static_cast<int>(random() % 100);
    op.which = static_cast<std::uint32_t>(random());
    if (dice < m.free_percent) op.kind = area_op::free_live;
    else if (dice < m.free_percent + 2) op.kind = area_op::free_any;
    else if (dice < m.free_percent + 4) op.kind = area_op::populate, op.which %= 5 * blocks;
    else if (dice < m.free_percent + 5) op.kind = area_op::unpopulate, op.which %= 5 * blocks;
    else if (dice < m.free_percent + 14) op.kind = area_op::alloc_populated;
    op.bits = 1 + static_cast<int>(random() % static_cast<std::uint64_t>(random() % 4 ? std::max(m.max_bits / 16, 1) : m.max_bits));
    if (random() % 2) op.align = 1 << random() % static_cast<std::uint64_t>(m.max_align_log2 + 1);
    return op;
}

void run_mix(const mix& m, int steps, int compare_every, std::uint64_t seed) {
    SCOPED_TRACE(std::string(m.name) + " seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto model = std::make_unique<area_map_model>(m.start, m.end);
    for (int i = 0; i < steps; ++i) {
        ASSERT_EQ(model->perform(random_op(random, m)), "") << "step " << i;
        if (i % compare_every != 0) continue;
        ASSERT_EQ(model->compare(), "") << "step " << i;
    }
    ASSERT_EQ(model->compare(), "");
    while (!model->live().empty()) ASSERT_EQ(model->perform({.kind = area_op::free_live, .which = static_cast<std::uint32_t>(random())}), "");
    ASSERT_EQ(model->compare(), "");
    ASSERT_TRUE(model->map.fully_free());
}

const mix mixes[] = {
    {"small", 64, 3, 45},
    {"any size", 8192, 10, 40},
    {"pages", 3000, 10, 48},
    {"bits in a small window", 8, 2, 47, 5 * block_bits - 40, 6 * block_bits + 40},
    {"crowded window over three blocks", 300, 8, 44, 7 * block_bits - 300, 9 * block_bits + 300},
    {"hidden ends", 700, 6, 46, 100, unit_bits - 5},
};

TEST(area_map_random, short_runs_equal_the_reference_after_every_step) {
    const std::uint64_t seed = seed_of("short runs");
    for (const mix& m : mixes) run_mix(m, 400, 1, seed);
}

TEST(area_map_random, long_runs_equal_the_reference) {
    const std::uint64_t seed = seed_of("long runs");
    for (const mix& m : mixes) run_mix(m, 12000, 400, seed + 1);
}

TEST(area_map_random, a_chunk_filled_to_the_brim_and_thinned_out_equals_the_reference) {
    std::uint64_t seed = seed_of("brim");
    std::mt19937_64 random(seed);
    auto model = std::make_unique<area_map_model>();
    for (int round = 0; round < 3; ++round) {
        for (int misses = 0; misses < 50;) {
            ASSERT_EQ(model->perform({.kind = area_op::alloc, .bits = 1 + static_cast<int>(random() % 400), .align = 1 << random() % 4}), "");
            misses += model->last_at() < 0;
        }
        ASSERT_EQ(model->compare(), "");
        for (std::size_t keep = model->live().size() / 11; model->live().size() > keep;) {
            ASSERT_EQ(model->perform({.kind = area_op::free_live, .which = static_cast<std::uint32_t>(random())}), "");
        }
        ASSERT_EQ(model->compare(), "");
    }
}

}  // namespace
}  // namespace cohort::percpu::testing
