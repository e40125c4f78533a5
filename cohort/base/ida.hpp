// SPDX-License-Identifier: Apache-2.0
/// Hands out small numbers, each to one holder at a time: the smallest free one of a range.
///
///     ida ids;
///     int a = ids.alloc().value();                            // 0
///     int b = ids.alloc_range(100, 199).value();              // 100
///     ids.free(a);                                            // 0 is the next again
///
/// Kernel: struct ida, ida_alloc_range, ida_free (lib/idr.c).
#pragma once

#include <array>
#include <climits>
#include <cstdint>
#include <map>

#include <cohort/base/error.hpp>
#include <cohort/base/mutex.hpp>

namespace cohort {

/// Memory: 1 bit per number, in blocks of 4096 that exist while one of their numbers is taken.
/// Synchronization: any thread may call anything.
class ida {
public:
    static constexpr int max_id = INT_MAX;

    /// The smallest free number of min .. max, both included. Errors: EINVAL, min < 0 or max < min; ENOSPC, all are taken. Throws std::bad_alloc.
    /// Cost: one step per block of 4096 taken numbers from min on.
    result<int> alloc_range(int min, int max);
    result<int> alloc(int min = 0) { return alloc_range(min, max_id); }
    /// Errors: EINVAL, the number is not taken; nothing changed.
    result<void> free(int id);
    bool taken(int id) const;
    bool empty() const;

private:
    struct block {
        std::array<std::uint64_t, 64> word{};  // bit: taken
        std::uint64_t full = 0;                // bit: every bit of the word is set
    };
    /// The first free number at or after `from` in the block, 0 .. 4095; -1 when there is none.
    static int first_free(const block& b, int from);

    mutable mutex lock_;
    std::map<int, block> blocks_ COHORT_GUARDED_BY(lock_);  // [guarded: lock_] by number / 4096
};

}  // namespace cohort
