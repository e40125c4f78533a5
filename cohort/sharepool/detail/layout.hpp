// SPDX-License-Identifier: Apache-2.0
/// Where everything stands in a group's metadata, computed from the group's size and number of CPUs alone: no offset is read from the shared memory, so none can be forged.
///
///     header | members | CPU table | states | class maps | cards | magazines
///
/// A card belongs to one unit and serves the superblock that begins there: a bit for each block, then their tags. Sparse: pages exist where something is used.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <cohort/account/counter.hpp>
#include <cohort/base/cpumask.hpp>
#include <cohort/sharepool/detail/words.hpp>

namespace cohort::sharepool::detail {

inline constexpr std::uint64_t page = 4096, no_limit = (std::uint64_t{1} << 48) - 1;
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

inline constexpr std::uint64_t magic = 0x314c4f4f50534f43;  // "COSPOOL1", as bytes
inline constexpr std::uint32_t layout_version = 3;

/// What a group is; written once, before anybody joins. Each member keeps a checked copy of its own.
struct group_facts {
    std::uint64_t magic_word = 0;
    std::uint32_t version = 0;
    std::uint32_t cpus = 0;          ///< magazines there is place for
    std::uint64_t base = 0;          ///< address, the same in all members
    std::uint64_t units = 0;
    std::uint32_t by_sequences = 0;  ///< else by compare-and-swap
    std::uint32_t unmaps = 0;        ///< debug mode
    std::uint32_t huge = 0;          ///< the memory is of huge pages, and not sealed
    std::uint32_t devices = 0;       ///< with a zone each
    std::uint64_t read_only = 0;     ///< units of the zone that members map for reading
    std::uint64_t device = 0;        ///< units of each device's zone
};
/// 0: units for everything; 1: areas that members map for reading; 2 and up: areas of devices. One behind the other; each has its own hints.
inline constexpr unsigned most_devices = 8, most_zones = 2 + most_devices;
inline constexpr unsigned read_only_zone = 1, first_device_zone = 2;
struct zone_words {
    std::atomic<std::uint64_t> lowest_free;  ///< [hint: units of the zone below are probably taken]
    std::atomic<std::uint64_t> top;          ///< [atomic, rises: units of the zone from here on were never claimed]
    std::atomic<std::uint64_t> narrowed;     ///< [atomic: 0, or once and for all: first unit | units << 32 that areas of the device are put at]
};

struct header {
    group_facts facts;
    alignas(64) zone_words zones[most_zones];
    std::atomic<std::uint64_t> gone;                     ///< [atomic, rises: areas freed in debug mode]
    alignas(64) account::counter used;                   ///< bytes of areas and superblocks; all charge and uncharge
    std::atomic<std::uint32_t> settling;                 ///< [atomic: by compare-and-swap] tag of who settles; with free_bit: another wanted to
    std::atomic<std::uint32_t> unsettled;                ///< [atomic] somebody died since accounts were settled
    alignas(64) std::atomic<std::uint32_t> class_hint[classes];  ///< [hint: word of the class map where blocks were found last]
};
static_assert(sizeof(header) <= page && std::atomic<std::uint64_t>::is_always_lock_free);

inline constexpr std::uint32_t most_members = 1025;  ///< rows; slot 0 is nobody's: 1,024 members

/// A row of the table of members.
struct alignas(64) member_row {
    /// [atomic: 18 bits generation, 2 bits phase, 32 bits pid; changed by compare-and-swap]
    std::atomic<std::uint64_t> word;
    std::atomic<std::uint64_t> mark;  ///< [atomic: by the joiner; of an earlier one until the row is present] sys::process_identity's
    account::counter used;            ///< bytes of areas that it owns; all charge and uncharge
    std::atomic<std::uint64_t> acting;  ///< [atomic: by the member] 16 bits: its threads between a state's change and its charge; 48 bits: how often one was through
};
static_assert(sizeof(member_row) == 64);
enum class phase : std::uint8_t {
    free,
    joining,  ///< the mark is not there yet
    present,
};
struct member_word {
    std::uint64_t word = 0;
    static constexpr member_word of(std::uint32_t generation, phase p, std::uint32_t pid) {
        return {static_cast<std::uint64_t>(generation) << 34 | static_cast<std::uint64_t>(p) << 32 | pid};
    }
    constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(word >> 34); }
    constexpr phase what() const { return static_cast<phase>(word >> 32 & 3); }
    constexpr std::uint32_t pid() const { return static_cast<std::uint32_t>(word); }
};

