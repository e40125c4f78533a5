// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/memory.hpp>

#include <sys/mman.h>

namespace cohort::sys {

void* map_pages(std::size_t bytes) noexcept {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    if (bytes >= std::size_t{2} << 20) (void)::madvise(p, bytes, MADV_HUGEPAGE);  // a wish; without it pages are small
    return p;
}

void unmap_pages(void* p, std::size_t bytes) noexcept { ::munmap(p, bytes); }

}  // namespace cohort::sys
