// SPDX-License-Identifier: Apache-2.0
/// Containers in a group's memory, that every member uses by raw pointer.
///
///     using text = std::basic_string<char, std::char_traits<char>, sharepool::allocator<char>>;
///     using table = std::unordered_map<int, text, std::hash<int>, std::equal_to<>, sharepool::allocator<std::pair<const int, text>>>;
///     auto* t = sharepool::make<table>(m, sharepool::allocator<char>(m));      // in member m; its address means the same in every other
///     t->emplace(1, text("one", sharepool::allocator<char>(m)));               // under a lock of the users'
///
/// What a container holds outlives the member that put it there. The allocator is the group's address, so that a container can be used by whoever has the group; two allocators of one group are
/// equal. Processes that share containers are built from the same source with the same compiler and library; types with virtual functions are not shared.
#pragma once

#include <cstddef>
#include <new>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/sharepool/detail/ranges.hpp>
#include <cohort/sharepool/member.hpp>

namespace cohort::sharepool {

template <class T>
class allocator {
public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    explicit allocator(const member& m) noexcept : base_(m.base()) {}
    template <class U>
    allocator(const allocator<U>& o) noexcept : base_(o.group_base()) {}  // NOLINT(google-explicit-constructor): as the standard's allocators convert

    /// Throws std::bad_alloc. For members only: it ends the program in a process that has not joined the group. About 5 ns more than member::alloc.
    T* allocate(std::size_t n) {
        constexpr std::size_t one = sizeof(T);  // NOLINT(bugprone-sizeof-expression): T may be a pointer, in a table of buckets
        if (n > std::size_t(-1) / one) throw std::bad_alloc();
        static_assert(alignof(T) <= 16, "blocks are aligned to 16 bytes");
        void* p = member::alloc_at(heap(), n * one, lifetime::group);
        if (!p) throw std::bad_alloc();
        return static_cast<T*>(p);
    }
    void deallocate(T* p, std::size_t) noexcept { member::free_at(heap(), p); }

    std::byte* group_base() const noexcept { return base_; }
    template <class U>
    bool operator==(const allocator<U>& o) const noexcept { return base_ == o.group_base(); }

private:
    detail::heap& heap() const noexcept {
        detail::heap* h = detail::heap_at(base_);
        COHORT_CHECK(h, "this process has not joined the group that the container is in");
        return *h;
    }
    std::byte* base_;  // [const]
};

/// An object in the group, handed over from the beginning. Throws std::bad_alloc, and what its constructor throws.
template <class T, class... Args>
T* make(const member& m, Args&&... args) {
    allocator<T> a(m);
    T* p = a.allocate(1);
    try {
        return new (p) T(std::forward<Args>(args)...);
    } catch (...) {
        a.deallocate(p, 1);
        throw;
    }
}
/// Destroys it and frees its memory; any member may.
template <class T>
void drop(const member& m, T* p) noexcept {
    p->~T();
    allocator<T>(m).deallocate(p, 1);
}

}  // namespace cohort::sharepool
