// SPDX-License-Identifier: Apache-2.0
/// What each thread is inside of, for others to read: heads() and the watchdog.
///
///     runner_entry mark(shell, batch_first, seq, cpu);        // around a callback; some plain stores to a line of this thread's own
///     auto seen = runner::all();                              // by anyone: copies
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace cohort::padata::detail {

/// Synchronization: written by its thread; read by all(), under the list's lock, which keeps it there. The parts of a level may be of different moments: a job
/// that has been running for long has all of its own.
struct runner {
    static constexpr int most = 4;  // callbacks inside of callbacks; those deeper are not shown

    struct level {
        std::atomic<const void*> shell{nullptr};  // [atomic: this thread writes; release after the rest, pairs with acquire in all()]
        std::atomic<std::uint64_t> from{0}, seq{0};  // [atomic: relaxed] jobs from `from` on are finished together with this one, or were before
        std::atomic<int> cpu{-1};                    // [atomic: relaxed]
        std::atomic<bool> serial{false};             // [atomic: relaxed] in serial()
    };
    struct snapshot {
        const void* shell;
        std::uint64_t from, seq;
        int cpu, thread;
        bool serial;
    };

    static std::vector<snapshot> all();

    std::array<level, most> levels{};
    bool known = false;       // this thread has been added to the list
    int thread = 0;           // [const once known]
    runner *next = nullptr, *prev = nullptr;  // [guarded: the list's lock]

    static runner& mine();

private:
    [[gnu::cold]] void join();
    static constinit thread_local runner here_;
};

inline constinit thread_local runner runner::here_{};

inline runner& runner::mine() {
    if (!here_.known) [[unlikely]] here_.join();
    return here_;
}

}  // namespace cohort::padata::detail
