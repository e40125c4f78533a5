// SPDX-License-Identifier: Apache-2.0
/// Addresses for the chunks of one allocator, and the way from a handle to its chunk.
///
/// Addresses are reserved for several chunks at once (an arena; each twice as large as the one before), so that a process with few chunks has few mappings and a
/// lookup passes few arenas. An arena is never given back while its allocator lives: it costs no memory.
///
/// Synchronization: take() and put() under the allocator's growth lock; find() by anybody at any time, also in signal handlers. An arena's record is never freed
/// (its place is used again), so find() may look at it while it ends.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <cohort/percpu/detail/layout.hpp>
#include <cohort/sys/address_space.hpp>

namespace cohort::percpu::detail {

struct chunk;

class space {
public:
    explicit space(sys::address_space& memory);
    ~space();
    space(const space&) = delete;
    space& operator=(const space&) = delete;

    /// The address of a chunk, reserved, not committed; 0: no addresses are left.
    std::uintptr_t take();
    /// Gives one back, that is not announced.
    void put(std::uintptr_t chunk_address);
    /// From now on find() finds it, or does not.
    void announce(std::uintptr_t chunk_address, bool there);
    /// Around fork(): false, another thread holds the records.
    static bool try_lock_for_fork() noexcept;
    static void unlock_after_fork() noexcept;
    /// Bytes from one chunk to the next.
    static std::size_t span();
    static std::size_t units_bytes();

    /// The chunk whose handles contain this value; null: there is none.
    static chunk* find(std::uintptr_t value) noexcept;

private:
    struct arena;
    static arena* record(std::unique_ptr<std::atomic<bool>[]> there);
    static arena* holding(std::uintptr_t address) noexcept;
    arena* grow();
    arena* add_arena(void* at, std::size_t chunks);

    sys::address_space& memory_;       // [const after init]
    std::vector<arena*> mine_;         // [guarded: the growth lock]
    std::size_t next_chunks_ = 4;      // [guarded: the growth lock]
};

}  // namespace cohort::percpu::detail
