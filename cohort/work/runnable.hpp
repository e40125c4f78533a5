// SPDX-License-Identifier: Apache-2.0
/// What workers run.
///
///     struct greetings : work::runnable {
///         bool run(work::context& ctx) override {
///             int n = left.fetch_sub(1);               // claim
///             if (n <= 0) return false;
///             ctx.found(*this);                        // is more ready? then others may be woken
///             std::puts("hello");
///             return true;
///         }
///         bool ready() const noexcept override { return left.load() > 0; }
///         std::atomic<int> left{3};
///     };
///
/// Kernel: struct work_struct and the pool that runs it; a runnable is a source of many items.
#pragma once

#include <atomic>
#include <cstdint>

namespace cohort::work {

class runnable;
class worker_set;
struct worker;

/// Where and for whom a batch runs. Lives on the stack of the thread that runs it.
struct context {
    worker_set* set = nullptr;
    worker* own = nullptr;  ///< null for a lent thread (poll, a helping submitter)
    int cpu = 0;            ///< the CPU it runs on
    bool helping = false;   ///< a lent thread that waits for this work anyway
    std::uint64_t spent = 0;  ///< run() may say how long it took, in ticks; 0: it does not know, and a quantum is charged

    /// Called by run() after it has claimed something and before it starts on it; `r` is asked whether more is left.
    void found(runnable& r);
};

/// A source of work. Synchronization: run() by any number of workers at once; ready() also under the set's lock, so it takes none.
class runnable {
public:
    runnable() = default;
    runnable(const runnable&) = delete;
    runnable& operator=(const runnable&) = delete;

    /// worker_set::retire must have returned (or it was never published).
    virtual ~runnable() = default;

    /// Where several have work, each gets a share of the workers' time by its weight: 1 .. 10,000, as cpu.weight of a cgroup.
    static constexpr std::uint32_t default_weight = 100, most_weight = 10'000;

protected:
    /// Before the first publish.
    void set_weight(std::uint32_t weight) { weight_ = weight; }

private:
    friend class worker_set;
    friend struct context;
    /// Claims and runs one bounded batch. False: there was nothing to claim.
    virtual bool run(context& ctx) = 0;
    /// Is there something to claim? Loads that decide it are seq_cst (see the set's protocol).
    virtual bool ready() const noexcept = 0;
    /// True: its publishers may leave out the fence between their store and publish(); an idle worker then raises a barrier on all threads before it
    /// believes that nothing is ready. The load that decides it is seq_cst.
    virtual bool unfenced() const noexcept { return false; }

    std::atomic<bool> listed_{false};    // [guarded for writing: set's lock_; read by publishers, seq_cst]
    std::atomic<bool> retiring_{false};  // [atomic: retire() sets it, workers then let go]
    std::atomic<int> users_{0};          // [atomic: workers that hold it as their current one]
    std::uint32_t weight_ = default_weight;  // [const after the first publish]
    std::atomic<std::uint64_t> used_{0};  // [atomic, relaxed: workers add; pick() and list() compare and lift it] time used so far, in ns of a weight of 100
    runnable* prev_ = nullptr;           // [guarded: set's lock_]
    runnable* next_ = nullptr;           // [guarded: set's lock_]
};

/// Work for one CPU. At most once in a mailbox at a time.
class mail {
public:
    mail() = default;
    mail(const mail&) = delete;
    mail& operator=(const mail&) = delete;

    virtual ~mail() = default;

private:
    friend class worker_set;
    /// Runs on the worker of the CPU it was posted to (or a lent thread where that CPU has no worker). May free this object.
    virtual void deliver(context& ctx) = 0;
    mail* next_mail_ = nullptr;  // [guarded: the mailbox's lock]
};

}  // namespace cohort::work