struct card {
    std::atomic<std::uint64_t> bits[32];  ///< [atomic: set by who gives, cleared by the taker] 1: the block is linked here
    std::atomic<tag> tags[most_blocks];   ///< [atomic: plain stores by the owner and, inside sequences, by who pops; else compare-and-swap]
};
static_assert(sizeof(card) == 8192 && most_blocks <= 32 * 64);
inline constexpr std::uint64_t tags_at = offsetof(card, tags);
/// From one card's tags to the next one's, in tags: what an item is multiplied into.
static_assert(sizeof(card) / sizeof(tag) == std::uint64_t{1} << number_bits);

/// With sequences: items[0 .. count) are linked. Without: see slots in the same place.
struct magazine {
    std::uint32_t count;               ///< [this CPU, sequence]
    std::uint32_t items[most_items];
};
static_assert(sizeof(magazine) == 256);
/// Without sequences: 0, or an item and who is taking it. [atomic: compare-and-swap]
struct slots {
    std::atomic<std::uint64_t> at[32];
};
static_assert(sizeof(slots) == sizeof(magazine));
constexpr std::uint64_t slot_word(item i, tag taker) { return (std::uint64_t{1} << 63) | static_cast<std::uint64_t>(taker) << 32 | i; }

inline constexpr std::uint64_t magazines_bytes = round_up(classes * sizeof(magazine), page);  ///< of one CPU

/// The CPU table's entries -2 and -1 are 0 for ever: threads without restartable sequences have these numbers.
inline constexpr std::uint64_t members_at = page, cpu_table_at = members_at + most_members * sizeof(member_row) + 64;
inline constexpr std::uint64_t states_at = round_up(cpu_table_at + max_cpus * sizeof(std::uint32_t), page);

struct unit_range {
    std::uint64_t first = 0, end = 0;
    constexpr bool holds(std::uint64_t unit) const { return unit >= first && unit < end; }
};

/// Distances in bytes from the start of the metadata.
struct layout {
    std::uint64_t units, cpus;
    std::uint64_t read_only = 0, device = 0, devices = 0;  ///< units of zones; the rest is for everything
    constexpr unsigned zones() const { return first_device_zone + static_cast<unsigned>(devices); }
    constexpr unit_range zone(unsigned z) const {
        const std::uint64_t of_devices = units - device * devices;
        if (z >= first_device_zone) return {of_devices + (z - first_device_zone) * device, of_devices + (z - first_device_zone + 1) * device};
        return z == read_only_zone ? unit_range{of_devices - read_only, of_devices} : unit_range{0, of_devices - read_only};
    }
    constexpr unsigned zone_of(std::uint64_t unit) const {
        unsigned z = 0;
        while (z + 1 < zones() && !zone(z).holds(unit)) ++z;
        return z;
    }
    constexpr std::uint64_t class_map_words() const { return round_up((units + 63) / 64, 8); }
    constexpr std::uint64_t class_maps_at() const { return states_at + round_up(units * sizeof(std::uint64_t), page); }
    constexpr std::uint64_t magazines_at() const { return class_maps_at() + round_up(classes * class_map_words() * 8, page); }
    constexpr std::uint64_t cards_at() const { return magazines_at() + cpus * magazines_bytes; }
    constexpr std::uint64_t bytes() const { return cards_at() + units * sizeof(card); }
};

}  // namespace cohort::sharepool::detail
