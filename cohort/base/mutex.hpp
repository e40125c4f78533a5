// SPDX-License-Identifier: Apache-2.0
/// Locks that clang's -Wthread-safety checks, and data that is owned by its lock.
///
///     class inbox {
///         mutex lock_;
///         std::deque<mail> mails_ COHORT_GUARDED_BY(lock_);    // [guarded: lock_]
///         condition_variable arrived_;
///         mail take() { lock_guard hold(lock_); while (mails_.empty()) arrived_.wait(lock_); ... }
///     };
///     guarded<std::map<int, std::string>> names;
///     names.lock()->emplace(1, "one");                         // held for this expression
///
/// Kernel: struct mutex, rw_semaphore, and sparse's __must_hold.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include <cohort/base/held.hpp>

#if defined(__clang__)
#define COHORT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define COHORT_THREAD_ANNOTATION(x)
#endif

#define COHORT_CAPABILITY(name) COHORT_THREAD_ANNOTATION(capability(name))
#define COHORT_SCOPED_CAPABILITY COHORT_THREAD_ANNOTATION(scoped_lockable)
#define COHORT_GUARDED_BY(lock) COHORT_THREAD_ANNOTATION(guarded_by(lock))
#define COHORT_PT_GUARDED_BY(lock) COHORT_THREAD_ANNOTATION(pt_guarded_by(lock))
#define COHORT_REQUIRES(...) COHORT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define COHORT_REQUIRES_SHARED(...) COHORT_THREAD_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define COHORT_EXCLUDES(...) COHORT_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define COHORT_ACQUIRE(...) COHORT_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define COHORT_ACQUIRE_SHARED(...) COHORT_THREAD_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define COHORT_TRY_ACQUIRE(...) COHORT_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define COHORT_RELEASE(...) COHORT_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define COHORT_RELEASE_SHARED(...) COHORT_THREAD_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define COHORT_RELEASE_GENERIC(...) COHORT_THREAD_ANNOTATION(release_generic_capability(__VA_ARGS__))
#define COHORT_NO_THREAD_SAFETY_ANALYSIS COHORT_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace cohort {

/// std::mutex with annotations. Synchronization: as std::mutex.
class COHORT_CAPABILITY("mutex") mutex {
public:
    void lock() COHORT_ACQUIRE() {
        native_.lock();
        detail::lock_taken();
    }
    bool try_lock() COHORT_TRY_ACQUIRE(true) {
        if (!native_.try_lock()) return false;
        detail::lock_taken();
        return true;
    }
    void unlock() COHORT_RELEASE() {
        detail::lock_given();
        native_.unlock();
    }

private:
    friend class condition_variable;
    std::mutex native_;
};

/// std::shared_mutex with annotations. Synchronization: as std::shared_mutex.
class COHORT_CAPABILITY("shared_mutex") shared_mutex {
public:
    void lock() COHORT_ACQUIRE() {
        native_.lock();
        detail::lock_taken();
    }
    void unlock() COHORT_RELEASE() {
        detail::lock_given();
        native_.unlock();
    }
    void lock_shared() COHORT_ACQUIRE_SHARED() {
        native_.lock_shared();
        detail::lock_taken();
    }
    void unlock_shared() COHORT_RELEASE_SHARED() {
        detail::lock_given();
        native_.unlock_shared();
    }

private:
    std::shared_mutex native_;
};

/// Holds any lock with lock() and unlock() for a scope.
template <class Lock>
class COHORT_SCOPED_CAPABILITY lock_guard {
public:
    explicit lock_guard(Lock& lock) COHORT_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
    ~lock_guard() COHORT_RELEASE() { lock_.unlock(); }
    lock_guard(const lock_guard&) = delete;
    lock_guard& operator=(const lock_guard&) = delete;

private:
    Lock& lock_;
};

/// Holds a shared_mutex as a reader for a scope.
class COHORT_SCOPED_CAPABILITY shared_guard {
public:
    explicit shared_guard(shared_mutex& lock) COHORT_ACQUIRE_SHARED(lock) : lock_(lock) { lock_.lock_shared(); }
    ~shared_guard() COHORT_RELEASE_GENERIC() { lock_.unlock_shared(); }
    shared_guard(const shared_guard&) = delete;
    shared_guard& operator=(const shared_guard&) = delete;

private:
    shared_mutex& lock_;
};

/// std::condition_variable that waits with a held mutex. There is no form with a predicate: the analysis does not look into lambdas; write the loop.
class condition_variable {
public:
    void notify_one() noexcept { native_.notify_one(); }
    void notify_all() noexcept { native_.notify_all(); }
    void wait(mutex& lock) COHORT_REQUIRES(lock) {
        std::unique_lock<std::mutex> held(lock.native_, std::adopt_lock);
        native_.wait(held);
        (void)held.release();
    }
    /// False at the timeout.
    template <class Clock, class Duration>
    bool wait_until(mutex& lock, const std::chrono::time_point<Clock, Duration>& deadline) COHORT_REQUIRES(lock) {
        std::unique_lock<std::mutex> held(lock.native_, std::adopt_lock);
        const bool in_time = native_.wait_until(held, deadline) == std::cv_status::no_timeout;
        (void)held.release();
        return in_time;
    }

private:
    std::condition_variable native_;
};

/// A value that can be reached only while its lock is held.
/// Synchronization: any thread may call lock(); the access must end before the value is destroyed.
template <class T>
class guarded {
public:
    /// Move-only in effect: neither copied nor moved. Ends the hold when it goes.
    class access {
    public:
        T* operator->() const { return value_; }
        T& operator*() const { return *value_; }

    private:
        friend class guarded;
        access(std::mutex& lock, T& value) : hold_(lock), value_(&value) {}
        std::unique_lock<std::mutex> hold_;
        T* value_;
    };

    guarded() = default;
    explicit guarded(T value) : value_(std::move(value)) {}
    [[nodiscard]] access lock() { return access(lock_, value_); }

private:
    std::mutex lock_;
    T value_{};  // [guarded: lock_]
};

}  // namespace cohort
