// SPDX-License-Identifier: Apache-2.0
/// Where the copies of a per-CPU object lie: one arithmetic for every chunk, so that an address on a CPU is handle + an offset known per CPU.
///
///     chunk (aligned to 1 MiB)
///     0          256 KiB      512 KiB     768 KiB  1 MiB
///     | metadata | handles,   | handles,  |        | unit 0 | unit 1 | unit 2 ...            each `stride` apart
///     |          | coloured   | flat      |        |        |c|      |2c|
///                  nothing is mapped here            c: colour, 192 bytes more for each CPU
///
/// A chunk is coloured or flat. Coloured units are shifted against one another by three cache lines, so that the copies of an object on 21 CPUs fall into 21 sets
/// of the first level cache; that costs alignments above 64 bytes. Flat units are page aligned, for these. Stride is an odd number of pages, which does for the second level
/// cache what colour does for the first.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cohort/base/cpumask.hpp>
#include <cohort/percpu/detail/limits.hpp>

namespace cohort::percpu::detail {

/// Of the machine's page sizes the largest: units never share a page.
#if defined(__aarch64__)
inline constexpr std::size_t largest_page_bytes = 64 << 10;
#else
inline constexpr std::size_t largest_page_bytes = 4 << 10;
#endif

inline constexpr std::size_t stride = unit_bytes + largest_page_bytes;
inline constexpr std::size_t chunk_alignment = 1 << 20;
inline constexpr std::size_t coloured_handles_at = 256 << 10, flat_handles_at = 512 << 10, units_at = 1 << 20;
inline constexpr std::size_t colour_bytes = 192, colours = 21;  // 21 * 192 < 4096: the last page of the stride takes the shift
inline constexpr std::size_t cache_line = 64;

/// To whole pages, whatever their size is.
constexpr std::size_t page_up(std::size_t bytes) { return (bytes + largest_page_bytes - 1) & ~(largest_page_bytes - 1); }

enum class layout : unsigned char { coloured, flat };

/// The layout for objects of this alignment.
constexpr layout layout_for(std::size_t align) { return align > cache_line ? layout::flat : layout::coloured; }
constexpr std::size_t handles_at(layout l) { return l == layout::flat ? flat_handles_at : coloured_handles_at; }
/// A unit's start, from that of unit 0's slot.
constexpr std::size_t unit_start(layout l, unsigned cpu) {
    return cpu * stride + (l == layout::coloured ? cpu % colours * colour_bytes : 0);
}
/// What is added to a handle to get the address of the copy of a CPU.
constexpr std::uint32_t offset_of(layout l, unsigned cpu) {
    return static_cast<std::uint32_t>(units_at - handles_at(l) + unit_start(l, cpu));
}
static_assert(units_at + unit_start(layout::coloured, max_cpus) < std::uint64_t{1} << 32, "offsets have 32 bits");
static_assert(offset_of(layout::coloured, 0) != 0 && offset_of(layout::flat, 0) != 0, "0 means: this CPU is absent");
static_assert((colours - 1) * colour_bytes < largest_page_bytes && colour_bytes % cache_line == 0);

/// The chunk's start, of a handle in it or of an address in its metadata.
constexpr std::uintptr_t chunk_start(std::uintptr_t at) { return at & ~(chunk_alignment - 1); }
constexpr layout layout_of(std::uintptr_t handle) { return handle & flat_handles_at ? layout::flat : layout::coloured; }
/// Bytes from the start of a unit.
constexpr std::uint32_t offset_in_unit(std::uintptr_t handle) { return static_cast<std::uint32_t>(handle & (unit_bytes - 1)); }

}  // namespace cohort::percpu::detail
