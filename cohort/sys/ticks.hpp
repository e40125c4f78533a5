// SPDX-License-Identifier: Apache-2.0
/// A counter for measuring short times, about 8 ns a reading.
///
///     auto t0 = sys::ticks(); work(); double ns = (sys::ticks() - t0) * sys::ns_per_tick();
///
/// Not a clock: only differences on one machine mean something. x86-64: the time stamp counter; aarch64: CNTVCT; else CLOCK_MONOTONIC.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <time.h>
#endif

namespace cohort::sys {

inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    std::uint64_t t;
    asm volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    timespec t;
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
#endif
}

/// Measured against CLOCK_MONOTONIC at the first call (half a millisecond), then constant.
double ns_per_tick() noexcept;

}  // namespace cohort::sys
