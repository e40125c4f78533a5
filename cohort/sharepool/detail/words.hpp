// SPDX-License-Identifier: Apache-2.0
/// The words that tell who has what: tags of blocks, states of units, names of blocks. Values; the words themselves lie in the metadata (layout.hpp).
#pragma once

#include <cstdint>

#include <cohort/sharepool/detail/classes.hpp>

namespace cohort::sharepool::detail {

/// Whose a block or a run is: 12 bits slot in the table of members (0: nobody), 18 bits generation of the slot, and two bits of the block.
using tag = std::uint32_t;
inline constexpr tag nobody = 0;
inline constexpr tag free_bit = 1u << 31;    ///< on its way to being linked, or linked: a second free is found by it
inline constexpr tag shared_bit = 1u << 30;  ///< handed over: kept when its owner dies
inline constexpr unsigned slot_bits = 12, generation_bits = 18;

constexpr tag make_tag(std::uint32_t slot, std::uint32_t generation) { return slot | (generation & ((1u << generation_bits) - 1)) << slot_bits; }
constexpr tag owner_of(tag t) { return t & ~(free_bit | shared_bit); }
constexpr std::uint32_t slot_of(tag t) { return t & ((1u << slot_bits) - 1); }
constexpr std::uint32_t generation_of(tag t) { return owner_of(t) >> slot_bits; }

/// A block: its superblock's first unit, and its number there.
using item = std::uint32_t;
inline constexpr unsigned number_bits = 11;
constexpr item make_item(std::uint64_t unit, std::uint32_t number) { return static_cast<item>(unit << number_bits | number); }
constexpr std::uint32_t unit_of(item i) { return i >> number_bits; }
constexpr std::uint32_t number_of(item i) { return i & ((1u << number_bits) - 1); }
/// Units that items can name: groups of up to 128 GiB.
inline constexpr std::uint64_t most_units = std::uint64_t{1} << (32 - number_bits);
static_assert(most_blocks < 1u << number_bits);

/// What a unit of 64 KiB is.
enum class kind : std::uint8_t {
    free,
    claimed,   ///< count 0: first unit of a run that `by` makes a superblock or an area of; else a later unit, `count` behind the first, whose state tells all
    small,     ///< first unit of a superblock; by: the member that takes blocks out of it, or nobody; count: class
    area,      ///< first unit of an area; by: owner, with shared_bit; count: area_count()
    retiring,  ///< first unit of a run whose pages go back; by: who does it, or nobody: in debug mode it stays so; count: units
};

/// One word: it is read and exchanged whole.
struct state {
    std::uint64_t word = 0;

    static constexpr state of(kind k, tag by, std::uint64_t count) { return {static_cast<std::uint64_t>(k) | static_cast<std::uint64_t>(by) << 4 | count << 36}; }
    constexpr kind what() const { return static_cast<kind>(word & 15); }
    constexpr tag by() const { return static_cast<tag>(word >> 4); }
    constexpr std::uint64_t count() const { return word >> 36; }
    // Of an area's count: 22 bits units, 4 bits pages of the last unit that it does not have, and whether it is of addresses alone.
    constexpr std::uint64_t units() const { return count() & ((1u << 22) - 1); }
    constexpr bool reserved() const { return count() >> 26 & 1; }
    constexpr std::uint64_t bytes() const { return (units() << unit_shift) - (count() >> 22 & 15) * 4096; }
    constexpr bool operator==(const state&) const = default;
};
inline constexpr state free_unit{};
/// An area of so many bytes, whole pages; reserved: of addresses without pages.
constexpr std::uint64_t area_count(std::uint64_t units, std::uint64_t bytes, bool reserved = false) { return units | ((units << unit_shift) - bytes) / 4096 << 22 | (reserved ? 1ull << 26 : 0); }

}  // namespace cohort::sharepool::detail
