// SPDX-License-Identifier: Apache-2.0
/// A lock for readers that come all the time and writers that come now and then: reading costs a nanosecond, whatever the number of CPUs.
///
///     auto sem = percpu::rwsem::create().value();             // std::unique_ptr: a lock stays where it is
///     { std::shared_lock hold(*sem); look(table); }           // two sequences on this CPU's unit; no fence, no shared cache line
///     { std::unique_lock hold(*sem); change(table); }         // the first write after a quiet time waits for a grace period
///     sem->lock_shared(); hand_to(other_thread);              // who unlocks need not be who locked: either kind of hold may be passed on
///
/// Kernel: percpu_rw_semaphore (kernel/locking/percpu-rwsem.c, v6.12). Differences: writers also try_lock; the way back to fast reading waits for a quiet time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <cohort/base/mutex.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/fence.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/percpu/rcu_sync.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::percpu {

/// Synchronization: as std::shared_mutex; not recursive, for readers neither: a second lock_shared() by the same thread waits behind a writer that waits for the first.
/// A hold may end in another thread than it began in. FIFO among those who wait, and nobody passes them: while somebody is in the queue, the lock is closed. Readers
/// join it after some microseconds in which others may come first. So neither side starves.
/// Signal handlers may call try_lock_shared() and unlock_shared(), whatever they interrupted; nothing else. One process: memory shared with another is not covered.
/// Destroy it when no call is under way. A forked child must not use one that another thread of its parent held or waited for.
///
/// Protocol. A unit counts readers that came (in) and left (out) on its CPU; they may leave on another one. `block` is 0 while readers may enter.
///
///   reader, fast:  one sequence: flag up? ++in                      writer:  sync.enter()            flags down, grace period, unless still down
///   reader, slow:  ++in; fence (A); block == 0: in.                          block 0 -> held         or queue, till it is handed over
///                  else ++out, and queue                                     fence (D); wait until the sum of in equals that of out, read in
///   leaving:       flag up? ++out in one sequence; else release (B),         that order: outs first (C)
///                  ++out, and wake a writer that sleeps (W)          unlock: hand over, or block = 0 (release); sync.exit()
///
/// Fast readers need no order of their own: see rcu_sync.hpp, Down and Up. A with D: a reader that does not see block is seen in the writer's sums.
/// C: an out that the writer counts has its in before it (in the same hold, or the same failed attempt), so the later pass over the ins counts that, too; equal sums
/// say that nobody was inside between the passes. One word instead of two would not do: an attempt that fails may take its count back on another
/// CPU, and a sum that meets only the second half hides a reader.
/// B with the acquire of C: the writer sees what the readers did.
/// W: a writer sets `drain`, passes a grace period, sums once more, and sleeps. So a leaving reader needs no fence between ++out and its look at `drain`: either it sees it
/// set or the sum sees its out. Readers that see it set pass a full fence and sum; the last of them finds equal sums and wakes.
/// Closed while somebody waits: block goes held -> contended under queue_lock_ before a waiter joins the queue, and from contended only unlock() goes on, which hands
/// over under queue_lock_: to the writer that is first, or to all readers that are first and then, with the lock still closed, to the writer behind them.
/// Sticky: flags stay down after a write, so that the next one needs no grace period; reading costs about a nanosecond more meanwhile. Readers put them up again when no
/// write was seen for 64 times as long as a grace period takes, which bounds what grace periods cost to some percent of the time, however writers come.
class COHORT_CAPABILITY("shared_mutex") rwsem {
public:
    /// What a lock has on each CPU.
    struct alignas(32) unit {
        std::uint32_t fast;       // [rcu_sync's flag]
        std::uint64_t in, out;    // [this CPU, rseq; atomics where there are none]
    };

    /// Errors: those of allocator::alloc.
    static result<std::unique_ptr<rwsem>> create();
    /// Its memory, for a lock that is a member: rwsem sem{percpu::make<rwsem::unit>().value()}.
    explicit rwsem(ptr<unit> memory) noexcept : rwsem(memory.get()) { owned_ = std::move(memory); }
    /// zeroed: zero on every CPU, of nobody else's use, and there as long as the lock; a static per-CPU variable, say. Kernel: DEFINE_STATIC_PERCPU_RWSEM.
    explicit rwsem(handle<unit> zeroed) noexcept;
    ~rwsem();
    rwsem(const rwsem&) = delete;
    rwsem& operator=(const rwsem&) = delete;

