// SPDX-License-Identifier: Apache-2.0
/// Variables that have a copy for each CPU, defined like globals; every copy begins with the same value.
///
///     COHORT_DEFINE_PER_CPU(long, requests);                   // zeroes
///     COHORT_DEFINE_PER_CPU(int, budget, 64);                  // 64 on each CPU
///     COHORT_DECLARE_PER_CPU(long, requests);                  // in a header
///     this_cpu::inc(requests);                                 // the same operations as on allocated objects
///     long all = percpu::sum(requests);
///
/// A library that is loaded by dlopen(3) gets its variables from the reserved part of the first chunk, 8 KiB in all, when its constructors run, and gives them back
/// at dlclose(3). Such a library is compiled with COHORT_PERCPU_UNLOADABLE (detail/rseq_x86_64.hpp says why).
///
/// Kernel: DEFINE_PER_CPU, DECLARE_PER_CPU (include/linux/percpu-defs.h, v6.12), pcpu_alloc of modules. Differences: variables live from their constructor to
/// their destructor, in the order of their object file; a copy gets the initial value when its CPU becomes present.
#pragma once

#include <cstdint>

#include <cohort/base/error.hpp>
#include <cohort/percpu/ops.hpp>

namespace cohort::percpu {

namespace detail {

/// What a variable leaves with the allocator and with the arrival of CPUs.
class variable_record {
public:
    /// Takes space, and copies the initial value to the CPUs that are present. where: in the object that defines it. initial must live as long.
    std::uintptr_t bind(std::size_t size, std::size_t align, const void* initial, const void* where) noexcept;
    void unbind() noexcept;

    static void initialize_unit(by index, unsigned cpu) noexcept;
    /// Of all variables, in one unit.
    static std::uint64_t bytes() noexcept;

private:
    static variable_record* first_;  // [guarded: the arrivals' lock]
    std::uintptr_t value_ = 0;       // [const while bound]
    std::size_t size_ = 0;           // [const while bound]
    const void* initial_ = nullptr;  // [const while bound] null: zeroes
    variable_record* next_ = nullptr;  // [guarded: the arrivals' lock]
};

}  // namespace detail

/// A handle that owns its object. Not movable; defined at namespace scope by the macro.
/// Synchronization: as any handle; other threads may use it once its constructor has returned.
template <class T>
class variable : public handle<T> {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>, "copies are made of bytes and dropped without a destructor");

public:
    explicit variable(const T& initial = T()) : initial_(initial) {
        static_cast<handle<T>&>(*this) = handle<T>(record_.bind(sizeof(T), alignof(T), &initial_, this));
    }
    variable(const variable&) = delete;
    variable& operator=(const variable&) = delete;
    ~variable() {
        if (*this) record_.unbind();
    }

    const T& initial() const { return initial_; }
    /// Whether it has space. Errors: ENOMEM, "alloc from reserved chunk failed": operations would fault.
    result<void> bound() const {
        if (*this) return {};
        return fail(ENOMEM, "per-CPU variable", "bind " + std::to_string(sizeof(T)) + " bytes", "alloc from reserved chunk failed");
    }

private:
    const T initial_;
    detail::variable_record record_;
};

/// As of any handle, and a CPU that is not present counts with the initial value.
template <detail::number T>
T sum(const variable<T>& v) noexcept {
    using word = detail::word_type<T>;
    const auto absent = static_cast<word>(possible_cpus() - detail::present_count(by::cpu));
    const auto there = static_cast<word>(sum(static_cast<const handle<T>&>(v)));
    return static_cast<T>(static_cast<word>(there + static_cast<word>(absent * static_cast<word>(v.initial()))));
}

}  // namespace cohort::percpu

/// COHORT_DEFINE_PER_CPU(type, name) or (type, name, initial value). At namespace scope; `static` may stand before it.
#define COHORT_DEFINE_PER_CPU(type, name, ...) ::cohort::percpu::variable<type> name{__VA_OPT__(type(__VA_ARGS__))}
#define COHORT_DECLARE_PER_CPU(type, name) extern ::cohort::percpu::variable<type> name
