// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/address_space.hpp>

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <vector>

#include <cohort/base/cpumask.hpp>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace cohort::sys {

namespace {

std::string range_text(const void* at, std::size_t bytes) {
    char text[64];
    std::snprintf(text, sizeof text, "memory %p+%zu", at, bytes);
    return text;
}

class system_address_space final : public address_space {
public:
    void* reserve(std::size_t bytes, std::size_t alignment) noexcept override {
        // Room to align in; what is over goes back at once.
        const std::size_t room = bytes + alignment;
        if (room < bytes) return nullptr;
        void* p = ::mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return nullptr;
        const auto start = reinterpret_cast<std::uintptr_t>(p), aligned = (start + alignment - 1) & ~(alignment - 1);
        if (aligned > start) ::munmap(p, aligned - start);
        if (const std::size_t over = start + room - (aligned + bytes)) ::munmap(reinterpret_cast<void*>(aligned + bytes), over);
        return reinterpret_cast<void*>(aligned);
    }
    void release(void* at, std::size_t bytes) noexcept override { ::munmap(at, bytes); }

    int commit(void* at, std::size_t bytes) noexcept override {
        if (::mprotect(at, bytes, PROT_READ | PROT_WRITE) != 0) return errno;
        (void)::madvise(at, bytes, MADV_NOHUGEPAGE);  // a huge page would populate 512 pages for one touch; a kernel without them refuses
        return 0;
    }
    void uncommit(void* at, std::size_t bytes) noexcept override {
        if (::mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) (void)::madvise(at, bytes, MADV_DONTNEED);
    }
    int populate(void* at, std::size_t bytes) noexcept override {
        if (::madvise(at, bytes, MADV_POPULATE_WRITE) == 0) return 0;
        if (errno != EINVAL) return errno;
        // Before Linux 5.14: touch each page; the addition of nothing keeps what another thread writes.
        const auto page = page_bytes();
        for (auto* p = static_cast<char*>(at); p < static_cast<char*>(at) + bytes; p += page) __atomic_fetch_add(p, char{0}, __ATOMIC_RELAXED);
        return 0;
    }
    int give_back(void* at, std::size_t bytes) noexcept override { return ::madvise(at, bytes, MADV_DONTNEED) == 0 ? 0 : errno; }
    int prefer_node(void* at, std::size_t bytes, int node) noexcept override {
        constexpr std::size_t bits = 8 * sizeof(unsigned long);
        std::array<unsigned long, max_nodes / bits> mask{};
        if (node < 0 || node >= max_nodes) return EINVAL;
        mask[static_cast<std::size_t>(node) / bits] = 1ul << (static_cast<std::size_t>(node) % bits);
        return ::syscall(SYS_mbind, at, bytes, MPOL_PREFERRED, mask.data(), max_nodes, 0) == 0 ? 0 : errno;
    }
    result<std::size_t> resident(void* at, std::size_t bytes) override {
        const auto page = page_bytes();
        std::vector<unsigned char> in(std::min(bytes / page + 1, std::size_t{1} << 16));
        std::size_t pages = 0;
        for (std::size_t done = 0; done < bytes;) {
            const std::size_t part = std::min(bytes - done, in.size() * page);
            if (::mincore(static_cast<char*>(at) + done, part, in.data()) != 0) return fail(errno, range_text(at, bytes), "count its pages", errno_text(errno));
            pages += static_cast<std::size_t>(std::count_if(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(part / page), [](unsigned char c) { return c & 1; }));
            done += part;
        }
        return pages * page;
    }
};

}  // namespace

std::size_t page_bytes() noexcept { return static_cast<std::size_t>(::getpagesize()); }

address_space& real_address_space() noexcept {
    static constinit system_address_space space;
    return space;
}

}  // namespace cohort::sys
