// SPDX-License-Identifier: Apache-2.0
/// Operations on this CPU's copy of an object: no lock, no fence, about as dear as an addition in memory.
///
///     percpu::ptr<long> hits = percpu::make<long>().value();   // one zero for each possible CPU; allocator.hpp
///     this_cpu::inc(hits.get());                               // any thread, also in a signal handler
///     this_cpu::add(hits.get(), 10);
///     long all = percpu::sum(hits.get());                      // over the CPUs; exact when nobody adds meanwhile
///     long* there = percpu::per_cpu(hits.get(), 3);            // the copy of CPU 3
///
/// Kernel: this_cpu_add() and its family, per_cpu_ptr() (include/linux/percpu-defs.h, v6.12). Differences: only the this_cpu_ family, since
/// user space cannot forbid preemption; the operations do not order other memory; numbers are those of cpu_id or of mm_cid (by).
#pragma once

#include <atomic>
#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/percpu/detail/presence.hpp>
#include <cohort/percpu/detail/rseq.hpp>

namespace cohort::percpu {

/// Names an object that has a copy for each CPU. A value, one word; it owns nothing and cannot be dereferenced: no CPU's copy has its address, and
/// reading there by force faults. L is the layout that T's alignment asks for.
template <class T, by Index = by::cpu, detail::layout L = detail::layout_for(alignof(T))>
class handle {
public:
    using value_type = T;
    static constexpr by index = Index;
    static constexpr detail::layout layout = L;

    constexpr handle() = default;
    /// What value() gave, or an allocator.
    constexpr explicit handle(std::uintptr_t value) : value_(value) {}

