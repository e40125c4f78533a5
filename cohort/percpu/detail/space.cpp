// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/space.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <utility>

#include <cohort/base/mutex.hpp>
#include <cohort/percpu/detail/chunk.hpp>

namespace cohort::percpu::detail {

constinit std::atomic<std::uintptr_t> known_chunks[chunk_places];

namespace {
constexpr std::size_t most_chunks_per_arena = 512;
constexpr std::size_t most_arenas = 4096;
}  // namespace

struct space::arena {
    std::atomic<std::uintptr_t> start{0};       // [atomic: with bytes]
    std::atomic<std::size_t> bytes{0};          // [atomic: 0 while not in use; release after all else. Pairs with [acquire: holding]]
    std::unique_ptr<std::atomic<bool>[]> there;  // [const while in use; null: not in use, under all.lock] by the chunk's number: find() may find it
    std::vector<bool> taken;                    // [guarded: the growth lock of its allocator]
    std::size_t chunks = 0, free = 0;           // [guarded: the growth lock]
    std::size_t mib_of_span = 0;                // [const while in use]
};

namespace {
struct {
    mutex lock;
    std::array<std::atomic<void*>, most_arenas> arena{};  // [atomic: written under lock, once each]
    std::atomic<std::size_t> count{0};                    // [atomic: release after the entry]
} all;
}  // namespace

std::size_t space::units_bytes() { return unit_start(layout::flat, possible_cpus()); }
std::size_t space::span() { return (units_at + units_bytes() + chunk_alignment - 1) / chunk_alignment * chunk_alignment; }

space::space(sys::address_space& memory) : memory_(memory) {}

space::~space() {
    const lock_guard hold(all.lock);
    for (arena* a : mine_) {
        void* at = reinterpret_cast<void*>(a->start.load(std::memory_order_relaxed));
        const std::size_t bytes = a->bytes.exchange(0);
        memory_.release(at, bytes);
        a->there.reset();
    }
}

space::arena* space::record(std::unique_ptr<std::atomic<bool>[]> there) {
    const lock_guard hold(all.lock);
    const std::size_t n = all.count.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < n; ++i) {
        auto* a = static_cast<arena*>(all.arena[i].load(std::memory_order_relaxed));
        if (a->there) continue;
        a->there = std::move(there);  // in use, by whoever asked
        return a;
    }
    if (n == most_arenas) return nullptr;
    auto* a = new arena;
    a->there = std::move(there);
    all.arena[n].store(a, std::memory_order_relaxed);
    all.count.store(n + 1, std::memory_order_release);
    return a;
}

bool space::try_lock_for_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { return all.lock.try_lock(); }
void space::unlock_after_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { all.lock.unlock(); }

/// Throws std::bad_alloc, nothing changed then. Null: there are too many arenas.
space::arena* space::add_arena(void* at, std::size_t chunks) {
    std::vector<bool> taken(chunks, false);
    mine_.reserve(mine_.size() + 1);
    arena* a = record(std::make_unique<std::atomic<bool>[]>(chunks));
    if (!a) return nullptr;
    a->taken = std::move(taken);
    a->chunks = a->free = chunks;
    a->mib_of_span = span() / chunk_alignment;
    a->start.store(reinterpret_cast<std::uintptr_t>(at), std::memory_order_relaxed);
    a->bytes.store(span() * chunks, std::memory_order_release);
    mine_.push_back(a);
    return a;
}

space::arena* space::grow() {
    for (; next_chunks_ > 0; next_chunks_ /= 2) {
        const std::size_t bytes = span() * next_chunks_;
        void* at = memory_.reserve(bytes, chunk_alignment);
        if (!at) continue;
        arena* a = nullptr;
        try {
            a = add_arena(at, next_chunks_);
        } catch (const std::bad_alloc&) {
            a = nullptr;  // as if no address were left
        }
        if (!a) {
            memory_.release(at, bytes);
            return nullptr;
        }
        next_chunks_ = std::min(next_chunks_ * 2, most_chunks_per_arena);
        return a;
    }
    next_chunks_ = 1;  // addresses may come back: the next try begins small
    return nullptr;
}

std::uintptr_t space::take() {
    auto it = std::find_if(mine_.begin(), mine_.end(), [](const arena* a) { return a->free > 0; });
    arena* a = it != mine_.end() ? *it : grow();
    if (!a) return 0;
    const auto n = static_cast<std::size_t>(std::find(a->taken.begin(), a->taken.end(), false) - a->taken.begin());
    a->taken[n] = true;
    --a->free;
    return a->start.load(std::memory_order_relaxed) + n * span();
}

space::arena* space::holding(std::uintptr_t address) noexcept {
    const std::size_t n = all.count.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < n; ++i) {
        auto* a = static_cast<arena*>(all.arena[i].load(std::memory_order_relaxed));
        const std::size_t bytes = a->bytes.load(std::memory_order_acquire);
        if (address - a->start.load(std::memory_order_relaxed) < bytes) return a;
    }
    return nullptr;
}

void space::put(std::uintptr_t chunk_address) {
    arena* a = holding(chunk_address);
    a->taken[(chunk_address - a->start.load(std::memory_order_relaxed)) / span()] = false;
    ++a->free;
}

void space::announce(std::uintptr_t chunk_address, bool there) {
    auto& place = place_of_chunk(chunk_address);
    if (there) place.store(chunk_address, std::memory_order_release);
    else if (std::uintptr_t expected = chunk_address) place.compare_exchange_strong(expected, 0);
    arena* a = holding(chunk_address);
    // release: the chunk's metadata. Pairs with [acquire: find].
    a->there[(chunk_address - a->start.load(std::memory_order_relaxed)) / span()].store(there, std::memory_order_release);
}

chunk* space::find(std::uintptr_t value) noexcept {
    const arena* a = holding(value);
    if (!a) return nullptr;
    const std::size_t mib = (chunk_start(value) - a->start.load(std::memory_order_relaxed)) / chunk_alignment;
    std::size_t n = 0;
    // The first MiB of a chunk holds its handles; most spans are a few MiB, and a division by a variable is dear.
    if (a->mib_of_span == 2) {
        if (mib & 1) return nullptr;
        n = mib / 2;
    } else {
        n = mib / a->mib_of_span;
        if (n * a->mib_of_span != mib) return nullptr;
    }
    if (!a->there[n].load(std::memory_order_acquire)) return nullptr;
    chunk& c = chunk::in(chunk_start(value));
    return value - c.handle_at(0) < static_cast<std::uintptr_t>(unit_bytes) ? &c : nullptr;
}

}  // namespace cohort::percpu::detail
