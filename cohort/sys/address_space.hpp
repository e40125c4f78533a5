// SPDX-License-Identifier: Apache-2.0
/// Ranges of addresses whose pages come and go by request, as an interface that tests replace.
///
///     void* range = memory.reserve(64 << 20, 1 << 20);        // no memory yet, any access faults; null: there is none
///     memory.commit(range, 1 << 20);                          // may be touched; pages come zero-filled at the first touch
///     memory.give_back(range, 64 << 10);                      // these pages go; zeroes again at the next touch
///     memory.release(range, 64 << 20);
///
/// Kernel: mmap(2), mprotect(2), madvise(2), mbind(2), mincore(2).
#pragma once

#include <cstddef>
#include <cstdint>

#include <cohort/base/error.hpp>

namespace cohort::sys {

/// Addresses and sizes are multiples of the page size. Those that return int answer 0 or a positive errno (ENOMEM, and what stands beside the call); nothing changed
/// then, save where said. Synchronization: any thread may call anything; all but prefer_node() and resident() also signal handlers.
class address_space {
public:
    virtual ~address_space() = default;

    /// A range without access and without memory, aligned to a power of two. Counts against RLIMIT_AS. Null: there is none.
    virtual void* reserve(std::size_t bytes, std::size_t alignment) noexcept = 0;
    /// Ends what reserve() gave, whole.
    virtual void release(void* at, std::size_t bytes) noexcept = 0;
    /// Makes a part readable and writable, in small pages. Under vm.overcommit_memory=2 it counts as memory from here on.
    virtual int commit(void* at, std::size_t bytes) noexcept = 0;
    /// Back to what reserve() gave: the pages go. Where the kernel refuses, the range stays readable and zero.
    virtual void uncommit(void* at, std::size_t bytes) noexcept = 0;
    /// Brings pages in for writing. What came in before a failure stays.
    virtual int populate(void* at, std::size_t bytes) noexcept = 0;
    /// The pages go, zeroes are read from then on. EAGAIN; ENOMEM.
    virtual int give_back(void* at, std::size_t bytes) noexcept = 0;
    /// Pages of this range shall come from this node, while it has any. EINVAL, there is no such node; ENOSYS.
    virtual int prefer_node(void* at, std::size_t bytes, int node) noexcept = 0;
    /// Bytes of the range that are in memory.
    virtual result<std::size_t> resident(void* at, std::size_t bytes) = 0;
};

/// The machine's page size, which aarch64 kernels choose: 4, 16 or 64 KiB. Signal-safe.
std::size_t page_bytes() noexcept;

/// The running system's; lives as long as the program.
address_space& real_address_space() noexcept;

}  // namespace cohort::sys
