// SPDX-License-Identifier: Apache-2.0
/// Memory laid out like a chunk, without an allocator: for tests of the operations alone.
#pragma once

#include <sys/mman.h>

#include <cstdlib>

#include <cohort/percpu/ops.hpp>

namespace cohort::percpu::testing {

/// Zeroes for every possible CPU. A resource; not movable.
class bare_chunk {
public:
    bare_chunk() {
        size_ = detail::units_at + detail::unit_start(detail::layout::flat, possible_cpus());
        const std::size_t room = size_ + detail::chunk_alignment;
        map_ = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map_ == MAP_FAILED) std::abort();
        start_ = (reinterpret_cast<std::uintptr_t>(map_) + detail::chunk_alignment - 1) & ~(detail::chunk_alignment - 1);
        if (::mprotect(reinterpret_cast<void*>(start_ + detail::units_at), size_ - detail::units_at, PROT_READ | PROT_WRITE) != 0) std::abort();
    }
    bare_chunk(const bare_chunk&) = delete;
    bare_chunk& operator=(const bare_chunk&) = delete;
    ~bare_chunk() { ::munmap(map_, size_ + detail::chunk_alignment); }

    /// The object at `offset` bytes of the units.
    template <class T, by Index = by::cpu, detail::layout L = detail::layout::coloured>
    handle<T, Index, L> at(std::size_t offset) const {
        return handle<T, Index, L>(start_ + detail::handles_at(L) + offset);
    }

private:
    void* map_;
    std::size_t size_;
    std::uintptr_t start_;
};

}  // namespace cohort::percpu::testing
