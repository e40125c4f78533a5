// SPDX-License-Identifier: Apache-2.0
/// What an allocator holds: the figures of the kernel's percpu_stats, and what magazines and pages add.
///
///     percpu::allocator_stats s = percpu::default_allocator().stats();
///     std::puts(s.text().c_str());                             // as /sys/kernel/debug/percpu_stats
///     std::puts(s.json().c_str());
///
/// Kernel: mm/percpu-stats.c (v6.12), CONFIG_PERCPU_STATS.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <cohort/percpu/allocator.hpp>

namespace cohort::percpu {

/// Sizes in bytes, of one unit where they are of areas.
struct chunk_stats {
    std::string label;             ///< "<- First Chunk", "<- Reserved Chunk", "(to_depopulate)", "(sidelined)" or ""
    unsigned shard = 0;
    bool flat = false;
    int nr_alloc = 0, max_alloc_size = 0, empty_pop_pages = 0, first_bit = 0, free_bytes = 0, contig_bytes = 0, sum_frag = 0, max_frag = 0;
    int cur_min_alloc = 0, cur_med_alloc = 0, cur_max_alloc = 0;
    int nr_pages = 0, nr_populated = 0;
    bool operator==(const chunk_stats&) const = default;
};

/// A value type. Each figure is of its own moment while others allocate.
struct allocator_stats {
    std::string name;
    bool by_cid = false, sequences = false;  ///< which index; restartable sequences, or atomics
    unsigned possible_cpus = 0, present_cpus = 0, shards = 0;
    std::uint64_t unit_size = 0, static_size = 0, reserved_size = 0, dyn_size = 0, atom_size = 0, alloc_size = 0;
    std::int64_t nr_alloc = 0, nr_dealloc = 0, nr_cur_alloc = 0;
    std::int64_t nr_max_alloc = 0;           ///< areas of the maps at once, those in magazines among them
    int nr_chunks = 0, nr_max_chunks = 0, empty_pop_pages = 0;
    std::uint64_t min_alloc_size = 0, max_alloc_size = 0;
    std::int64_t cached = 0;                 ///< objects in magazines
    std::uint64_t live_bytes = 0;            ///< of live objects, in one unit
    std::uint64_t populated_bytes = 0;       ///< of populated blocks, in one unit
    std::uint64_t unit_resident_bytes = 0;   ///< of all units, in memory: what the kernel counts as Percpu in /proc/meminfo
    std::uint64_t resident_bytes = 0;        ///< the same and the metadata
    std::uint64_t failures = 0;
    std::vector<chunk_stats> chunks;

    /// As debugfs shows it, with some lines more.
    std::string text() const;
    /// One object; schema_version 1.
    std::string json() const;
    bool operator==(const allocator_stats&) const = default;
};

/// Of every allocator of the program, in the order in which they were made.
std::vector<allocator_stats> all_stats();

}  // namespace cohort::percpu
