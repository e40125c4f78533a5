// SPDX-License-Identifier: Apache-2.0
/// A switch that is off nearly always and costs one relaxed load then.
///
///     inline constinit static_flag core_sched_on;
///     if (core_sched_on.enabled()) slow_path();               // one load, predicted not taken
///     core_sched_on.enable();  core_sched_on.disable();       // counted: off again after as many disables as enables
///
/// Kernel: static branches (include/linux/jump_label.h: DEFINE_STATIC_KEY_FALSE, static_branch_inc, static_branch_dec), which patch the code;
/// user space that patches itself is refused by hardened systems, and the load hits the cache.
#pragma once

#include <atomic>

#include <cohort/base/check.hpp>

namespace cohort {

/// Synchronization: any thread may call anything. enabled() orders nothing: who enables must publish what the slow path needs by other means.
class static_flag {
public:
    constexpr static_flag() = default;
    static_flag(const static_flag&) = delete;
    static_flag& operator=(const static_flag&) = delete;

    bool enabled() const { return __builtin_expect(count_.load(std::memory_order_relaxed) > 0, false); }
    int count() const { return count_.load(std::memory_order_relaxed); }
    void enable() { count_.fetch_add(1, std::memory_order_relaxed); }
    /// One for each enable(); one more is the caller's bug.
    void disable() { COHORT_CHECK(count_.fetch_sub(1, std::memory_order_relaxed) > 0, "static_flag disabled more often than enabled"); }

private:
    std::atomic<int> count_{0};  // [atomic: relaxed, counts]
};

}  // namespace cohort
