// SPDX-License-Identifier: Apache-2.0
/// What of allocator.hpp is a template: the fast paths of objects whose size is known when the program is compiled. Included by it alone.
#pragma once

#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/magazine.hpp>

namespace cohort::percpu {

namespace detail {
[[gnu::cold]] attempt alloc_default(by index, std::size_t size, std::size_t align, alloc_flags flags) noexcept;
[[gnu::cold]] error error_of(by index, std::size_t size, std::size_t align, refusal why);
}  // namespace detail

[[gnu::always_inline]] inline result<std::uintptr_t> allocator::alloc(std::size_t size, std::size_t align, alloc_flags flags, std::stop_token stop) {
    std::uintptr_t value = 0;
    const bool stoppable = stop.stop_possible();
    if (flags == alloc_flags::none && !stoppable) [[likely]] {
        if (const int cls = detail::class_at_run_time(size, align); cls < detail::classes) value = detail::take(*magazines_, cls);
    }
    if (value == 0) [[unlikely]] {
        attempt got = alloc_slow(size, align, flags, stoppable ? &stop : nullptr);
        if (!got) return std::unexpected(error_of(size, align, got.why));
        value = got.value;
    } else {
        COHORT_USDT(percpu_alloc_percpu, 0, 0, size, align, value);
    }
    return result<std::uintptr_t>(std::in_place, value);
}

inline attempt allocator::alloc_atomic(std::size_t size, std::size_t align, alloc_flags flags) noexcept {
    if (flags == alloc_flags::none || flags == alloc_flags::nowarn) {
        if (const int cls = detail::class_at_run_time(size, align); cls < detail::classes) {
            if (const std::uintptr_t value = detail::take(*magazines_, cls)) [[likely]] {
                COHORT_USDT(percpu_alloc_percpu, 0, 1, size, align, value);
                return {value};
            }
        }
    }
    return alloc_atomic_slow(size, align, flags);
}

template <class T, by Index>
ptr<T, Index>::ptr(handle<T, Index> owned) : handle_(owned) {
    COHORT_CHECK(!owned || detail::prefix_of(owned.value()).magazines == &detail::default_magazines[static_cast<int>(Index)],
                 "a ptr owns objects of the default allocator only");
}

template <class T, by Index>
[[gnu::always_inline]] inline void ptr<T, Index>::drop(handle<T, Index> h) noexcept {
    const std::uintptr_t value = h.value();
    constexpr int cls = detail::class_for(sizeof(T), alignof(T));
    if constexpr (cls >= 0) {
        auto& tag = detail::tag_of(value);
        if (tag.load(std::memory_order_relaxed) == detail::tagged(detail::tag_live, cls)) [[likely]] {
            detail::free_of_class<cls, Index, handle<T, Index>::layout>(value, tag, detail::default_magazines[static_cast<int>(Index)]);
            return;
        }
    }
    COHORT_CHECK(free(value) == 0, "a per-CPU object was freed twice");
}

namespace detail {
struct maker {
    /// From the magazine, or the slow way, whose answer comes in registers: a result need not be in memory.
    template <class T, by Index>
    [[gnu::always_inline]] static attempt alloc(alloc_flags flags) noexcept {
        constexpr int cls = class_for(sizeof(T), alignof(T));
        if constexpr (cls >= 0) {
            if (flags == alloc_flags::none) [[likely]] {
                if (const std::uintptr_t value = take(default_magazines[static_cast<int>(Index)], cls)) [[likely]] {
                    COHORT_USDT(percpu_alloc_percpu, 0, 0, sizeof(T), alignof(T), value);
                    return {value};
                }
            }
        }
        return alloc_default(Index, sizeof(T), alignof(T), flags);
    }
    template <class T, by Index>
    [[gnu::always_inline]] static ptr<T, Index> own(std::uintptr_t value) noexcept { return ptr<T, Index>(ptr<T, Index>::ours::made, value); }
};
}  // namespace detail

// What is made here is not const, though never changed: gcc 12 keeps a const object in memory.
template <class T, by Index>
[[gnu::always_inline]] inline ptr<T, Index> try_make(alloc_flags flags) noexcept {
    return detail::maker::own<T, Index>(detail::maker::alloc<T, Index>(flags).value);
}

template <class T, by Index>
[[gnu::always_inline]] inline result<ptr<T, Index>> make(alloc_flags flags) {
    attempt got = detail::maker::alloc<T, Index>(flags);
    if (!got) [[unlikely]] return std::unexpected(detail::error_of(Index, sizeof(T), alignof(T), got.why));
    return detail::maker::own<T, Index>(got.value);
}

template <class T, by Index>
result<ptr<T, Index>> make_array(std::size_t n, alloc_flags flags) {
    const std::size_t size = n > unit_limit / sizeof(T) ? unit_limit + 1 : n * sizeof(T);
    const attempt got = detail::alloc_default(Index, size, alignof(T), flags);
    if (!got) return std::unexpected(detail::error_of(Index, size, alignof(T), got.why));
    return detail::maker::own<T, Index>(got.value);
}

}  // namespace cohort::percpu
