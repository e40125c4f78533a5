// SPDX-License-Identifier: Apache-2.0
/// A reference count for what lives long and is used by all CPUs: get and put are one restartable sequence each, until the owner ends it.
///
///     auto users = percpu::ref::create([&] { free_it(); }).value();   // count 1: the owner's
///     users->get(); ... users->put();                         // who holds a reference may take more
///     if (users->tryget_live()) ...                           // from a lookup: false once the owner has ended it
///     users->kill();                                          // the owner's reference is given back; the last put runs the function
///
/// Kernel: struct percpu_ref (lib/percpu-refcount.c, v6.12). Differences: a switch waits for its grace period (membarrier, 0.5 to 10 us) in place of RCU's, so
/// callbacks run before the call returns; per-CPU memory stays until the end, also without allow_reinit; misuse ends the program.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include <cohort/base/mutex.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/fence.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::percpu {

/// May be or-ed. Kernel: PERCPU_REF_INIT_ATOMIC, PERCPU_REF_INIT_DEAD, PERCPU_REF_ALLOW_REINIT.
enum class ref_flags : unsigned {
    none = 0,
    init_atomic = 1,   ///< stays atomic until switch_to_percpu(); implies allow_reinit
    init_dead = 2,     ///< dead, with count 0, until reinit(); implies allow_reinit
    allow_reinit = 4,  ///< reinit, resurrect and switch_to_percpu may be called
};
constexpr ref_flags operator|(ref_flags a, ref_flags b) { return static_cast<ref_flags>(static_cast<unsigned>(a) | static_cast<unsigned>(b)); }
constexpr bool has(ref_flags set, ref_flags f) { return (static_cast<unsigned>(set) & static_cast<unsigned>(f)) != 0; }

/// Synchronization: any thread may call anything; signal handlers get, tryget, tryget_live, put and their many-forms (the last put runs the function there). What
/// holders did before they put is seen by the function. The function may destroy the ref. Serves the threads of one process.
///
/// Protocol. count = the count in word_ + the units' sum, less the bias while in percpu mode. A unit's flag says that its CPU may count there; where it is
/// down (also on a CPU that has just appeared, or where there are no sequences) the count in word_ is changed, which is right in either mode: in percpu mode the bias keeps it
/// from 0. Units wrap: a reference may be put on another CPU than it was taken on.
///   to atomic:  mode, flags down; grace period: no sequence that saw the flag up is under way, and what it did is seen here; take the units' sum, clear them;
///               add it less the bias to word_ in one step; confirm. The caller's reference (kill: the owner's) keeps the count from 0 until then
///   to percpu:  add the bias, then mode and flags up
/// Order: a fast put needs none, the grace period is a full barrier on its thread. A put in word_ releases, the one that meets 0 acquires.
/// dead is a bit of word_, so that tryget_live tests it and counts in one exchange: after kill_and_confirm's callback none succeeds.
class ref {
public:
    /// What a reference count has on each CPU.
    struct alignas(16) unit {
        std::uint32_t fast;   // [written under flags_; read by sequences of its CPU]
        std::uint64_t count;  // [this CPU, rseq, while fast; else the switching thread]
    };
    using function = std::function<void()>;

    /// release is called when the count meets 0, by the thread that put last, from within put(), kill() or a switch. Errors: those of allocator::alloc.
    static result<std::unique_ptr<ref>> create(function release, ref_flags flags = ref_flags::none);
    ref(ptr<unit> memory, function release, ref_flags flags = ref_flags::none) noexcept : ref(memory.get(), std::move(release), flags) { owned_ = std::move(memory); }
    /// zeroed: zero on every CPU, of nobody else's use, and there as long as the ref.
    ref(handle<unit> zeroed, function release, ref_flags flags = ref_flags::none) noexcept;
    ~ref();
    ref(const ref&) = delete;
    ref& operator=(const ref&) = delete;

