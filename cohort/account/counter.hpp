// SPDX-License-Identifier: Apache-2.0
/// One group's count and limit without a table: for who keeps groups in rows of its own, in shared memory, and charges one after the other.
///
///     counter& process = row.used; counter& all = head.used;             // zeroed memory, and a limit each
///     if (process.try_charge(n) && !all.try_charge(n)) process.uncharge(n);
///     ...
///     process.put_right(truth - process.usage());                        // after somebody was killed between the two
///
/// Kernel: struct page_counter. The protocol over the word is the table's (detail/word.hpp).
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <cohort/account/detail/word.hpp>

namespace cohort::account {

/// No constructor: zeroes are an empty count with a limit of 0.
/// Synchronization: any thread of any process may call anything; all lock-free.
struct counter {
    std::atomic<std::uint64_t> word;      // [atomic: all; seq_cst]
    std::atomic<std::uint64_t> limit;     // [atomic: set_limit]
    std::atomic<std::uint64_t> peak;      // [stats: only grows]
    std::atomic<std::uint64_t> failures;  // [stats]

    /// False: it would go over the limit, and nothing changed.
    bool try_charge(std::uint64_t n) noexcept {
        std::uint64_t after = 0;
        if (detail::count(word, limit, n, after) != detail::answer::yes) {
            failures.fetch_add(1, std::memory_order_relaxed);
            return false;
        }
        // relaxed: a statistic.
        for (std::uint64_t most = peak.load(std::memory_order_relaxed); most < after && !peak.compare_exchange_weak(most, after, std::memory_order_relaxed);) {}
        return true;
    }
    void uncharge(std::uint64_t n) noexcept { word.fetch_sub(n); }
    /// As it is: below zero where more was taken back than charged.
    std::int64_t usage() const noexcept { return static_cast<std::int64_t>(word.load()); }
    /// Adds what is missing, or takes away what is too much, whatever the limit.
    void put_right(std::int64_t missing) noexcept { word.fetch_add(static_cast<std::uint64_t>(missing)); }
    /// 0; EBUSY: more than that is used, and the old limit stays.
    int set_limit(std::uint64_t most) noexcept {
        std::uint64_t used = 0;
        return detail::set_limit(word, limit, most, used) ? 0 : EBUSY;
    }
};
static_assert(sizeof(counter) == 32);

}  // namespace cohort::account
