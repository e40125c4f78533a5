// SPDX-License-Identifier: Apache-2.0
/// Which parts of a chunk are allocated, and which of its blocks are populated: the metadata of one chunk. An offset is valid in every unit, so one map serves all CPUs.
///
///     area_map map;                                       // 65,536 bits of 4 bytes, 64 blocks of 1,024 bits
///     int at = map.alloc(16, 2, false).value();           // 64 bytes at 8-byte alignment: the first place that fits
///     map.size_at(at);                                    // 16
///     map.free(at);                                       // 16; -1 had no live area started there
///
/// Kernel: struct pcpu_chunk, struct pcpu_block_md, pcpu_find_block_fit, pcpu_alloc_area, pcpu_free_area (mm/percpu.c), v6.12. Differences: a run that a free
/// makes is joined over block borders at once, so the chunk's contig hint is exact (the kernel's may be low by less than a page); the length of the second
/// longest run is bounded, so that few allocations need a rescan; the boundary map marks starts only; nr_empty_pop_pages is exact.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <cohort/percpu/detail/bits.hpp>
#include <cohort/percpu/detail/limits.hpp>
#include <cohort/percpu/detail/run_hints.hpp>

namespace cohort::percpu::detail {

/// A set of a chunk's blocks: bit b is block b.
using block_set = word;

/// The blocks [first, end).
struct block_run {
    int first = 0, end = 0;
    constexpr int count() const { return end - first; }
    constexpr block_set set() const { return first < end ? word_mask(first, end) : 0; }
    friend constexpr bool operator==(block_run, block_run) = default;
};
/// The first run of the set at or after block `from`; the last run of the set. None of an empty one.
std::optional<block_run> first_run(block_set set, int from = 0);
std::optional<block_run> last_run(block_set set);

/// Of a block: left_free and right_free are the lengths of the free runs at its borders, first_free its first free bit (block_bits: none). Exact.
struct block_hints : run_hints<std::uint16_t> {
    std::uint16_t left_free = 0, right_free = 0, first_free = block_bits;
};

/// What the statistics show of a chunk, in bytes. Fragments are the free runs below the last live area.
struct area_figures {
    int nr_alloc = 0, max_alloc_size = 0;
    int first_bit = 0;  // in bits: the first free one
    int free_bytes = 0, contig_bytes = 0;
    int sum_frag = 0, max_frag = 0;
    int cur_min_alloc = 0, cur_med_alloc = 0, cur_max_alloc = 0;  // the median is the lower one of two
};

/// Sizes, offsets and alignments are in bits of min_alloc_bytes. Alignments are powers of two of at most block_bits.
///
///     blocks   [....####|#...####|........|........|##..]      '#' allocated
///     hints     left   right      empty    empty
///     runs      [..]    [.]       [................]          runs of the chunk join right_free, empty blocks and left_free
///
/// Guarantees of alloc: at alignment 1 the lowest place that fits, if there is one (lowest over populated blocks, when asked for populated ones). At a higher
/// alignment a place is found for certain if a run of bits + align - 1 is free (populated); else it may be missed, because hints know the longest run of a
/// block only.
/// Memory: 17 KiB in place, no heap; trivially destructible.
/// Synchronization: none; the caller's lock guards every call.
class area_map {
public:
    /// The bits [start, end) are the chunk's; what is before and after is hidden, as if allocated for ever. Nothing is populated.
    explicit area_map(int start = 0, int end = unit_bits);
    area_map(const area_map&) = delete;
    area_map& operator=(const area_map&) = delete;

    /// False: there is no place for certain, or only one that the hints do not know of. Cost: the chunk's hint.
    bool may_fit(int bits, int align) const { return fit_in(chunk_.contig(), bits, align) >= 0; }
    /// A place; remembers in scan hints what it skipped. Cost: O(blocks) hints and the bits of one block.
    std::optional<int> find_fit(int bits, int align, bool populated_only);
    /// Takes [at, at + bits), which is free. Cost: O(bits / 64), and the bits of its blocks if their longest run was hit.
    void alloc_area(int bits, int at);
    std::optional<int> alloc(int bits, int align, bool populated_only);
    /// The size that became free; -1 when no live area starts at `at` (also when it is out of range), nothing changed. Cost: O(bits of a block / 64).
    int free(int at);