    /// Cost: 0.6 ns; about 2 ns more for a while after a write.
    [[gnu::always_inline]] void lock_shared() noexcept COHORT_ACQUIRE_SHARED() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        if (!count_fast<in_at>()) [[unlikely]] lock_shared_slow();
        detail::told_acquire(&sync_);
    }
    /// False: a writer holds it or waits for it. Signal-safe.
    [[gnu::always_inline]] bool try_lock_shared() noexcept COHORT_THREAD_ANNOTATION(try_acquire_shared_capability(true)) COHORT_NO_THREAD_SAFETY_ANALYSIS {
        if (!count_fast<in_at>() && !try_lock_shared_slow()) [[unlikely]] return false;
        detail::told_acquire(&sync_);
        return true;
    }
    /// Signal-safe.
    [[gnu::always_inline]] void unlock_shared() noexcept COHORT_RELEASE_SHARED() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        detail::told_release(&unit_);
        if (!count_fast<out_at>()) [[unlikely]] unlock_shared_slow();
    }

    /// Cost: 20 ns when readers are slow, a grace period more (0.5 to 10 us) when they are fast; and the waiting.
    void lock() noexcept COHORT_ACQUIRE();
    /// False: somebody holds it or waits for it, or a reader came by at this moment. Cost: as lock().
    bool try_lock() noexcept COHORT_TRY_ACQUIRE(true);
    void unlock() noexcept COHORT_RELEASE();

    /// For tests and assertions: true while somebody holds it so; may be old by the time it is used. A try that fails looks like a hold for a moment.
    bool is_read_locked() const noexcept;
    bool is_write_locked() const noexcept;
    /// A caller's bug where nobody holds it. Kernel: percpu_rwsem_assert_held.
    void assert_held() const noexcept;

    /// Threads in the queue at this moment. Cost: a walk of it.
    unsigned waiting() const noexcept;
    /// Of the fast way of reading.
    const rcu_sync& sync() const { return sync_; }

private:
    struct waiter;
    static constexpr std::size_t in_at = offsetof(unit, in), out_at = offsetof(unit, out);
    enum : std::uint32_t { open, held, contended };  // block_

    // What ThreadSanitizer is told stands for two objects: &sync_ is released by writers and acquired by all, &unit_ released by readers and acquired by writers.
    template <std::size_t At>
    [[gnu::always_inline]] bool count_fast() const noexcept {
        return detail::sequence::add_if_set<by::cpu, handle<unit>::layout, -static_cast<int>(At)>(unit_.value() + At, std::uint64_t{1});
    }
    void lock_shared_slow() noexcept;
    bool try_lock_shared_slow() noexcept;
    void unlock_shared_slow() noexcept;
    std::uint64_t come() noexcept;
    bool may_stay() noexcept;
    void leave() noexcept;
    bool all_left() const noexcept;
    void settle_if_quiet() noexcept;

    void take_block() noexcept;
    void wait_until_all_left() noexcept;
    void release_block() noexcept;
    void hand_over() noexcept;
    bool enqueue(waiter& me) noexcept;

    ptr<unit> owned_;                             // [const after init] empty where the caller keeps the memory
    const handle<unit> unit_;                     // [const after init]
    rcu_sync sync_;
    alignas(64) std::atomic<std::uint32_t> block_{open};  // [atomic: 0 -> held by writers; held -> contended under queue_lock_; else by the holder]
    std::atomic<std::uint32_t> drain_{0};         // [atomic: 1 while the holder sleeps until readers have left]
    std::atomic<std::uint64_t> writes_{0};        // [stats: relaxed; written by the holder]
    mutable sys::spinlock queue_lock_;
    waiter* first_ COHORT_GUARDED_BY(queue_lock_) = nullptr;
    waiter* last_ COHORT_GUARDED_BY(queue_lock_) = nullptr;
    sys::spinlock quiet_lock_;                    // only tried
    std::uint64_t quiet_writes_ COHORT_GUARDED_BY(quiet_lock_) = 0;  // writes_ when a reader last looked
    std::uint64_t quiet_since_ COHORT_GUARDED_BY(quiet_lock_) = 0;   // when a reader first saw that value
};

}  // namespace cohort::percpu
