// SPDX-License-Identifier: Apache-2.0
/// What of allocator.hpp is a template: the fast paths of objects whose size is known when the program is compiled. Included by it alone.
#pragma once

#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/detail/magazine.hpp>

namespace cohort::percpu {

namespace detail {
/// The rest of a free, of an object that is tagged as cached and cleared, when its magazine could not take it.
[[gnu::cold]] void free_to_maps(std::uintptr_t value, int cls) noexcept;
}  // namespace detail

template <class T, by Index>
void ptr<T, Index>::reset() {
    if (!handle_) return;
    const std::uintptr_t value = handle_.value();
    handle_ = {};
    constexpr int cls = detail::class_for(sizeof(T), alignof(T));
    if constexpr (cls >= 0) {
        auto& tag = detail::tag_of(value);
        if (tag.load(std::memory_order_relaxed) == detail::tagged(detail::tag_live, cls)) [[likely]] {
            tag.store(detail::tagged(detail::tag_cached, cls), std::memory_order_relaxed);
            detail::clear_copies(Index, handle<T, Index>::layout, value, detail::class_bytes[cls]);
            if (!detail::give(*detail::prefix_of(value).magazines, cls, value)) [[unlikely]] detail::free_to_maps(value, cls);
            return;
        }
    }
    COHORT_CHECK(free(value) == 0, "a per-CPU object was freed twice");
}

template <class T, by Index>
result<ptr<T, Index>> make_array(std::size_t n, alloc_flags flags) {
    auto value = default_allocator(Index).alloc(n > unit_limit / sizeof(T) ? unit_limit + 1 : n * sizeof(T), alignof(T), flags);
    if (!value) return std::unexpected(std::move(value).error());
    return ptr<T, Index>(handle<T, Index>(*value));
}

template <class T, by Index>
result<ptr<T, Index>> make(alloc_flags flags) {
    constexpr int cls = detail::class_for(sizeof(T), alignof(T));
    if constexpr (cls >= 0) {
        if (flags == alloc_flags::none) [[likely]] {
            if (const std::uintptr_t value = detail::take(detail::default_magazines[static_cast<int>(Index)], cls)) [[likely]] {
                return ptr<T, Index>(handle<T, Index>(value));
            }
        }
    }
    return make_array<T, Index>(1, flags);
}

}  // namespace cohort::percpu