    /// The caller holds a reference. Cost: 0.6 ns in percpu mode.
    void get() noexcept { get_many(1); }
    [[gnu::always_inline]] void get_many(std::uint64_t n) noexcept {
        if (!count_fast(n)) [[unlikely]] get_slow(n);
    }
    /// False: the count is 0. The ref is known to be there, by a lock of the lookup, say.
    bool tryget() noexcept { return tryget_many(1); }
    [[gnu::always_inline]] bool tryget_many(std::uint64_t n) noexcept { return count_fast(n) || tryget_slow(n, false); }
    /// False also when it is dying.
    [[gnu::always_inline]] bool tryget_live() noexcept { return count_fast(1) || tryget_slow(1, true); }
    void put() noexcept { put_many(1); }
    [[gnu::always_inline]] void put_many(std::uint64_t n) noexcept {
        detail::told_release(&unit_);
        if (!count_fast(0 - n)) [[unlikely]] put_slow(n);
    }

    /// Ends it: dying from now on, atomic, and the first reference is put. Once; again after reinit or resurrect.
    void kill() { kill_and_confirm({}); }
    /// confirm is called when no tryget_live() succeeds any more and the mode is atomic. It may not switch, kill or revive.
    void kill_and_confirm(const function& confirm);

    /// Atomic from now on, whatever is killed or revived, until switch_to_percpu(). The caller holds a reference. confirm: as above, when the mode is atomic.
    void switch_to_atomic(const function& confirm = {});
    void switch_to_atomic_sync() { switch_to_atomic(); }
    /// Percpu again (if it is dying: from its revival on). The caller holds a reference unless it is dying.
    void switch_to_percpu();
    /// From dead with count 0 to living with the owner's reference.
    void reinit();
    /// From dying to living, with one reference more, the owner's. The caller knows that the function does not run meanwhile.
    void resurrect();

    /// Never in percpu mode.
    bool is_zero() const noexcept { return count_of(word_.load(std::memory_order_acquire)) == 0; }
    bool is_dying() const noexcept { return (word_.load(std::memory_order_acquire) & dead) != 0; }
    bool is_percpu() const noexcept { return mode_.load(std::memory_order_relaxed) == mode::percpu; }

private:
    enum class mode : unsigned char { atomic, percpu };
    static constexpr std::uint64_t dead = 1, one = 2;               // word_: count * one | dead
    static constexpr std::uint64_t bias = (std::uint64_t{1} << 60) * one;
    static constexpr std::int64_t count_of(std::uint64_t word) { return static_cast<std::int64_t>(word) >> 1; }

    [[gnu::always_inline]] bool count_fast(std::uint64_t n) const noexcept {
        constexpr int at = offsetof(unit, count);
        return detail::sequence::add_if_set<by::cpu, handle<unit>::layout, -at>(unit_.value() + at, n);
    }
    [[gnu::cold, gnu::noinline]] void get_slow(std::uint64_t n) noexcept;
    [[gnu::cold, gnu::noinline]] bool tryget_slow(std::uint64_t n, bool live) noexcept;
    [[gnu::cold, gnu::noinline]] void put_slow(std::uint64_t n) noexcept;
    void allow_here() noexcept;
    void set_mode(mode to) noexcept;
    void to_atomic(const function& confirm) COHORT_REQUIRES(switching_);
    void to_percpu() COHORT_REQUIRES(switching_);
    void revive(bool must_be_zero);

    ptr<unit> owned_;                     // [const after init] empty where the caller keeps the memory
    const handle<unit> unit_;             // [const after init]
    const function release_;              // [const after init]
    const bool allow_reinit_;             // [const after init]
    alignas(64) std::atomic<std::uint64_t> word_;  // [atomic: all]
    std::atomic<mode> mode_;              // [atomic: written under flags_]
    sys::spinlock flags_;
    mutex switching_;
    bool force_atomic_ COHORT_GUARDED_BY(switching_);
};

}  // namespace cohort::percpu
