// SPDX-License-Identifier: Apache-2.0
/// A reference count that saturates instead of wrapping, and reports it.
///
///     refcount users{1};
///     if (users.inc_not_zero()) use(object);                  // from a lookup: the object may be on its way out
///     if (users.dec_and_test()) destroy(object);              // the last one; sees all that the others wrote
///
/// Kernel: refcount_t (include/linux/refcount.h). Same rules: an overflow, an increment from zero or a decrement below one
/// leaves the count saturated for ever: the object leaks, it is never used after it was freed.
#pragma once

#include <atomic>
#include <climits>

namespace cohort {

enum class refcount_fault {
    overflow,        ///< too many references
    inc_from_zero,   ///< a reference taken to what was freed
    dec_below_one,   ///< a reference given back twice
};

/// Called at a fault, from the thread that made it; must not throw. The default prints one line on stderr, once per kind.
/// Answers the one before; null brings the default back. Any thread may call it.
using refcount_reporter = void (*)(refcount_fault, const void* count);
refcount_reporter set_refcount_reporter(refcount_reporter reporter);

/// Synchronization: any thread may call anything. Increments order nothing; the last decrement happens after all others.
/// Free of addresses: may stand in shared memory.
class refcount {
public:
    static constexpr int saturated = INT_MIN / 2;
    static constexpr int max = INT_MAX;

    explicit constexpr refcount(int n = 1) : count_(n) {}
    refcount(const refcount&) = delete;
    refcount& operator=(const refcount&) = delete;

    /// A snapshot; negative when saturated.
    int read() const { return count_.load(std::memory_order_relaxed); }
    /// The caller holds a reference already.
    void inc() {
        // relaxed: whoever hands out the pointer orders the object's content.
        const int old = count_.fetch_add(1, std::memory_order_relaxed);
        if (old <= 0 || old == max) [[unlikely]] fault(old == 0 ? refcount_fault::inc_from_zero : refcount_fault::overflow);
    }
    /// False when the count was zero: the object is gone.
    [[nodiscard]] bool inc_not_zero() {
        int old = count_.load(std::memory_order_relaxed);
        do {
            if (old == 0) return false;
            // relaxed: as in inc().
        } while (!count_.compare_exchange_weak(old, static_cast<int>(static_cast<unsigned>(old) + 1), std::memory_order_relaxed));
        if (old < 0 || old == max) [[unlikely]] fault(refcount_fault::overflow);
        return true;
    }
    /// True for whoever gave back the last reference.
    [[nodiscard]] bool dec_and_test() {
        // release: what this holder did to the object comes before the end of it. Pairs with [acquire: last one] below.
        const int old = count_.fetch_sub(1, std::memory_order_release);
        if (old == 1) {
            // acquire: last one. Sees what all other holders did. Pairs with the releases above; a load, since TSan knows no fences.
            (void)count_.load(std::memory_order_acquire);
            return true;
        }
        if (old <= 0) [[unlikely]] fault(refcount_fault::dec_below_one);
        return false;
    }

private:
    [[gnu::cold]] void fault(refcount_fault kind);

    std::atomic<int> count_;  // [atomic: all holders]
    static_assert(std::atomic<int>::is_always_lock_free);
};

}  // namespace cohort
