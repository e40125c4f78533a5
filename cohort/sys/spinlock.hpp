// SPDX-License-Identifier: Apache-2.0
/// A lock for critical sections of a few instructions; a waiter spins briefly, then yields its CPU to the holder.
///
///     sys::spinlock lock;
///     { std::lock_guard hold(lock); ++count; }
///
/// Its last access on unlock is one store, so that memory may be freed by whoever takes the lock next (a mutex may still touch its futex word).
#pragma once

#include <atomic>

#include <cohort/base/mutex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sys {

/// Synchronization: lock() acquires, unlock() releases; not recursive, not fair.
class COHORT_CAPABILITY("mutex") spinlock {
public:
    void lock() noexcept COHORT_ACQUIRE() {
        // acquire: sees what the previous holder wrote. Pairs with [release: unlock].
        while (held_.exchange(true, std::memory_order_acquire)) wait();
        detail::lock_taken();
    }
    bool try_lock() noexcept COHORT_TRY_ACQUIRE(true) {
        if (held_.load(std::memory_order_relaxed) || held_.exchange(true, std::memory_order_acquire)) return false;
        detail::lock_taken();
        return true;
    }
    void unlock() noexcept COHORT_RELEASE() {
        detail::lock_given();
        held_.store(false, std::memory_order_release);
    }

private:
    void wait() noexcept {
        for (int i = 0; i < 64; ++i) {
            if (!held_.load(std::memory_order_relaxed)) return;
            cpu_relax();
        }
        yield_thread();
    }

    std::atomic<bool> held_{false};
};

/// std::lock_guard that clang's thread-safety analysis understands.
class COHORT_SCOPED_CAPABILITY spin_guard {
public:
    explicit spin_guard(spinlock& lock) noexcept COHORT_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
    ~spin_guard() COHORT_RELEASE() { lock_.unlock(); }
    spin_guard(const spin_guard&) = delete;
    spin_guard& operator=(const spin_guard&) = delete;

private:
    spinlock& lock_;
};

}  // namespace cohort::sys
