// SPDX-License-Identifier: Apache-2.0
/// The allocator's inside: shards of chunks, magazines over them, growth and balance.
///
///     alloc ── class ──> magazine of this CPU ──(empty)──> shard: maps ──(none fits)──> growth: a new chunk
///     free  ── tag ────> clear the copies ──> magazine ──(full)──> half of it: maps of their shards ──(too much)──> balance: pages back
///
/// Rules
/// * Free memory is zero on every CPU: free() clears the copies of the CPUs that are present, and nobody writes to what is free. So pages can be given back
///   at any time, and an allocation clears nothing.
/// * An object in a magazine is allocated as far as the maps know.
/// * Locks, in this order: growth_ (making and destroying chunks, balance), one shard's lock. A shard's lock is held for the maps only: no system call,
///   nothing is allocated. A signal handler may come in between: where the thread it interrupted holds a shard's lock, it waits for no other. alloc_atomic() says
///   `busy` then; free() leaves a mark that whoever holds the lock finishes after unlocking (deferred frees).
/// * fork() takes all of them, and waits for none while it holds another.
/// * A magazine block is touched by sequences on its own CPU only. To empty it from elsewhere: take it out of the table, restart_sequences_on(cpu), now it is
///   alone with us; then put it back.
/// * Without restartable sequences there are no magazines.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include <cohort/base/mutex.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/chunk.hpp>
#include <cohort/percpu/detail/magazine.hpp>
#include <cohort/percpu/detail/shard_lock.hpp>
#include <cohort/percpu/detail/space.hpp>
#include <cohort/work/item.hpp>

namespace cohort::percpu {

using detail::chunk;
using detail::chunk_node;
using detail::layout;

/// Synchronization: as allocator.
class allocator::core {
public:
    static constexpr unsigned most_shards = 8;

    core(allocator_options options, sys::address_space& memory, detail::magazine_table* magazines);
    ~core();
    core(const core&) = delete;
    core& operator=(const core&) = delete;

    struct wish {
        int bits = 0, align = 1;                 // in units of 4 bytes
        layout kind = layout::coloured;
        std::uint8_t tag = detail::tag_live | detail::tag_direct;
        bool atomic = false, reserved = false;
        alloc_flags flags = alloc_flags::none;
        const std::stop_token* stop = nullptr;
    };

    /// All ways in: checks, charge, magazine or maps, population; and the trace of it.
    attempt alloc(std::size_t size, std::size_t align, wish how) noexcept;
    int free(std::uintptr_t value) noexcept;
    std::size_t size_of(std::uintptr_t value) noexcept;

    void balance(bool may_make_chunks, bool everything) noexcept;
    /// What an attached queue does from time to time: idle magazines are emptied, then balance().
    void idle_work() noexcept;
    void attach(work::queue* q);
    void fill(allocator_stats& out);

    const detail::magazine_table* magazines() const { return magazines_; }

    const allocator_options options;             // [const after init]
    /// The rest of free(): of an object that is cleared and tagged as cached, when its magazine could not take it.
    void overflow(int cls, std::uintptr_t value) noexcept;
    /// False: somebody holds one of the locks; none is taken then.
    bool try_lock_for_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;
    void unlock_after_fork() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;
    /// Ever.
    std::uint64_t frees_deferred() const { return frees_deferred_.load(std::memory_order_relaxed); }

private:
    struct alignas(64) shard {
        detail::shard_lock lock;
        std::atomic<bool> deferred{false};       // [atomic: a free waits for this lock]
        std::atomic<unsigned> generation{0};     // [atomic: counts chunks made, written under growth_]
        std::array<detail::chunk_index, 2> index COHORT_GUARDED_BY(lock);  // by layout
    };

