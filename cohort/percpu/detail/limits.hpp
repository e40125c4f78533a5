// SPDX-License-Identifier: Apache-2.0
/// The sizes that the per-CPU allocator is built of. Kernel: PCPU_* (include/linux/percpu.h, mm/percpu-internal.h); same meaning, units larger.
#pragma once

namespace cohort::percpu::detail {

inline constexpr int min_alloc_bytes = 4;               // one bit of the maps
inline constexpr int unit_bytes = 256 << 10;            // one CPU's part of a chunk
inline constexpr int block_bytes = 4096;                // what is populated and given back
inline constexpr int max_alloc_bytes = 32 << 10;
inline constexpr int max_align = block_bytes;

inline constexpr int unit_bits = unit_bytes / min_alloc_bytes;
inline constexpr int block_bits = block_bytes / min_alloc_bytes;
inline constexpr int blocks = unit_bytes / block_bytes;
static_assert(blocks == 64, "sets of blocks are one word");

/// Empty populated blocks that the balance work keeps for allocations that must not wait: below low it is started, it fills up to high.
inline constexpr int empty_pop_pages_low = 2;
inline constexpr int empty_pop_pages_high = 4;

/// The slot of n bytes is bit_width(n) - slot_base_shift + 2. A chunk of a slot below the threshold that misses is not tried again before a free.
inline constexpr int slot_base_shift = 5;
inline constexpr int slot_fail_threshold = 3;

}  // namespace cohort::percpu::detail
