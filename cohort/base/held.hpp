// SPDX-License-Identifier: Apache-2.0
/// How many locks the calling thread holds: for whoever must not wait while it holds one.
///
///     { holding mark; foreign_lock(); ... foreign_unlock(); }     // a lock that is not of this library: in every build
///     COHORT_CHECK(locks_held() == 0, "...");
///
/// cohort::mutex, shared_mutex and sys::spinlock count by themselves where CMake's option COHORT_DEBUG_LOCKS is on (presets debug and asan), for the library and its users alike.
/// Kernel: might_sleep, preempt_count.
#pragma once

namespace cohort {

namespace detail {
inline thread_local constinit int held = 0;
}

inline int locks_held() { return detail::held; }

/// Marks a scope in which the thread holds a lock.
class holding {
public:
    holding() { ++detail::held; }
    ~holding() { --detail::held; }
    holding(const holding&) = delete;
    holding& operator=(const holding&) = delete;
};

namespace detail {
#if defined(COHORT_DEBUG_LOCKS)
inline void lock_taken() { ++held; }
inline void lock_given() { --held; }
#else
inline void lock_taken() {}
inline void lock_given() {}
#endif
}  // namespace detail

}  // namespace cohort