    shard* lock_some(bool atomic) noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;
    void unlock(shard& s) noexcept COHORT_RELEASE(s.lock);
    void finish_deferred(shard& s) noexcept COHORT_REQUIRES(s.lock);
    // Which shard is locked is known at run time only: the analysis does not follow the two.
    attempt from_maps(const wish& how) noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;
    std::uintptr_t place(shard& s, const wish& how) noexcept COHORT_REQUIRES(s.lock);
    std::uintptr_t place_reserved(shard& s, const wish& how) noexcept COHORT_REQUIRES(s.lock);
    void to_maps(std::span<const std::uintptr_t> values) noexcept;
    /// Takes it, unless the calling handler must not wait and another thread has it, or the interrupted one.
    bool lock_to_free(shard& s) noexcept COHORT_TRY_ACQUIRE(true, s.lock);
    void to_maps_locked(shard& s, chunk& c, int bit) noexcept COHORT_REQUIRES(s.lock);
    void defer(shard& s, chunk& c, std::uintptr_t value) noexcept;
    void end_charges(chunk& c) noexcept;
    int free_direct(chunk& c, std::uintptr_t value) noexcept;
    attempt refill(int cls, const wish& how) noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;
    std::uintptr_t make_block(unsigned cpu) noexcept;
    void empty_magazines(bool all) noexcept COHORT_REQUIRES(growth_);
    void empty_block(unsigned cpu) noexcept COHORT_REQUIRES(growth_);

    refusal grow(shard& s, layout kind, unsigned generation) noexcept;
    chunk* make_chunk(shard& s, layout kind) noexcept COHORT_REQUIRES(growth_);
    void destroy_chunk(chunk& c) noexcept COHORT_REQUIRES(growth_);
    void bind_to_nodes(chunk& c) noexcept;
    refusal populate_all(std::uintptr_t value, int bits) noexcept;
    void depopulate(shard& s, detail::depopulation d) noexcept COHORT_REQUIRES(growth_);
    // They name the index before they lock it.
    void balance_index(shard& s, layout kind, bool may_make_chunks, bool everything) noexcept COHORT_REQUIRES(growth_) COHORT_NO_THREAD_SAFETY_ANALYSIS;
    void populate_reserve(shard& s, layout kind) noexcept COHORT_REQUIRES(growth_) COHORT_NO_THREAD_SAFETY_ANALYSIS;
    unsigned number_of(const shard& s) const { return static_cast<unsigned>(&s - shards_.data()); }

    bool record_payer(std::uintptr_t value, account::group who) noexcept;
    void uncharge(chunk& c, std::uintptr_t value, int bits) noexcept;
    void warn(const wish& how, std::size_t size, std::size_t align, refusal why) noexcept;

    sys::address_space& memory_;                 // [const after init]
    detail::space space_;                        // [guarded: growth_]
    detail::magazine_table* const magazines_;    // [const after init] static for the default allocators, else in pages of its own
    const bool owns_magazines_;                  // [const after init]
    std::unique_ptr<std::atomic<std::uintptr_t>[]> made_;   // [atomic: the block of each CPU, once it has one]
    detail::shard_lock growth_{detail::shard_lock::counted::no};
    std::array<shard, most_shards> shards_;
    std::atomic<unsigned> active_shards_{1};     // [atomic: grows when locks are fought for]
    std::atomic<chunk*> first_{nullptr};         // [atomic: written once, under growth_ and shard 0's lock, which who looks into the chunk holds]
    std::atomic<bool> balance_due_{false};       // [atomic: set by who saw work; taken by balance()]
    std::atomic<std::uint64_t> failures_{0};     // [stats]
    std::atomic<std::uint64_t> flushed_{0}, refilled_{0};  // [stats] objects between magazines and maps
    std::atomic<std::uint64_t> frees_deferred_{0};  // [stats]
    std::vector<std::uint64_t> taken_before_;    // [guarded: growth_] by CPU: what its magazines had given when last looked at
    std::atomic<bool> populated_absent_{false};  // [atomic: set once] populate_now has put pages into units of absent CPUs
    static constexpr std::uint64_t idle_ns = 100'000'000;
    work::queue* queue_ = nullptr;               // [guarded: the caller of attach()]
    work::item item_;
};

}  // namespace cohort::percpu
