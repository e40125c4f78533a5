// SPDX-License-Identifier: Apache-2.0
/// Which parts of the window this process uses, and the heap that is attached at each.
///
/// Synchronization: one lock, for joining and leaving; heap_at() reads one atomic word. Nothing is allocated under the lock, so that a child of fork() can use it.
#pragma once

#include <cstdint>

#include <cohort/base/error.hpp>

namespace cohort::sharepool::detail {

class heap;

inline constexpr std::uint64_t granule = std::uint64_t{2} << 20;  ///< groups begin and end at multiples of it

/// A free part of the window for a group to be created at; it stays taken until give_range(). at 0: any. Errors: EINVAL, at; EADDRINUSE; ENOMEM.
result<std::uint64_t> take_range(std::uint64_t at, std::uint64_t bytes);
void give_range(std::uint64_t base) noexcept;
/// The range is about to be used by h: taken already by the creation of the same group, or free. Errors: EEXIST, a heap is attached there; EADDRINUSE; ENOMEM, the window ends before.
/// allocates: heap_at() finds it.
result<void> attach(std::uint64_t base, std::uint64_t bytes, heap* h, bool allocates);
void detach(std::uint64_t base) noexcept;
/// The heap attached at exactly this address that can be allocated from; nullptr: none.
heap* heap_at(const void* base) noexcept;

/// From now on a child of fork() has no heaps attached (attach() does it, too).
void forget_ranges_in_children() noexcept;

}  // namespace cohort::sharepool::detail
