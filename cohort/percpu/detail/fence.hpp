// SPDX-License-Identifier: Apache-2.0
/// Fences beside restartable sequences, and what ThreadSanitizer is told of them: it sees neither the sequences nor membarrier.
#pragma once

#include <atomic>

#if defined(__SANITIZE_THREAD__)
#define COHORT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COHORT_TSAN 1
#endif
#endif
#if !defined(COHORT_TSAN)
#define COHORT_TSAN 0
#endif
#if COHORT_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace cohort::percpu::detail {

/// As atomic_thread_fence(seq_cst), which ThreadSanitizer refuses to compile. It also orders sequences, which are plain accesses to the CPU.
[[gnu::always_inline]] inline void full_fence() noexcept {
#if defined(__x86_64__)
    asm volatile("lock; orl $0, (%%rsp)" ::: "memory", "cc");
#elif defined(__aarch64__)
    asm volatile("dmb ish" ::: "memory");
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

/// What stands before it is seen by whoever sees what a sequence behind it stores (and reads with acquire).
[[gnu::always_inline]] inline void release_fence() noexcept {
#if defined(__x86_64__)
    asm volatile("" ::: "memory");
#elif defined(__aarch64__)
    asm volatile("dmb ish" ::: "memory");
#else
    std::atomic_thread_fence(std::memory_order_release);
#endif
}

/// Happens-before edges for ThreadSanitizer: from told_release(x) to told_acquire(x). Nothing in other builds.
[[gnu::always_inline]] inline void told_release([[maybe_unused]] const void* object) noexcept {
#if COHORT_TSAN
    __tsan_release(const_cast<void*>(object));
#endif
}
[[gnu::always_inline]] inline void told_acquire([[maybe_unused]] const void* object) noexcept {
#if COHORT_TSAN
    __tsan_acquire(const_cast<void*>(object));
#endif
}

}  // namespace cohort::percpu::detail
