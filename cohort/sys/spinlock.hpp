// SPDX-License-Identifier: Apache-2.0
/// A lock for critical sections of a few instructions; a waiter spins briefly, then yields its CPU to the holder.
///
///     sys::spinlock lock;
///     { std::lock_guard hold(lock); ++count; }
///
/// Its last access on unlock is one store, so that memory may be freed by whoever takes the lock next (a mutex may still touch its futex word).
#pragma once

#include <atomic>

#include <cohort/sys/thread.hpp>

#if defined(__clang__)
#define COHORT_SYS_TS(x) __attribute__((x))
#else
#define COHORT_SYS_TS(x)
#endif

namespace cohort::sys {

/// Synchronization: lock() acquires, unlock() releases; not recursive, not fair.
class COHORT_SYS_TS(capability("mutex")) spinlock {
public:
    void lock() noexcept COHORT_SYS_TS(acquire_capability()) {
        // acquire: sees what the previous holder wrote. Pairs with [release: unlock].
        while (held_.exchange(true, std::memory_order_acquire)) wait();
    }
    bool try_lock() noexcept COHORT_SYS_TS(try_acquire_capability(true)) {
        return !held_.load(std::memory_order_relaxed) && !held_.exchange(true, std::memory_order_acquire);
    }
    void unlock() noexcept COHORT_SYS_TS(release_capability()) { held_.store(false, std::memory_order_release); }

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
class COHORT_SYS_TS(scoped_lockable) spin_guard {
public:
    explicit spin_guard(spinlock& lock) noexcept COHORT_SYS_TS(acquire_capability(lock)) : lock_(lock) { lock_.lock(); }
    ~spin_guard() COHORT_SYS_TS(release_capability()) { lock_.unlock(); }
    spin_guard(const spin_guard&) = delete;
    spin_guard& operator=(const spin_guard&) = delete;

private:
    spinlock& lock_;
};

}  // namespace cohort::sys
