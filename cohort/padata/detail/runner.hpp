// SPDX-License-Identifier: Apache-2.0
/// What each thread is inside of, for others to read: heads() and the watchdog.
///
///     runner::mark here(shell, cpu, /*serial*/ false);        // around a batch: some plain stores to a line of this thread's own
///     for (seq ...) { here.at(from, seq); job.parallel(); }   // two more for each job
///     auto seen = runner::all();                              // by anyone: copies
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace cohort::padata::detail {

/// Synchronization: written by its thread; read by all(), under the list's lock, which keeps it there. The parts of a level may be of different moments: a job
/// that has been running for long has all of its own. A mark may stand a little longer than its job runs: who reads it asks the ring whether the job is finished.
class runner {
public:
    static constexpr int most = 4;  // batches inside of batches; those deeper are not shown

    struct level {
        std::atomic<const void*> shell{nullptr};     // [atomic: this thread writes; release after the rest, pairs with acquire in all()]
        std::atomic<std::uint64_t> from{0}, seq{0};  // [atomic: relaxed] jobs from `from` on are finished together with `seq`
        std::atomic<int> cpu{-1};                    // [atomic: relaxed]
        std::atomic<bool> serial{false};             // [atomic: relaxed]
    };
    struct snapshot {
        const void* shell;
        std::uint64_t from, seq;
        int cpu, thread;
        bool serial;  // in serial(), not in parallel()
    };

    static std::vector<snapshot> all();

    /// Around callbacks of one shell. On the stack.
    class mark {
    public:
        mark(const void* shell, int cpu, bool serial) : mine_(runner::mine()) {
            if (mine_.depth_++ >= most) [[unlikely]] return;
            level_ = &mine_.levels_[static_cast<std::size_t>(mine_.depth_ - 1)];
            level_->from.store(1, std::memory_order_relaxed);
            level_->seq.store(0, std::memory_order_relaxed);  // no job yet
            level_->cpu.store(cpu, std::memory_order_relaxed);
            level_->serial.store(serial, std::memory_order_relaxed);
            level_->shell.store(shell, std::memory_order_release);  // pairs with [acquire: all]
        }
        ~mark() {
            --mine_.depth_;
            if (level_) level_->shell.store(nullptr, std::memory_order_relaxed);
        }
        mark(const mark&) = delete;
        mark& operator=(const mark&) = delete;
        void at(std::uint64_t from, std::uint64_t seq) const {
            if (!level_) return;
            level_->from.store(from, std::memory_order_relaxed);
            level_->seq.store(seq, std::memory_order_relaxed);
        }

    private:
        runner& mine_;
        level* level_ = nullptr;
    };

private:
    static runner& mine();
    [[gnu::cold]] void join();
    friend struct leaver;

    int depth_ = 0;
    bool known_ = false;                     // this thread has been added to the list
    int thread_ = 0;                         // [const once known]
    std::array<level, most> levels_{};
    runner *next_ = nullptr, *prev_ = nullptr;  // [guarded: the list's lock]

    static constinit thread_local runner here_;
};

inline constinit thread_local runner runner::here_{};

inline runner& runner::mine() {
    runner& here = here_;
    if (!here.known_) [[unlikely]] here.join();
    return here;
}

}  // namespace cohort::padata::detail
