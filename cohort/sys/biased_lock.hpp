// SPDX-License-Identifier: Apache-2.0
/// A spinlock that costs its habitual owner no locked instruction (12 ns on the reference machine): two loads and two stores.
///
///     sys::biased_lock lock;
///     { std::lock_guard hold(lock); enter(); }      // after 256 times in a row by one thread, 2 ns
///
/// Kernel: membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED; the idea is that of percpu_rw_semaphore and of biased locks in Java.
#pragma once

#include <atomic>
#include <cstdint>

#include <cohort/sys/spinlock.hpp>

namespace cohort::sys {

namespace detail {
/// What a thread shows of itself to revokers. Never freed (reused by later threads), so that a revoker may look at it at any time.
struct bias_slot {
    std::atomic<const void*> inside{nullptr};  // [atomic: the lock its thread holds by bias; written by that thread]
    bias_slot* next_free = nullptr;            // [guarded: the pool's lock]
};
/// This thread's slot; null before the first bias and after the thread has begun to end.
inline constinit thread_local bias_slot* my_slot = nullptr;
/// Takes a slot for this thread; null where there is no membarrier.
bias_slot* take_bias_slot() noexcept;
}  // namespace detail

/// Does barrier_on_all_threads() work here? Decided at start-up. Where it does not, both sides of a pattern need a full fence.
bool has_asymmetric_fence() noexcept;
/// Every other thread of the process passes a full barrier before this returns: the dear side of an asymmetric fence. Some microseconds.
void barrier_on_all_threads() noexcept;

/// Synchronization: as a mutex; not recursive, not fair.
///
/// Protocol. owner_ names the slot of the thread that the lock is biased to, or null.
///   owner:    slot.inside = this;  (compiler barrier)  if (owner_ == slot) it has the lock; else slot.inside = null and the slow way.
///   others:   take spin_;  o = owner_;  owner_ = null;  membarrier;  wait until o.inside != this;  now they have the lock.
/// The membarrier stands for the full fence that the owner leaves out: either the revoker sees `inside`, or the owner sees that owner_ is no longer its own.
/// The slow way by 256 holders in a row that are the same thread grants the bias to it; one acquisition by another thread takes it away (some microseconds).
class COHORT_CAPABILITY("mutex") biased_lock {
public:
    void lock() noexcept COHORT_ACQUIRE() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        detail::bias_slot* s = detail::my_slot;
        // relaxed: a wrong guess is found out below.
        if (s && owner_.load(std::memory_order_relaxed) == s && !s->inside.load(std::memory_order_relaxed)) {
            s->inside.store(this, std::memory_order_relaxed);
            std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler's half; membarrier in lock_slow() is the CPU's
            // acquire: pairs with the release of owner_ by whoever granted it: ourselves, or nobody.
            if (owner_.load(std::memory_order_acquire) == s) return;
            s->inside.store(nullptr, std::memory_order_release);
        }
        lock_slow();
    }
    /// Is the lock biased to anyone? If not, a seq_cst store before this look is seen by whoever gets the bias later. See work/README.md.
    bool biased() const noexcept { return owner_.load(std::memory_order_seq_cst) != nullptr; }
    /// Does the calling thread hold it by bias, that is, without having passed a full fence?
    bool held_by_bias() const noexcept {
        return detail::my_slot && detail::my_slot->inside.load(std::memory_order_relaxed) == this;
    }

    void unlock() noexcept COHORT_RELEASE() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        detail::bias_slot* s = detail::my_slot;
        if (s && s->inside.load(std::memory_order_relaxed) == this) {
            // release: the critical section happens before a revoker goes on. Pairs with [acquire: lock_slow]. Touches the slot, not the lock.
            s->inside.store(nullptr, std::memory_order_release);
        } else {
            spin_.unlock();
        }
    }

private:
    static constexpr std::uint32_t streak_for_bias = 256;

    /// Returns with spin_ held, for unlock() to give back: the analysis sees one lock, this object.
    void lock_slow() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS;

    std::atomic<detail::bias_slot*> owner_{nullptr};   // [atomic: written under spin_]
    spinlock spin_;
    const void* last_ = nullptr;                       // [guarded: spin_] who had it last
    std::uint32_t streak_ = 0;                         // [guarded: spin_] how often in a row
};

}  // namespace cohort::sys
