// SPDX-License-Identifier: Apache-2.0
/// Lets readers leave their fences out while there are no writers: a flag in each CPU's unit says so, and writers take it away for as long as they come.
///
///     percpu::rcu_sync sync(unit.member(&my_unit::fast));     // a flag per CPU, all zero
///     sync.enter();                                           // writer: from here on every reader finds the flag down
///     ...
///     sync.exit();                                            // the next writer, soon after, passes enter() for 2 ns
///     sync.settle();                                          // anybody, when it has been quiet: the flags go up again
///
/// Kernel: struct rcu_sync (kernel/rcu/sync.c, v6.12), same states. Differences: the grace period is membarrier's restart of sequences (0.5 to 10 us), waited for,
/// not RCU's; exit() does not start one, settle() does, for there is nobody in the background.
#pragma once

#include <atomic>
#include <cstdint>

#include <cohort/percpu/ops.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::percpu {

/// Synchronization: any thread may call anything; exit() by whoever, once for each enter(). Not in signal handlers, save allow_here(), is_idle(), now() and writers().
///
/// Protocol. A reader tests the flag and acts within one restartable sequence (sequence::add_if_set), else it takes its slow way, which is right at any time.
///
///              enter: flags down        grace period over              settle
///      idle ─────────────────> enter ─────────────────────> passed ──────────────> exit ──┐ grace period over, nobody came: flags up
///       ^                                                     ^  ^                  │     │
///       │                                                     │  └── somebody came ─┤     │
///       │                                                     └──── replay <────────┘     │ (came and has gone: the grace period began before
///       └─────────────────────────────────────────────────────────────────────────────────┘  its exit() and proves nothing)
///
/// Down: after the flags were cleared, the grace period ends (or restarts) every sequence that may have seen them up, and is a full barrier on all threads:
/// what a reader did by a sequence that saw the flag up, and before it, is seen by the writer when enter() returns. So those sequences need no order of their own.
/// Up: a reader that sees the flag up sees all that writers did before their exit(): the grace period, a full barrier on the reader's thread, lies between.
/// enter() while exit runs does not wait: no flag is up before idle, and idle is not reached while somebody is inside.
/// Flags change under flags_, together with the passage from and to idle. A CPU that appears later has its flag down until allow_here().
/// Serves the threads of one process: membarrier reaches no others. Where there are no sequences the flags stay down and no grace period is waited for.
class rcu_sync {
public:
    enum class state : std::uint32_t { idle, enter, passed, exit, replay };
    using grace_period = void (*)() noexcept;

    /// fast: zero on every CPU, and of nobody else's use. wait: another grace period, for tests.
    explicit rcu_sync(handle<std::uint32_t> fast, grace_period wait = nullptr) noexcept;
    /// Nobody is inside any more; leaves the flags down.
    ~rcu_sync();
    rcu_sync(const rcu_sync&) = delete;
    rcu_sync& operator=(const rcu_sync&) = delete;

    /// Returns when no reader sees the flag up. Nests, over threads too, to 2^28. Cost: a grace period if idle, else 2 ns.
    void enter() noexcept;
    void exit() noexcept;
    /// True: the flags are up again. False: a writer is inside or came meanwhile, or there is nothing to do. Cost: a grace period, unless false at once.
    bool settle() noexcept;

    bool is_idle() const noexcept { return now() == state::idle; }
    /// The flag of the CPU that the caller is on goes up, if idle and nobody changes flags at this moment. For a reader that found it down.
    void allow_here() noexcept;

    state now() const noexcept { return state_of(word_.load(std::memory_order_relaxed)); }
    /// Writers inside.
    unsigned writers() const noexcept { return count_of(word_.load(std::memory_order_relaxed)); }
    /// What a grace period took of late, in sys::ticks(); 0: there was none.
    std::uint64_t grace_ticks() const noexcept { return grace_ticks_.load(std::memory_order_relaxed); }

private:
    static constexpr std::uint32_t one = 8;  // a writer, in word_
    static constexpr state state_of(std::uint32_t w) { return static_cast<state>(w % one); }
    static constexpr std::uint32_t count_of(std::uint32_t w) { return w / one; }
    static constexpr std::uint32_t word_of(state s, std::uint32_t count) { return count * one + static_cast<std::uint32_t>(s); }

    bool leave_idle() noexcept;
    bool finish_exit() noexcept;
    void wait_until_passed() noexcept;
    void run_grace_period() noexcept;
    void set_flags(std::uint32_t to) noexcept;

    const handle<std::uint32_t> fast_;          // [const after init]; flags: [guarded for writing: flags_; read by sequences of their CPU]
    const grace_period wait_;                   // [const after init]
    std::atomic<std::uint32_t> word_;           // [atomic: state and writers inside; idle is left and reached under flags_]
    sys::spinlock flags_;
    std::atomic<std::uint64_t> grace_ticks_{0};  // [stats: relaxed]
};

}  // namespace cohort::percpu
