// SPDX-License-Identifier: Apache-2.0
/// Waiting on a 32-bit word, of this process or one that processes share.
///
///     std::atomic<std::uint32_t> word{0};
///     sys::futex_wait(word, 0);                    // returns at once when word != 0; may return spuriously
///     word = 1; sys::futex_wake(word, 1);          // any other thread
///
/// Kernel: futex(2), FUTEX_WAIT and FUTEX_WAKE, with FUTEX_PRIVATE_FLAG and without.
#pragma once

#include <atomic>
#include <cstdint>

namespace cohort::sys {

/// Sleeps while word == expected, until a wake, a signal or, when timeout_ns >= 0, the timeout. The caller looks again afterwards.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns = -1) noexcept;
/// Wakes at most `count` waiters. Touches only the address: the word may be gone by then.
void futex_wake(std::atomic<std::uint32_t>& word, int count) noexcept;
/// The same for a word in memory that processes share, at whichever addresses.
void futex_wait_shared(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns = -1) noexcept;
void futex_wake_shared(std::atomic<std::uint32_t>& word, int count) noexcept;

}  // namespace cohort::sys
