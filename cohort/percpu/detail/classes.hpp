// SPDX-License-Identifier: Apache-2.0
/// The sizes that magazines keep: a step of at most a quarter, so that at most a fifth of an object is lost; each as aligned as its size allows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <cohort/percpu/detail/limits.hpp>

namespace cohort::percpu::detail {

inline constexpr std::array<std::uint16_t, 22> class_bytes = {4,   8,   12,  16,  24,  32,  40,  48,  64,  80,  96,
                                                             128, 160, 192, 256, 320, 384, 512, 640, 768, 896, 1024};
inline constexpr int classes = static_cast<int>(class_bytes.size());
inline constexpr int largest_class_bytes = class_bytes.back();

/// The alignment of all objects of a class: the largest power of two in its size, at most a cache line.
constexpr std::size_t class_align(int c) {
    const std::size_t bytes = class_bytes[static_cast<std::size_t>(c)], power = bytes & (~bytes + 1);
    return power < 64 ? power : 64;
}
/// How many objects a CPU's stack holds, and how many move between it and the maps at a time.
constexpr std::uint32_t class_capacity(int c) {
    const std::uint32_t n = (32u << 10) / class_bytes[static_cast<std::size_t>(c)];
    return n > 128 ? 128 : n < 16 ? 16 : n;
}
/// The same, for classes that are known at run time only.
constexpr std::array<std::uint32_t, classes> make_capacities() {
    std::array<std::uint32_t, classes> out{};
    for (int c = 0; c < classes; ++c) out[static_cast<std::size_t>(c)] = class_capacity(c);
    return out;
}
inline constexpr auto class_capacities = make_capacities();
constexpr std::uint32_t class_batch(int c) { return class_capacity(c) / 2; }
/// How many come from the maps when a stack is empty: what fits 256 bytes, whose tags are one cache line, which CPUs that take one object each would share
/// (percpu/alloc_free/64B/2t: 7 ns, not 3). What is made one after the other lives and dies together, as a rule; longer runs of one
/// size would spread it over as many pages as it has sizes, none of which becomes empty (percpu/survivors: 36 % of the pages stay, not 26 %).
constexpr std::uint32_t class_refill(int c) {
    const std::uint32_t n = 256u / class_bytes[static_cast<std::size_t>(c)];
    return n > class_batch(c) ? class_batch(c) : n < 1 ? 1 : n;
}

/// Where a class's stack stands in a CPU's block: {word, items ...}, on cache lines of its own, and never on the first line of 4 KiB. There, that is at this
/// distance from the block modulo 4 KiB, stands the block's entry in the table (block_colour): a processor that guesses by the lower 12 bits of an address what was
/// stored a moment ago would take the one for the other, which costs half of a nanosecond.
inline constexpr std::uint32_t alias_bytes = 4096;
/// Where in 4 KiB the table's entries begin: far from the first objects that a chunk gives out.
inline constexpr std::size_t table_colour = 0xe00;
constexpr std::array<std::uint32_t, classes + 1> make_stack_places() {
    std::array<std::uint32_t, classes + 1> at{};
    std::uint32_t next = 0;
    for (int c = 0; c < classes; ++c) {
        const std::uint32_t bytes = (8 + 8 * class_capacity(c) + 63) / 64 * 64;
        if (next % alias_bytes == 0 || next % alias_bytes + bytes > alias_bytes) next = (next + alias_bytes - 1) / alias_bytes * alias_bytes + 64;
        at[static_cast<std::size_t>(c)] = next;
        next += bytes;
    }
    at[classes] = next;
    return at;
}
inline constexpr auto stack_places = make_stack_places();
/// Where in 4 KiB the block of a CPU begins; the rest of its entry's place in the table, to whole cache lines.
constexpr std::size_t block_colour(unsigned cpu) { return (table_colour + cpu * sizeof(std::uintptr_t)) % alias_bytes / 64 * 64; }
inline constexpr std::size_t magazine_block_bytes = stack_places[classes] + alias_bytes - 64;

constexpr std::array<std::uint8_t, largest_class_bytes / 4 + 1> make_class_table() {
    std::array<std::uint8_t, largest_class_bytes / 4 + 1> table{};
    int c = 0;
    for (int words = 1; words <= largest_class_bytes / 4; ++words) {
        while (class_bytes[static_cast<std::size_t>(c)] < words * 4) ++c;
        table[static_cast<std::size_t>(words)] = static_cast<std::uint8_t>(c);
    }
    return table;
}
inline constexpr auto class_table = make_class_table();

/// The class for a legal size and alignment; -1: the maps serve it.
constexpr int class_for(std::size_t size, std::size_t align) {
    if (align > 64 || size > static_cast<std::size_t>(largest_class_bytes)) return -1;
    int c = class_table[(size + 3) / 4];
    while (c < classes && class_align(c) < align) ++c;
    return c < classes ? c : -1;
}

/// The same as a table, for sizes that are known at run time: by the logarithm of the alignment, then by words; `classes`: none.
constexpr auto make_class_tables() {
    std::array<std::array<std::uint8_t, largest_class_bytes / 4 + 1>, 7> tables{};
    for (std::size_t shift = 0; shift < tables.size(); ++shift) {
        for (std::size_t words = 1; words < tables[shift].size(); ++words) {
            const int c = class_for(words * 4, std::size_t{1} << shift);
            tables[shift][words] = static_cast<std::uint8_t>(c >= 0 ? c : classes);
        }
    }
    return tables;
}
inline constexpr auto class_tables = make_class_tables();

static_assert(class_for(1, 1) == 0 && class_for(64, 64) == 8 && class_for(1024, 64) == classes - 1 && class_for(1025, 8) == -1);
static_assert(class_bytes[static_cast<std::size_t>(class_for(24, 16))] == 32 && class_bytes[static_cast<std::size_t>(class_for(4, 64))] == 64);

}  // namespace cohort::percpu::detail
