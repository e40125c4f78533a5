// SPDX-License-Identifier: Apache-2.0
/// What of allocator.hpp is a template; included by it alone.
#pragma once

#include <cohort/percpu/allocator.hpp>

namespace cohort::percpu {

template <class T, by Index>
void ptr<T, Index>::reset() {
    if (handle_) COHORT_CHECK(free(handle_.value()) == 0, "a per-CPU object was freed twice");
    handle_ = {};
}

template <class T, by Index>
result<ptr<T, Index>> make_array(std::size_t n, alloc_flags flags) {
    auto value = default_allocator(Index).alloc(n > unit_limit / sizeof(T) ? unit_limit + 1 : n * sizeof(T), alignof(T), flags);
    if (!value) return std::unexpected(std::move(value).error());
    return ptr<T, Index>(handle<T, Index>(*value));
}

template <class T, by Index>
result<ptr<T, Index>> make(alloc_flags flags) { return make_array<T, Index>(1, flags); }

}  // namespace cohort::percpu
