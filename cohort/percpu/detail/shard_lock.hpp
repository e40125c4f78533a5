// SPDX-License-Identifier: Apache-2.0
/// A spinlock that knows its holder, so that a signal handler can tell that it interrupted it.
#pragma once

#include <atomic>

#include <cohort/base/mutex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu::detail {

/// Synchronization: lock() acquires, unlock() releases; not recursive. The holder is in the lock's own word: there is no moment at which it is held and the
/// holder is not known.
class COHORT_CAPABILITY("mutex") shard_lock {
public:
    void lock() noexcept COHORT_ACQUIRE() {
        for (int spins = 0; !take(); ++spins) {
            if (spins % 64 != 63) sys::cpu_relax();
            else sys::yield_thread();
        }
    }
    bool try_lock() noexcept COHORT_TRY_ACQUIRE(true) { return take(); }
    // release: pairs with [acquire: take].
    void unlock() noexcept COHORT_RELEASE() { holder_.store(nullptr, std::memory_order_release); }
    /// By the calling thread: this is a signal handler inside the critical section.
    bool interrupted() const noexcept { return holder_.load(std::memory_order_relaxed) == &me_; }

private:
    bool take() noexcept {
        const char* nobody = nullptr;
        return holder_.load(std::memory_order_relaxed) == nullptr &&
               holder_.compare_exchange_strong(nobody, &me_, std::memory_order_acquire, std::memory_order_relaxed);
    }
    static inline constinit thread_local char me_ = 0;  // its address is this thread's
    std::atomic<const char*> holder_{nullptr};          // [atomic: the protocol above]
};

}  // namespace cohort::percpu::detail
