// SPDX-License-Identifier: Apache-2.0
/// A counter that many CPUs add to and few read: an addition is one restartable sequence, a reading is near by a known amount, a sum is exact.
///
///     auto pages = percpu::counter::create().value();         // std::unique_ptr
///     pages->inc();                                           // any thread, also in a signal handler
///     pages->read();                                          // a load; off by less than batch for each CPU
///     pages->sum();                                           // exact when nobody adds
///     if (!pages->limited_add(1000, 8)) ...                   // never above 1000
///
/// Kernel: struct percpu_counter (lib/percpu_counter.c, v6.12). Differences: units have 64 bits; sums run over the CPUs that were used, online or not, so going
/// offline loses nothing even without fold(); an addition never waits for another thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <cohort/machine/events.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::percpu {

/// max(32, twice the CPUs that are online), as counted at the first call. Kernel: percpu_counter_batch.
std::int64_t default_batch() noexcept;

/// Synchronization: any thread may call anything. Signal handlers may call add, sub, inc, dec, add_local, sub_local, read and read_positive, whatever they interrupted.
/// A forked child goes on with its copy, if no other thread of its parent was in a call that takes the lock.
///
/// Protocol. value = count_ + the units' sum. An addition goes to the unit if it stays below the batch there (tested and stored in one sequence), so a unit is
/// below its batch at any time; else the unit is folded: under lock_, unit exchanged for 0, its content and the amount added to count_. Who finds the
/// lock taken adds the amount alone to count_, which is right, too, and waits for nobody; so a handler that interrupted the holder is served. Sums hold the
/// lock: what is between unit and count_ is never missed.
/// Nobody writes a unit but threads on its CPU. So fold(cpu) notes what it has moved (folded_) instead of clearing the unit, and set() works by count_ alone.
class counter {
public:
    using unit = std::int64_t;
    /// A batch that no unit reaches: for counters that are only summed.
    static constexpr std::int64_t local_batch = INT32_MAX;

    /// batch: 1 or more; 0: default_batch(). Errors: those of allocator::alloc.
    static result<std::unique_ptr<counter>> create(std::int64_t value = 0, std::int64_t batch = 0);
    explicit counter(ptr<unit> memory, std::int64_t value = 0, std::int64_t batch = 0) noexcept;
    /// zeroed: zero on every CPU, of nobody else's use, and there as long as the counter.
    explicit counter(handle<unit> zeroed, std::int64_t value = 0, std::int64_t batch = 0) noexcept;
    ~counter();
    counter(const counter&) = delete;
    counter& operator=(const counter&) = delete;

    /// Cost: about 1 ns, and a fold (some 10 ns) once in a batch. Signal-safe.
    [[gnu::always_inline]] void add(std::int64_t amount) noexcept {
        if (!within(amount, low_)) [[unlikely]] add_slow(amount, low_ + 1);
    }
    void sub(std::int64_t amount) noexcept { add(-amount); }
    void inc() noexcept { add(1); }
    void dec() noexcept { add(-1); }
    /// With another batch (1 or more) for this time. Units may then hold that much: give the largest one to compare(). Kernel: percpu_counter_add_batch.
    void add_batch(std::int64_t amount, std::int64_t batch) noexcept {
        COHORT_CHECK(batch > 0, "the batch of an addition is not positive");
        if (!within(amount, batch - 1)) [[unlikely]] add_slow(amount, batch);
    }
    void add_local(std::int64_t amount) noexcept { add_batch(amount, local_batch); }
    void sub_local(std::int64_t amount) noexcept { add_local(-amount); }

    /// Adds if the value is at most `limit` afterwards (amount > 0), at least `limit` (amount < 0). Exact, also beside others that add so; add() does not look
    /// at limits. Not signal-safe. Cost: an atomic addition while the limit is far, a sum near it.
    bool limited_add(std::int64_t limit, std::int64_t amount) noexcept;

    /// -1, 0, 1: the value is less than, equal to, more than rhs. As sum() where read() is too near to tell. Not signal-safe.
    int compare(std::int64_t rhs) const noexcept { return compare(rhs, low_ + 1); }
    int compare(std::int64_t rhs, std::int64_t batch) const noexcept;

    /// Exact when nobody adds; else it has all additions that had returned before, and some that run. Not signal-safe. Cost: a load per present CPU.
    std::int64_t sum() const noexcept;
    std::int64_t sum_positive() const noexcept { return std::max<std::int64_t>(0, sum()); }
    /// From sum() by less than batch for each present CPU, and less than twice that for one that fold() was called for.
    std::int64_t read() const noexcept { return count_.load(std::memory_order_relaxed); }
    /// Never negative.
    std::int64_t read_positive() const noexcept { return std::max<std::int64_t>(0, read()); }

    /// Folds this CPU's unit, so that read() shows it. Not signal-safe.
    void sync() noexcept;
    /// Whatever it was before, it is `value` now; additions that run count or not. Not signal-safe.
    void set(std::int64_t value) noexcept;
    /// Folds the unit of a CPU that went offline: read() shows it. Right at any time, also when it comes online again meanwhile. Not signal-safe.
    void fold(unsigned cpu) noexcept;

    std::int64_t batch() const { return low_ + 1; }

private:
    [[gnu::always_inline]] bool within(std::int64_t amount, std::int64_t low) noexcept {
        return detail::sequence::add_within<by::cpu, handle<unit>::layout>(unit_.value(), static_cast<std::uint64_t>(amount), static_cast<std::uint64_t>(low),
                                                                           2 * static_cast<std::uint64_t>(low));
    }
    [[gnu::cold, gnu::noinline]] void add_slow(std::int64_t amount, std::int64_t batch) noexcept;
    bool within_by_atomics(std::int64_t amount, std::int64_t batch) noexcept;
    std::int64_t units_locked() const noexcept COHORT_REQUIRES(lock_);
    std::int64_t furthest(std::int64_t batch) const noexcept;

    ptr<unit> owned_;                       // [const after init] empty where the caller keeps the memory
    const handle<unit> unit_;               // [const after init]; content: [this CPU, rseq]
    const std::int64_t low_;                // [const after init] batch - 1
    alignas(64) std::atomic<std::int64_t> count_;  // [atomic: relaxed; a statistic, orders nothing]
    mutable sys::spinlock lock_;            // of what moves between units and count_
    std::vector<std::pair<unsigned, std::int64_t>> folded_ COHORT_GUARDED_BY(lock_);  // of a CPU's unit: in count_ already
    std::atomic<unsigned> folded_cpus_{0};  // [atomic: relaxed; its size]
};

/// n counters in one allocation, at most 4096. Kernel: percpu_counter_init_many.
class counter_set {
public:
    /// Errors: those of allocator::alloc.
    static result<counter_set> create(std::size_t n, std::int64_t value = 0, std::int64_t batch = 0);
    counter& operator[](std::size_t i) { return *counters_[i]; }
    std::size_t size() const { return counters_.size(); }
    auto begin() const { return counters_.begin(); }
    auto end() const { return counters_.end(); }

private:
    ptr<counter::unit> memory_;
    std::vector<std::unique_ptr<counter>> counters_;
};

/// While it lives, these counters fold the units of CPUs that go offline. They and the events outlive it.
class fold_on_offline {
public:
    fold_on_offline(machine::events& events, std::vector<counter*> counters);
    ~fold_on_offline();
    fold_on_offline(const fold_on_offline&) = delete;
    fold_on_offline& operator=(const fold_on_offline&) = delete;

private:
    machine::events& events_;
    const std::vector<counter*> counters_;
    notifier::block block_;
};

}  // namespace cohort::percpu
