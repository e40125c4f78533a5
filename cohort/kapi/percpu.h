// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for memory per CPU, over cohort/percpu: code that is written in them compiles as C++ and counts as it does there.
///
///     struct dev_stats __percpu *stats = alloc_percpu(struct dev_stats);   // NULL: no memory
///     this_cpu_inc(stats->packets);
///     this_cpu_add(stats->bytes, length);
///     for_each_possible_cpu(cpu) total += per_cpu_ptr(stats, cpu)->bytes;
///     free_percpu(stats);
///     static DEFINE_PER_CPU(int, budget) = 64;  this_cpu_dec(budget);  per_cpu(budget, cpu) = 0;
///
/// A `T __percpu *` is the value of a percpu::handle: a pointer that no CPU's copy has, and reading there faults. Objects are of the default allocator, by cpu_id.
///
/// Kernel: include/linux/percpu.h, percpu-defs.h, gfp_types.h (v6.12). Differences: user space cannot hold preemption off, so get_cpu_ptr(), get_cpu_var() and the families
/// __this_cpu_ and raw_cpu_ protect nothing more (and nothing less) than this_cpu_: each operation is one for its CPU, two of them may meet two CPUs. What was put through
/// this_cpu_ptr() by plain stores may meet another thread's; use the operations. Pages come when a copy is first touched. Bad pointers end the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include <cohort/base/check.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/ops.hpp>
#include <cohort/percpu/variable.hpp>

/// For people, and for sparse in the kernel.
#ifndef __percpu
#define __percpu
#endif

// --- how an allocation is made -------------------------------------------------------------------------------------------------------------------

using gfp_t = unsigned;
inline constexpr gfp_t __GFP_DIRECT_RECLAIM = 1u << 0;  ///< may block; without it: populated pages only, fit for signal handlers
inline constexpr gfp_t __GFP_ACCOUNT = 1u << 1;         ///< charged to the current group of account
inline constexpr gfp_t __GFP_NOWARN = 1u << 2;
inline constexpr gfp_t __GFP_NORETRY = 1u << 3;         ///< no new chunk is made
inline constexpr gfp_t __GFP_NOFAIL = 1u << 4;          ///< not stopped by a stop token; may still be refused for want of memory
inline constexpr gfp_t __GFP_ZERO = 1u << 5;            ///< always so
inline constexpr gfp_t GFP_ATOMIC = 0;
inline constexpr gfp_t GFP_NOWAIT = __GFP_NOWARN;
inline constexpr gfp_t GFP_KERNEL = __GFP_DIRECT_RECLAIM;
inline constexpr gfp_t GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT;

constexpr bool gfpflags_allow_blocking(gfp_t gfp) { return (gfp & __GFP_DIRECT_RECLAIM) != 0; }

namespace cohort::kapi {

constexpr percpu::alloc_flags flags_of(gfp_t gfp) {
    using enum percpu::alloc_flags;
    return (gfp & __GFP_ACCOUNT ? account : none) | (gfp & __GFP_NOWARN ? nowarn : none) | (gfp & __GFP_NORETRY ? noretry : none) |
           (gfp & __GFP_NOFAIL ? nofail : none);
}

/// f(handle) for a variable of which `at` is the name: its type's alignment tells the layout, or else a bit of its address does.
template <class T, class F>
[[gnu::always_inline]] inline decltype(auto) with_handle(T& at, F&& f) {
    using percpu::detail::layout;
    using value = std::remove_cv_t<T>;
    const auto where = reinterpret_cast<std::uintptr_t>(std::addressof(at));
    if constexpr (percpu::detail::layout_for(alignof(T)) == layout::flat) {
        return f(percpu::handle<value, percpu::by::cpu, layout::flat>(where));
    } else {
        if (percpu::detail::layout_of(where) == layout::coloured) [[likely]] return f(percpu::handle<value, percpu::by::cpu, layout::coloured>(where));
        return f(percpu::handle<value, percpu::by::cpu, layout::flat>(where));
    }
}

/// Takes what stands behind DEFINE_PER_CPU: nothing, or `= value`. Unique: a type of the definition's own, so that it has a variable of its own.
template <class T, class Unique>
class definition {
public:
    // What is answered is no place in memory but a handle, which has bits of its own where an address has none.
    __attribute__((no_sanitize("alignment"))) operator T&() const { return make(T()); }
    __attribute__((no_sanitize("alignment"))) T& operator=(const T& initial) const { return make(initial); }  // NOLINT: initialises what DEFINE_PER_CPU names

private:
    __attribute__((no_sanitize("alignment"))) static T& make(const T& initial) {
        static percpu::variable<T> it(initial);
        COHORT_CHECK(it.bound(), "DEFINE_PER_CPU: no space is left for the variables of loaded libraries");
        return *reinterpret_cast<T*>(it.value());
    }
};
template <class T, class Unique>
constexpr definition<T, Unique> define(Unique) { return {}; }

}  // namespace cohort::kapi