    /// Any value of `at` is allowed in these two.
    int size_at(int at) const { return is_live_start(at) ? end_of_area(at) - at : 0; }
    bool is_live_start(int at) const { return at >= start_ && at < end_ && test_bit(bound_map_.data(), at); }

    int start() const { return start_; }
    int end() const { return end_; }
    int free_bits() const { return free_bits_; }
    bool fully_free() const { return free_bits_ == end_ - start_; }
    int nr_alloc() const { return nr_alloc_; }
    int contig_hint() const { return chunk_.contig_hint; }
    /// The first free bit; end() when all are taken.
    int first_bit() const;
    area_figures figures() const;

    /// The blocks that hold at least one bit of [start, end); the others are never populated or given back.
    block_set own_blocks() const { return own_; }
    int nr_pages() const { return std::popcount(own_); }
    block_set populated() const { return populated_; }
    int nr_populated() const { return std::popcount(populated_); }
    /// Blocks of 1,024 free bits.
    block_set empty_blocks() const { return empty_; }
    /// Empty and populated ones. Exact at any time.
    block_set empty_populated() const { return empty_ & populated_; }
    int nr_empty_pop_pages() const { return std::popcount(empty_populated()); }
    /// The blocks under [at, at + bits), bits > 0.
    static block_run blocks_of(int at, int bits) { return {at / block_bits, (at + bits - 1) / block_bits + 1}; }
    bool is_populated(int at, int bits) const { return (blocks_of(at, bits).set() & ~populated_) == 0; }
    void set_populated(block_run run) { populated_ |= run.set() & own_; }
    void clear_populated(block_set set) { populated_ &= ~set; }
    void clear_populated(block_run run) { clear_populated(run.set()); }
    std::optional<block_run> next_populated(int from) const { return first_run(populated_, from); }
    std::optional<block_run> next_unpopulated(int from) const { return first_run(own_ & ~populated_, from); }

    /// Calls f(free_run) for every free run of the chunk, ascending.
    template <class F>
    void for_each_free_run(F f) const {
        for (int at = next_clear(alloc_map_.data(), start_, end_); at < end_;) {
            const int end = next_set(alloc_map_.data(), at, end_);
            f(free_run{at, end - at});
            at = next_clear(alloc_map_.data(), end, end_);
        }
    }

    /// Compares every hint, set and count with a full scan of the maps. Empty when all hold, else the first that does not.
    std::string check_invariants() const;

private:
    static constexpr int words = unit_bits / word_bits;
    static constexpr int block_words = block_bits / word_bits;

    const word* bits_of_block(int b) const { return alloc_map_.data() + b * block_words; }
    int end_of_area(int at) const;
    int find_in_block(int b, int bits, int align);
    void take_in_block(int b, int from, int to);
    free_run give_in_block(int b, int from, int to);
    free_run joined(free_run run) const;
    void rescan_block(int b);
    void rescan_chunk();
    std::string check_block(int b) const;
    std::string check_chunk() const;
    std::string check_bounds() const;

    // chunk_.scan_hint_start stands at a block's first bit.
    run_hints<std::int32_t> chunk_;
    std::int32_t start_, end_;
    std::int32_t free_bits_;
    std::int32_t nr_alloc_ = 0, max_alloc_ = 0;  // live areas; the largest since there was none
    block_set has_free_ = 0, empty_ = 0, own_ = 0, populated_ = 0;
    std::array<block_hints, blocks> block_{};
    std::array<word, words> alloc_map_{};  // allocated, or hidden
    std::array<word, words> bound_map_{};  // an area starts here, or the hidden suffix does
};

}  // namespace cohort::percpu::detail