    constexpr explicit operator bool() const { return value_ != 0; }
    constexpr bool operator==(const handle&) const = default;
    constexpr std::uintptr_t value() const { return value_; }
    /// A member of it: h.member(&packet_stats::bytes).
    template <class M, class C>
        requires std::derived_from<T, C>
    handle<M, Index, L> member(M C::*which) const {
        alignas(T) static constexpr std::byte frame[sizeof(T)] = {};
        const auto* base = reinterpret_cast<const T*>(frame);
        const auto* there = reinterpret_cast<const std::byte*>(&(base->*which));
        return handle<M, Index, L>(value_ + static_cast<std::uintptr_t>(there - frame));
    }
    /// An element of an array of T that was allocated as one object.
    handle operator+(std::ptrdiff_t n) const { return handle(value_ + static_cast<std::uintptr_t>(n * static_cast<std::ptrdiff_t>(sizeof(T)))); }

private:
    std::uintptr_t value_ = 0;
};

namespace detail {

template <std::size_t Size>
struct word_of;
template <>
struct word_of<1> { using type = std::uint8_t; };
template <>
struct word_of<2> { using type = std::uint16_t; };
template <>
struct word_of<4> { using type = std::uint32_t; };
template <>
struct word_of<8> { using type = std::uint64_t; };

template <class T>
concept word_like = std::is_trivially_copyable_v<T> && (sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
template <class T>
concept number = word_like<T> && std::is_integral_v<T> && !std::same_as<T, bool>;
template <class T>
using word_type = typename word_of<sizeof(T)>::type;

template <class T>
word_type<T> to_word(T value) { return std::bit_cast<word_type<T>>(value); }
template <class T>
T from_word(word_type<T> w) { return std::bit_cast<T>(w); }

/// The copy of the calling thread's CPU, for atomics: they stand for sequences where there are none.
template <class T, by I, layout L>
std::atomic_ref<word_type<T>> current_word(handle<T, I, L> h) noexcept {
    return std::atomic_ref<word_type<T>>(*reinterpret_cast<word_type<T>*>(h.value() + current_offset(I, L)));
}

}  // namespace detail

/// The copy of CPU (or cid) `cpu`, which becomes present. 0 <= cpu < possible CPUs. Other threads may be changing it.
/// Cost: a load; the first time for a CPU some microseconds.
template <class T, by I, detail::layout L>
T* per_cpu(handle<T, I, L> h, unsigned cpu) noexcept {
    detail::make_present(I, cpu);
    return reinterpret_cast<T*>(h.value() + detail::offset_of(L, cpu));
}

/// The copy of the CPU that the thread is on, which may be another's by the time it is used. Kernel: raw_cpu_ptr().
template <class T, by I, detail::layout L>
T* this_cpu_ptr(handle<T, I, L> h) noexcept {
    return reinterpret_cast<T*>(h.value() + detail::current_offset(I, L));
}

/// Calls f(cpu, T&) for the copies that can differ from what they held at first: those of the CPUs that are present.
template <class T, by I, detail::layout L, class F>
void for_each_present_cpu(handle<T, I, L> h, F&& f) {
    const std::uint32_t n = detail::present_count(I);
    for (std::uint32_t i = 0; i < n; ++i) {
        const unsigned cpu = detail::present_at(I, i);
        f(cpu, *reinterpret_cast<T*>(h.value() + detail::present_offset(I, L, i)));
    }
}

/// Possible CPUs of this machine: they may come online while the program runs. 1 .. 8192. Numbers of CPUs are below it.
unsigned possible_cpus() noexcept;

/// Calls f(cpu, T&) for the copy of every possible CPU; all become present, which costs memory: prefer for_each_present_cpu.
template <class T, by I, detail::layout L, class F>
void for_each_possible_cpu(handle<T, I, L> h, F&& f) {
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) f(cpu, *per_cpu(h, cpu));
}

/// The sum of the copies; wraps as unsigned numbers do. Exact when nobody writes meanwhile, else of a moment in between for each copy.
/// Cost: one load per present CPU, in different cache sets.
template <detail::number T, by I, detail::layout L>
T sum(handle<T, I, L> h) noexcept {
    using word = detail::word_type<T>;
    word total = 0;
    for_each_present_cpu(h, [&](unsigned, T& copy) {
        // relaxed: a statistic; who needs order has it from elsewhere.
        total = static_cast<word>(total + std::atomic_ref<word>(reinterpret_cast<word&>(copy)).load(std::memory_order_relaxed));
    });
    return static_cast<T>(total);
}

/// Operations on the copy of the CPU that the thread is on, each as if at one moment with respect to this CPU. Any thread, also in signal handlers.
/// T: trivially copyable, of 1, 2, 4 or 8 bytes; integers where it is reckoned with, which wrap.
namespace this_cpu {

template <detail::word_like T, by I, detail::layout L>
[[gnu::always_inline]] inline T read(handle<T, I, L> h) noexcept {
    for (detail::word_type<T> w;;) {
        if (detail::sequence::read<I, L>(h.value(), w)) return detail::from_word<T>(w);
        if (!detail::arrive(I)) return detail::from_word<T>(detail::current_word(h).load(std::memory_order_relaxed));
    }
}

template <detail::word_like T, by I, detail::layout L>
[[gnu::always_inline]] inline void write(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    while (!detail::sequence::write<I, L>(h.value(), detail::to_word(value))) {
        if (!detail::arrive(I)) return detail::current_word(h).store(detail::to_word(value), std::memory_order_relaxed);
    }
}

template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void add(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    while (!detail::sequence::add<I, L>(h.value(), detail::to_word(value))) {
        if (!detail::arrive(I)) return void(detail::current_word(h).fetch_add(detail::to_word(value), std::memory_order_relaxed));
    }
}
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void sub(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    add(h, static_cast<T>(detail::word_type<T>(0) - detail::to_word(value)));
}
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void inc(handle<T, I, L> h) noexcept { add(h, T{1}); }
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void dec(handle<T, I, L> h) noexcept { sub(h, T{1}); }

template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void and_(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    while (!detail::sequence::bit_and<I, L>(h.value(), detail::to_word(value))) {
        if (!detail::arrive(I)) return void(detail::current_word(h).fetch_and(detail::to_word(value), std::memory_order_relaxed));
    }
}
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline void or_(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    while (!detail::sequence::bit_or<I, L>(h.value(), detail::to_word(value))) {
        if (!detail::arrive(I)) return void(detail::current_word(h).fetch_or(detail::to_word(value), std::memory_order_relaxed));
    }
}

/// The new value of the copy.
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline T add_return(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    for (detail::word_type<T> sum;;) {
        if (detail::sequence::add_return<I, L>(h.value(), detail::to_word(value), sum)) return detail::from_word<T>(sum);
        if (detail::arrive(I)) continue;
        const auto before = detail::current_word(h).fetch_add(detail::to_word(value), std::memory_order_relaxed);
        return detail::from_word<T>(static_cast<detail::word_type<T>>(before + detail::to_word(value)));
    }
}
template <detail::number T, by I, detail::layout L>
[[gnu::always_inline]] inline T sub_return(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    return add_return(h, static_cast<T>(detail::word_type<T>(0) - detail::to_word(value)));
}

/// The value that was there.
template <detail::word_like T, by I, detail::layout L>
[[gnu::always_inline]] inline T xchg(handle<T, I, L> h, std::type_identity_t<T> value) noexcept {
    for (detail::word_type<T> old;;) {
        if (detail::sequence::exchange<I, L>(h.value(), detail::to_word(value), old)) return detail::from_word<T>(old);
        if (detail::arrive(I)) continue;
        return detail::from_word<T>(detail::current_word(h).exchange(detail::to_word(value), std::memory_order_relaxed));
    }
}

/// The value that was there; it was replaced if it equals `expected`, bit by bit.
template <detail::word_like T, by I, detail::layout L>
[[gnu::always_inline]] inline T cmpxchg(handle<T, I, L> h, std::type_identity_t<T> expected, std::type_identity_t<T> desired) noexcept {
    detail::word_type<T> old = detail::to_word(expected);
    for (detail::word_type<T> seen;;) {
        if (detail::sequence::compare_exchange<I, L>(h.value(), old, detail::to_word(desired), seen)) return detail::from_word<T>(seen);
        if (detail::arrive(I)) continue;
        detail::current_word(h).compare_exchange_strong(old, detail::to_word(desired), std::memory_order_relaxed);
        return detail::from_word<T>(old);
    }
}
/// True: replaced. False: `expected` is now what was there, on the CPU that the thread was on; the next try may meet another copy.
template <detail::word_like T, by I, detail::layout L>
[[gnu::always_inline]] inline bool try_cmpxchg(handle<T, I, L> h, T& expected, std::type_identity_t<T> desired) noexcept {
    const T old = cmpxchg(h, expected, desired);
    const bool done = detail::to_word(old) == detail::to_word(expected);
    expected = old;
    return done;
}

}  // namespace this_cpu
}  // namespace cohort::percpu

namespace cohort {
namespace this_cpu = percpu::this_cpu;
}