// --- allocation ----------------------------------------------------------------------------------------------------------------------------------

/// Zero on every CPU. NULL: size 0 or over 32 KiB, align not a power of two or over 4096, or no memory; told on stderr unless __GFP_NOWARN.
inline void __percpu* __alloc_percpu_gfp(std::size_t size, std::size_t align, gfp_t gfp) {
    auto& from = cohort::percpu::default_allocator();
    if (!gfpflags_allow_blocking(gfp)) return reinterpret_cast<void*>(from.alloc_atomic(size, align, cohort::kapi::flags_of(gfp)).value);
    return reinterpret_cast<void*>(from.alloc(size, align, cohort::kapi::flags_of(gfp)).value_or(0));
}
inline void __percpu* __alloc_percpu(std::size_t size, std::size_t align) { return __alloc_percpu_gfp(size, align, GFP_KERNEL); }
/// From what is kept for the variables of libraries that are loaded later.
inline void __percpu* __alloc_reserved_percpu(std::size_t size, std::size_t align) {
    return reinterpret_cast<void*>(cohort::percpu::default_allocator().alloc_reserved(size, align).value_or(0));
}
/// NULL is nothing. Any thread, also in signal handlers.
inline void free_percpu(const void __percpu* p) {
    COHORT_CHECK(cohort::percpu::free(reinterpret_cast<std::uintptr_t>(p)) == 0, "free_percpu: there is no per-CPU object");
}
#define alloc_percpu(type) (static_cast<std::add_pointer_t<type>>(__alloc_percpu(sizeof(type), alignof(type))))
#define alloc_percpu_gfp(type, gfp) (static_cast<std::add_pointer_t<type>>(__alloc_percpu_gfp(sizeof(type), alignof(type), gfp)))

/// Pages in memory for the default allocator, over all CPUs.
unsigned long pcpu_nr_pages();

// --- static variables: a name stands for an lvalue that cannot be read, as in the kernel -----------------------------------------------------

/// At namespace scope; `static` may stand before, `= value` behind. A reference, bound when the file's constructors run.
#define DEFINE_PER_CPU(type, name) std::type_identity_t<type>& name = ::cohort::kapi::define<type>([] {})
#define DECLARE_PER_CPU(type, name) extern std::type_identity_t<type>& name

// --- copies --------------------------------------------------------------------------------------------------------------------------------------

template <class T>
T* per_cpu_ptr(T __percpu* p, unsigned cpu) {
    COHORT_CHECK(cpu < cohort::percpu::possible_cpus(), "per_cpu_ptr: there is no such CPU");
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    using cohort::percpu::detail::layout;
    const auto there = cohort::percpu::detail::layout_of(at) == layout::coloured
                           ? reinterpret_cast<std::uintptr_t>(per_cpu(cohort::percpu::handle<char, cohort::percpu::by::cpu, layout::coloured>(at), cpu))
                           : reinterpret_cast<std::uintptr_t>(per_cpu(cohort::percpu::handle<char, cohort::percpu::by::cpu, layout::flat>(at), cpu));
    return reinterpret_cast<T*>(there);
}
/// The copy of the CPU that the thread was on.
template <class T>
T* raw_cpu_ptr(T __percpu* p) {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    return reinterpret_cast<T*>(at + cohort::percpu::detail::current_offset(cohort::percpu::by::cpu, cohort::percpu::detail::layout_of(at)));
}
template <class T>
T* this_cpu_ptr(T __percpu* p) { return raw_cpu_ptr(p); }
/// Preemption stays on.
template <class T>
T* get_cpu_ptr(T __percpu* p) { return raw_cpu_ptr(p); }
inline void put_cpu_ptr(const void*) {}

