// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <cohort/sharepool/broker/address_ranges.hpp>

namespace cohort::sharepool {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20, base = 0x550000000000;

TEST(address_ranges, gives_the_smallest_hole_that_fits_and_of_several_the_lowest) {
    address_ranges r({base, 40 * mib});
    for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(r.take(2 * mib), base + i * 2 * mib);
    EXPECT_EQ(r.take(1), std::nullopt);
    r.give({base + 2 * mib, 6 * mib});        // a hole of 6 MiB, and behind it two of 4
    r.give({base + 20 * mib, 4 * mib});
    r.give({base + 12 * mib, 4 * mib});
    EXPECT_EQ(r.largest(), 6 * mib);
    EXPECT_EQ(r.take(3 * mib), base + 12 * mib);  // 4 MiB
    EXPECT_EQ(r.take(4 * mib), base + 20 * mib);
    EXPECT_EQ(r.take(4 * mib), base + 2 * mib);
    EXPECT_EQ(r.take(4 * mib), std::nullopt);     // 2 MiB are left
    EXPECT_EQ(r.free_bytes(), 2 * mib);
    EXPECT_EQ(r.fault(), "");
}

TEST(address_ranges, what_comes_back_joins_its_neighbours) {
    address_ranges r({base, 8 * mib});
    ASSERT_TRUE(r.take(8 * mib));
    EXPECT_EQ(r.largest(), 0u);
    r.give({base, 2 * mib});
    r.give({base + 6 * mib, 2 * mib});
    r.give({base + 4 * mib, 2 * mib});
    EXPECT_EQ(r.largest(), 4 * mib);
    r.give({base + 2 * mib, 2 * mib});
    EXPECT_EQ(r.largest(), 8 * mib);
    EXPECT_EQ(r.fault(), "");
}

TEST(address_ranges, a_range_of_ones_own_is_taken_only_if_all_of_it_is_free) {
    address_ranges r({base, 16 * mib});
    EXPECT_TRUE(r.take_at({base + 4 * mib, 4 * mib}));
    for (const address_range wrong : {address_range{base + 4 * mib, 4 * mib}, {base + 2 * mib, 4 * mib}, {base + 6 * mib, 4 * mib}, {base - 2 * mib, 4 * mib}, {base + 14 * mib, 4 * mib}, {base, 0},
                                      {base + mib, 2 * mib}, {base, mib}, {base + 8 * mib, ~std::uint64_t{0} - 2 * mib + 1}, {0, 2 * mib}}) {
        EXPECT_FALSE(r.take_at(wrong)) << std::hex << wrong.base << " + " << wrong.bytes;
    }
    EXPECT_TRUE(r.take_at({base, 4 * mib}));
    EXPECT_TRUE(r.take_at({base + 8 * mib, 8 * mib}));
    EXPECT_EQ(r.free_bytes(), 0u);
    EXPECT_EQ(r.fault(), "");
}

TEST(address_ranges, a_window_that_is_no_multiple_is_used_inside_and_none_is_empty) {
    address_ranges r({base + 1, 6 * mib});
    EXPECT_EQ(r.whole(), (address_range{base + 2 * mib, 4 * mib}));
    for (const address_range nothing : {address_range{base, 0}, {base, mib}, {base + 1, 3 * mib}, {0, 0}}) {
        address_ranges none(nothing);
        EXPECT_EQ(none.free_bytes(), 0u);
        EXPECT_EQ(none.take(1), std::nullopt);
    }
    EXPECT_EQ(r.take(0), std::nullopt);
    EXPECT_EQ(r.take(~std::uint64_t{0}), std::nullopt);
}

TEST(address_ranges_death, giving_back_what_is_free_or_foreign_is_a_bug) {
    address_ranges r({base, 8 * mib});
    ASSERT_EQ(r.take(4 * mib), base);
    EXPECT_DEATH(r.give({base + 4 * mib, 2 * mib}), "is free");
    EXPECT_DEATH(r.give({base + 2 * mib, 4 * mib}), "is free");
    EXPECT_DEATH(r.give({base - 2 * mib, 2 * mib}), "never given out");
    EXPECT_DEATH(r.give({base, 16 * mib}), "never given out");
    EXPECT_DEATH(r.give({base, 0}), "never given out");
}

/// Against a bit for each granule.
TEST(address_ranges_model, random_takes_and_gives_are_those_of_a_bit_map) {
    const char* given = std::getenv("COHORT_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "COHORT_SEED=" << seed << '\n';
    std::mt19937_64 random(seed);
    constexpr std::uint64_t granules = 64, g = address_ranges::granule;
    address_ranges real({base, granules * g});
    std::vector<bool> taken(granules);
    std::vector<address_range> held;
    const auto hole_at = [&](std::uint64_t i) {
        std::uint64_t n = 0;
        while (i + n < granules && !taken[i + n]) ++n;
        return n;
    };
    const auto mark = [&](address_range r, bool to) {
        for (std::uint64_t i = (r.base - base) / g; i < (r.end() - base) / g; ++i) taken[i] = to;
    };
    for (int step = 0; step < 100'000; ++step) {
        const std::uint64_t n = 1 + random() % 9;
        switch (random() % 3) {
            case 0: {
                std::pair<std::uint64_t, std::uint64_t> best{granules + 1, 0};
                for (std::uint64_t i = 0; i < granules; i += hole_at(i) + 1) {
                    if (hole_at(i) >= n) best = std::min(best, {hole_at(i), i});
                }
                const auto got = real.take(n * g - random() % g);
                ASSERT_EQ(got, best.first > granules ? std::nullopt : std::optional(base + best.second * g)) << "COHORT_SEED=" << seed << ", step " << step;
                if (got) held.push_back({*got, n * g}), mark(held.back(), true);
                break;
            }
            case 1: {
                const std::uint64_t at = random() % granules;
                const address_range r{base + at * g, n * g};
                ASSERT_EQ(real.take_at(r), hole_at(at) >= n) << "COHORT_SEED=" << seed << ", step " << step;
                if (hole_at(at) >= n) held.push_back(r), mark(r, true);
                break;
            }
            default:
                if (held.empty()) break;
                std::swap(held[random() % held.size()], held.back());
                real.give(held.back());
                mark(held.back(), false);
                held.pop_back();
        }
        ASSERT_EQ(real.fault(), "") << "COHORT_SEED=" << seed << ", step " << step;
    }
}

}  // namespace
}  // namespace cohort::sharepool
