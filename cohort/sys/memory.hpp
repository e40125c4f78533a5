// SPDX-License-Identifier: Apache-2.0
/// Anonymous pages straight from the kernel: large buffers that give their memory back when they go, whatever malloc would keep.
///
///     void* p = sys::map_pages(8 << 20);          // zero-filled on first touch; null when there is no memory
///     sys::unmap_pages(p, 8 << 20);
///
/// Kernel: mmap(2) with MAP_ANONYMOUS, madvise(2) with MADV_HUGEPAGE.
#pragma once

#include <cstddef>

namespace cohort::sys {

/// bytes > 0; rounded up to pages. From 2 MiB on the kernel is asked for huge pages, which cost one fault for 512.
void* map_pages(std::size_t bytes) noexcept;
/// What map_pages gave, with the same size.
void unmap_pages(void* p, std::size_t bytes) noexcept;

}  // namespace cohort::sys
