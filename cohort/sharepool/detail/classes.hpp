// SPDX-License-Identifier: Apache-2.0
/// Sizes of blocks: what an object is rounded up to, and how many of it stand in a superblock and in a magazine.
///
/// Steps of an eighth to a quarter of the size: at most a fifth of a block is lost, 11 % on average. Sizes that are multiples of a power of two are aligned to it, since superblocks
/// begin at a multiple of 64 KiB.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace cohort::sharepool::detail {

inline constexpr unsigned unit_shift = 16;
inline constexpr std::size_t unit_bytes = std::size_t{1} << unit_shift;
inline constexpr std::size_t largest_block = 32768;

inline constexpr std::array<std::uint16_t, 39> block_sizes = {
    32,   48,   64,   80,   96,   112,  128,  160,  192,  224,  256,  320,  384,   448,   512,   640,   768,   896,   1024,  1280,
    1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480, 24576, 28672, 32768};
inline constexpr unsigned classes = block_sizes.size();

/// At most this many blocks in a superblock: the tags of all and a bit for each have place on the superblock's card.
inline constexpr unsigned most_blocks = 1984;
/// At most this many items in a magazine, and so many that they hold at most 128 KiB.
inline constexpr unsigned most_items = 63;

inline constexpr unsigned reciprocal_bits = 42;

struct class_facts {
    std::uint32_t size;
    std::uint32_t units;       ///< of a superblock
    std::uint32_t blocks;      ///< in a superblock
    std::uint32_t items;       ///< a magazine's capacity
    std::uint64_t reciprocal;  ///< 2^42 / size, rounded up: distance x reciprocal >> 42 is the number of the block, for distances below 2^20
};

constexpr class_facts facts_of(unsigned c) {
    const std::uint32_t size = block_sizes[c];
    const std::uint32_t units = size <= 512 ? 1 : size <= 4096 ? 4 : 16;
    const auto fit = static_cast<std::uint32_t>(units * unit_bytes / size);
    const std::uint32_t items = 131072 / size;
    return {.size = size, .units = units, .blocks = fit < most_blocks ? fit : most_blocks, .items = items < most_items ? items : most_items,
            .reciprocal = ((std::uint64_t{1} << reciprocal_bits) + size - 1) / size};
}
inline constexpr auto class_table = [] {
    std::array<class_facts, classes> t{};
    for (unsigned c = 0; c < classes; ++c) t[c] = facts_of(c);
    return t;
}();

/// The class by (bytes + 15) / 16, for 0 to 1024 bytes; larger ones are found by search.
inline constexpr auto class_of_small = [] {
    std::array<std::uint8_t, 65> t{};
    for (unsigned i = 0; i < t.size(); ++i) {
        unsigned c = 0;
        while (block_sizes[c] < i * 16) ++c;
        t[i] = static_cast<std::uint8_t>(c);
    }
    return t;
}();

/// bytes: 0 to largest_block; 0 is as 1.
constexpr unsigned class_of(std::size_t bytes) {
    if (bytes <= 1024) return class_of_small[(bytes + 15) / 16];
    // Four classes between one power of two and the next.
    const unsigned top = 63 - static_cast<unsigned>(__builtin_clzll(bytes - 1));  // 2^top < bytes <= 2^(top + 1)
    const auto quarter = static_cast<unsigned>((bytes - 1 - (std::size_t{1} << top)) >> (top - 2));
    return 19 + (top - 10) * 4 + quarter;
}

static_assert([] {
    for (std::size_t b = 1; b <= largest_block; ++b) {
        const unsigned c = class_of(b);
        if (block_sizes[c] < b || (c > 0 && block_sizes[c - 1] >= b)) return false;
    }
    return true;
}());
static_assert([] {
    for (unsigned c = 0; c < classes; ++c) {
        for (std::uint64_t i = 0; i < class_table[c].blocks; ++i) {
            const std::uint64_t distance = i * class_table[c].size;
            if (distance * class_table[c].reciprocal >> reciprocal_bits != i || (distance + class_table[c].size - 1) * class_table[c].reciprocal >> reciprocal_bits != i) return false;
        }
    }
    return true;
}());

}  // namespace cohort::sharepool::detail
