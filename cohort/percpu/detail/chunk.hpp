// SPDX-License-Identifier: Apache-2.0
/// A chunk and its metadata, which stands in the chunk's first 256 KiB.
///
///     2 KiB: chunk {magazines, node of the index, maps}      64 KiB: a tag for each 4 bytes of a unit (magazine.hpp)
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include <cohort/account/table.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/area_map.hpp>
#include <cohort/percpu/detail/layout.hpp>
#include <cohort/percpu/detail/magazine.hpp>
#include <cohort/percpu/detail/slots.hpp>

namespace cohort::percpu::detail {

/// Who pays for an object; stands in a table of its own, made at the chunk's first accounted object.
struct payer {
    account::table* table = nullptr;
    account::group_id id;
};

struct chunk : chunk_prefix, chunk_node {
    chunk(allocator::core& owner_, chunk_prefix prefix, unsigned shard_, int reserved) : chunk_prefix(prefix), owner(owner_), shard(shard_), areas(reserved) {
        map = &areas;
        if (reserved == 0) return;
        reserved_node.map = &reserved_areas.emplace(0, reserved);
        reserved_node.kind = chunk_kind::reserved;
    }

    allocator::core& owner;                     // [const after init]
    const unsigned shard;                       // [const after init]
    std::atomic<std::uint32_t> deferred{0};     // [atomic: frees that wait for the shard's lock]
    std::atomic<payer*> payers{nullptr};        // [atomic: set once, by compare-and-swap]
    area_map areas;                             // [guarded: the shard's lock]
    // Of the first chunk only: its first bytes, as a chunk of their own. Kernel: pcpu_reserved_chunk.
    std::optional<area_map> reserved_areas;              // [guarded: the shard's lock]
    chunk_node reserved_node;                   // [guarded: the shard's lock]

    std::uintptr_t address() const { return chunk_start(reinterpret_cast<std::uintptr_t>(this)); }
    std::uintptr_t handle_at(int bit) const { return address() + handles_at(kind_of) + static_cast<std::uintptr_t>(bit) * min_alloc_bytes; }
    static int bit_of(std::uintptr_t value) { return static_cast<int>(offset_in_unit(value) / min_alloc_bytes); }
    chunk_node& node_of(int bit) { return bit < areas.start() ? reserved_node : *this; }
    /// The one whose memory starts here.
    static chunk& in(std::uintptr_t start) { return *reinterpret_cast<chunk*>(start + chunk_at); }
    static chunk& of(chunk_node& node) {
        return node.kind == chunk_kind::reserved ? in(chunk_start(reinterpret_cast<std::uintptr_t>(&node))) : static_cast<chunk&>(node);
    }
    std::byte* at(unsigned cpu, int block) const {
        return reinterpret_cast<std::byte*>(address() + units_at + unit_start(kind_of, cpu)) + static_cast<std::ptrdiff_t>(block) * block_bytes;
    }
};

static_assert(chunk_at + sizeof(chunk) <= tags_at && metadata_bytes <= coloured_handles_at);

}  // namespace cohort::percpu::detail
