// SPDX-License-Identifier: Apache-2.0
/// A spinlock that knows its holder, so that a signal handler can tell that it interrupted it; and a thread that knows how many it holds.
#pragma once

#include <atomic>

#include <cohort/base/mutex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu::detail {

/// Synchronization: lock() acquires, unlock() releases; not recursive. The holder is in the lock's own word: there is no moment at which it is held and the
/// holder is not known.
///
/// A handler that interrupted a holder must not wait for any lock, not even for another one: two threads whose handlers wait for what the other's
/// interrupted code holds would wait for ever. may_wait() tells; then there is try_lock().
///
/// Nor must a handler wait for fork(), which takes all of these locks and then malloc()'s: it may have interrupted malloc(). lock_unless_forking() gives up.
class COHORT_CAPABILITY("mutex") shard_lock {
public:
    /// Those that are waited for while others are held, by code that is no handler, are not counted: what stands first in the order of locks.
    enum class counted : bool { no, yes };
    explicit shard_lock(counted c = counted::yes) : step_(c == counted::yes ? 1 : 0) {}

    void lock() noexcept COHORT_ACQUIRE() {
        count(step_);
        for (int spins = 0; !take(); ++spins) pause(spins);
    }
    /// For callers that may be handlers: false, fork() holds the locks. Waits for any other holder.
    bool lock_unless_forking() noexcept COHORT_TRY_ACQUIRE(true) {
        count(step_);
        for (int spins = 0; !take(); ++spins) {
            if (forking_.load(std::memory_order_relaxed)) {
                count(-step_);
                return false;
            }
            pause(spins);
        }
        return true;
    }
    /// By fork(), after it has taken all and before it releases any.
    static void set_forking(bool yes) noexcept { forking_.store(yes, std::memory_order_relaxed); }
    bool try_lock() noexcept COHORT_TRY_ACQUIRE(true) {
        count(step_);
        if (take()) return true;
        count(-step_);
        return false;
    }
    void unlock() noexcept COHORT_RELEASE() {
        // release: pairs with [acquire: take]; seq_cst for core::unlock(), which looks for deferred frees after it.
        holder_.store(nullptr, std::memory_order_seq_cst);
        count(-step_);
    }
    /// False: the calling thread is between the begin of a lock() and the end of an unlock(), of whichever counted lock.
    static bool may_wait() noexcept { return held_ == 0; }
    /// By the calling thread: this is a signal handler inside the critical section.
    bool interrupted() const noexcept { return holder_.load(std::memory_order_relaxed) == &me_; }

private:
    bool take() noexcept {
        const char* nobody = nullptr;
        return holder_.load(std::memory_order_seq_cst) == nullptr && holder_.compare_exchange_strong(nobody, &me_, std::memory_order_seq_cst);
    }
    static void pause(int spins) noexcept {
        if (spins % 64 != 63) sys::cpu_relax();
        else sys::yield_thread();
    }
    /// The count covers the time of holding: a handler in between sees it as held.
    static void count(int n) noexcept {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        held_ = held_ + n;
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    static inline constinit thread_local char me_ = 0;  // its address is this thread's
    static inline constinit thread_local int held_ = 0;  // [this thread and its handlers, which leave it as they found it]
    static inline constinit std::atomic<bool> forking_{false};  // [atomic: a hint for those that wait; fork() holds all the locks meanwhile]
    std::atomic<const char*> holder_{nullptr};          // [atomic: the protocol above]
    const int step_;                                    // [const after init]
};

}  // namespace cohort::percpu::detail