template <class T>
T& per_cpu(T& variable, unsigned cpu) { return *per_cpu_ptr(std::addressof(variable), cpu); }
/// Preemption stays on.
template <class T>
T& get_cpu_var(T& variable) { return *raw_cpu_ptr(std::addressof(variable)); }
template <class T>
void put_cpu_var(T&) {}

inline unsigned num_possible_cpus() { return cohort::percpu::possible_cpus(); }
/// After this header, the function of this name is called as (percpu::for_each_possible_cpu)(handle, f).
#define for_each_possible_cpu(cpu) for ((cpu) = 0; static_cast<unsigned>(cpu) < ::cohort::percpu::possible_cpus(); ++(cpu))

// --- operations on this CPU's copy: pcp is *p, p->member or the name of a static variable ----------------------------------------------------

#define COHORT_KAPI_VALUE(T) std::type_identity_t<std::remove_cv_t<T>>
#define COHORT_KAPI_VOID(family, kernel_name, ours)                                                                          \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline void family##kernel_name(T& pcp, COHORT_KAPI_VALUE(T) value) {                             \
        ::cohort::kapi::with_handle(pcp, [&](auto h) { ::cohort::percpu::this_cpu::ours(h, value); });                       \
    }
#define COHORT_KAPI_RETURN(family, kernel_name, ours)                                                                        \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline std::remove_cv_t<T> family##kernel_name(T& pcp, COHORT_KAPI_VALUE(T) value) {              \
        return ::cohort::kapi::with_handle(pcp, [&](auto h) { return ::cohort::percpu::this_cpu::ours(h, value); });         \
    }
#define COHORT_KAPI_FAMILY(family)                                                                                           \
    COHORT_KAPI_VOID(family, write, write)                                                                                   \
    COHORT_KAPI_VOID(family, add, add)                                                                                       \
    COHORT_KAPI_VOID(family, sub, sub)                                                                                       \
    COHORT_KAPI_VOID(family, and, and_)                                                                                      \
    COHORT_KAPI_VOID(family, or, or_)                                                                                        \
    COHORT_KAPI_RETURN(family, add_return, add_return)                                                                       \
    COHORT_KAPI_RETURN(family, sub_return, sub_return)                                                                       \
    COHORT_KAPI_RETURN(family, xchg, xchg)                                                                                   \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline std::remove_cv_t<T> family##read(T& pcp) {                                                 \
        return ::cohort::kapi::with_handle(pcp, [](auto h) { return ::cohort::percpu::this_cpu::read(h); });                 \
    }                                                                                                                        \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline void family##inc(T& pcp) { family##add(pcp, 1); }                                          \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline void family##dec(T& pcp) { family##sub(pcp, 1); }                                          \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline std::remove_cv_t<T> family##inc_return(T& pcp) { return family##add_return(pcp, 1); }      \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline std::remove_cv_t<T> family##dec_return(T& pcp) { return family##sub_return(pcp, 1); }      \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline std::remove_cv_t<T> family##cmpxchg(T& pcp, COHORT_KAPI_VALUE(T) expected, COHORT_KAPI_VALUE(T) desired) { \
        return ::cohort::kapi::with_handle(pcp, [&](auto h) { return ::cohort::percpu::this_cpu::cmpxchg(h, expected, desired); }); \
    }                                                                                                                        \
    template <class T>                                                                                                       \
    [[gnu::always_inline]] inline bool family##try_cmpxchg(T& pcp, std::remove_cv_t<T>* expected, COHORT_KAPI_VALUE(T) desired) { \
        return ::cohort::kapi::with_handle(pcp, [&](auto h) { return ::cohort::percpu::this_cpu::try_cmpxchg(h, *expected, desired); }); \
    }

COHORT_KAPI_FAMILY(this_cpu_)
COHORT_KAPI_FAMILY(__this_cpu_)
COHORT_KAPI_FAMILY(raw_cpu_)

#undef COHORT_KAPI_FAMILY
#undef COHORT_KAPI_RETURN
#undef COHORT_KAPI_VOID
#undef COHORT_KAPI_VALUE
