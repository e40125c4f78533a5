// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include <cohort/percpu/detail/bits.hpp>

namespace cohort::percpu::detail {
namespace {

constexpr int map_words = 8, map_bits = map_words * word_bits;

/// Runs of 1 .. longest bits, set and clear by turns; the words behind the map are clear, so that a look beyond its end is seen.
std::vector<word> random_map(std::mt19937_64& random, int longest) {
    std::vector<word> map(map_words + 2, 0);
    bool set = random() % 2;
    for (int at = 0; at < map_bits; set = !set) {
        for (int n = 1 + static_cast<int>(random() % static_cast<std::uint64_t>(longest)); n > 0 && at < map_bits; --n, ++at) {
            if (set) set_bit(map.data(), at);
        }
    }
    return map;
}

int first_place(const word* map, int from, int to, int bits, int align) {
    for (int at = (from + align - 1) / align * align; at + bits <= to; at += align) {
        int n = 0;
        while (n < bits && !test_bit(map, at + n)) ++n;
        if (n == bits) return at;
    }
    return -1;
}

class bits : public ::testing::Test {
protected:
    bits() {
        const char* given = std::getenv("COHORT_SEED");
        const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
        std::cout << "COHORT_SEED=" << seed << '\n';
        random.seed(seed);
    }
    int below(int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); }
    std::mt19937_64 random;
};

TEST_F(bits, find_clear_equals_a_look_at_every_place) {
    for (int i = 0; i < 20000; ++i) {
        const auto map = random_map(random, 1 + below(i % 2 ? 8 : 200));
        const int to = word_bits * (1 + below(map_words)), from = below(to + 1), align = 1 << below(9);
        const int size = 1 + below(i % 3 ? 70 : i % 5 ? 8 : 300);
        ASSERT_EQ(find_clear(map.data(), from, to, size, align), first_place(map.data(), from, to, size, align))
            << from << ".." << to << " bits " << size << " align " << align;
    }
}

TEST_F(bits, scans_equal_a_look_at_every_bit_and_stay_in_their_range) {
    for (int i = 0; i < 20000; ++i) {
        const auto map = random_map(random, 1 + below(i % 2 ? 4 : 200));
        const int to = below(map_bits + 1), from = below(to + 1);
        int set = from, clear = from, start = to;
        while (set < to && !test_bit(map.data(), set)) ++set;
        while (clear < to && test_bit(map.data(), clear)) ++clear;
        while (start > from && !test_bit(map.data(), start - 1)) --start;
        ASSERT_EQ(next_set(map.data(), from, to), set) << from << ".." << to;
        ASSERT_EQ(next_clear(map.data(), from, to), clear) << from << ".." << to;
        ASSERT_EQ(clear_before(map.data(), from, to), start) << from << ".." << to;
    }
}

TEST_F(bits, for_each_word_covers_its_range_once_and_nothing_else) {
    for (int i = 0; i < 5000; ++i) {
        const int from = below(map_bits), to = from + 1 + below(map_bits - from);
        std::vector<word> map(map_words, 0);
        for_each_word(map.data(), from, to, [](word& w, word mask) {
            EXPECT_EQ(w & mask, 0u);
            w |= mask;
        });
        for (int bit = 0; bit < map_bits; ++bit) ASSERT_EQ(test_bit(map.data(), bit), bit >= from && bit < to) << from << ".." << to;
    }
}

}  // namespace
}  // namespace cohort::percpu::detail
