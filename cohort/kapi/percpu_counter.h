// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for counters that many CPUs add to and few read, over percpu::counter.
///
///     struct percpu_counter pages;
///     if (percpu_counter_init(&pages, 0, GFP_KERNEL)) return -ENOMEM;
///     percpu_counter_add(&pages, n);                          // about a nanosecond; any thread
///     if (percpu_counter_compare(&pages, limit) > 0) ...      // exact where reading is too near to tell
///     percpu_counter_destroy(&pages);
///
/// Kernel: include/linux/percpu_counter.h (v6.12). Differences: as percpu/counter.hpp says; a batch has 64 bits; CPUs that go offline need no callback.
#pragma once

#include <cerrno>
#include <cstdint>
#include <utility>

#include <cohort/kapi/detail/in_place.hpp>
#include <cohort/kapi/percpu.h>
#include <cohort/percpu/counter.hpp>

struct percpu_counter {
    cohort::kapi::in_place<cohort::percpu::counter> counter;
    void __percpu* units;  // [const between init and destroy] what this one frees: its own copies, or those of all that were initialised with it
};

/// Where a unit is folded into what percpu_counter_read() sees: max(32, twice the CPUs online).
#define percpu_counter_batch (::cohort::percpu::default_batch())

/// nr counters side by side, their copies in one allocation: 1 .. 4096. 0 or -ENOMEM.
inline int percpu_counter_init_many(percpu_counter* fbc, std::int64_t amount, gfp_t gfp, std::uint32_t nr) {
    using unit = cohort::percpu::counter::unit;
    for (std::uint32_t i = 0; i < nr; ++i) fbc[i].counter.there = false, fbc[i].units = nullptr;
    auto* units = static_cast<unit __percpu*>(__alloc_percpu_gfp(nr * sizeof(unit), alignof(unit), gfp));
    if (!units) return -ENOMEM;
    for (std::uint32_t i = 0; i < nr; ++i) fbc[i].counter.make(cohort::percpu::handle<unit>(reinterpret_cast<std::uintptr_t>(units + i)), amount);
    fbc[0].units = units;
    return 0;
}
inline int percpu_counter_init(percpu_counter* fbc, std::int64_t amount, gfp_t gfp) { return percpu_counter_init_many(fbc, amount, gfp, 1); }
/// Those that were never initialised, but zeroed, are nothing.
inline void percpu_counter_destroy_many(percpu_counter* fbc, std::uint32_t nr) {
    for (std::uint32_t i = 0; i < nr; ++i) fbc[i].counter.end();
    if (nr > 0) free_percpu(std::exchange(fbc[0].units, nullptr));
}
inline void percpu_counter_destroy(percpu_counter* fbc) { percpu_counter_destroy_many(fbc, 1); }
inline bool percpu_counter_initialized(const percpu_counter* fbc) { return fbc->counter.there; }

[[gnu::always_inline]] inline void percpu_counter_add(percpu_counter* fbc, std::int64_t amount) { fbc->counter.get().add(amount); }
[[gnu::always_inline]] inline void percpu_counter_sub(percpu_counter* fbc, std::int64_t amount) { fbc->counter.get().sub(amount); }
[[gnu::always_inline]] inline void percpu_counter_inc(percpu_counter* fbc) { fbc->counter.get().inc(); }
[[gnu::always_inline]] inline void percpu_counter_dec(percpu_counter* fbc) { fbc->counter.get().dec(); }
inline void percpu_counter_add_batch(percpu_counter* fbc, std::int64_t amount, std::int64_t batch) { fbc->counter.get().add_batch(amount, batch); }
/// Never folded by themselves: for counters that are only summed.
inline void percpu_counter_add_local(percpu_counter* fbc, std::int64_t amount) { fbc->counter.get().add_local(amount); }
inline void percpu_counter_sub_local(percpu_counter* fbc, std::int64_t amount) { fbc->counter.get().sub_local(amount); }
/// Adds if the value is within the limit afterwards: at most (amount > 0) or at least (amount < 0).
inline bool percpu_counter_limited_add(percpu_counter* fbc, std::int64_t limit, std::int64_t amount) { return fbc->counter.get().limited_add(limit, amount); }

inline std::int64_t percpu_counter_read(const percpu_counter* fbc) { return fbc->counter.get().read(); }
inline std::int64_t percpu_counter_read_positive(const percpu_counter* fbc) { return fbc->counter.get().read_positive(); }
inline std::int64_t percpu_counter_sum(const percpu_counter* fbc) { return fbc->counter.get().sum(); }
inline std::int64_t percpu_counter_sum_positive(const percpu_counter* fbc) { return fbc->counter.get().sum_positive(); }
inline int percpu_counter_compare(const percpu_counter* fbc, std::int64_t rhs) { return fbc->counter.get().compare(rhs); }
inline int __percpu_counter_compare(const percpu_counter* fbc, std::int64_t rhs, std::int64_t batch) { return fbc->counter.get().compare(rhs, batch); }
inline void percpu_counter_set(percpu_counter* fbc, std::int64_t amount) { fbc->counter.get().set(amount); }
inline void percpu_counter_sync(percpu_counter* fbc) { fbc->counter.get().sync(); }
