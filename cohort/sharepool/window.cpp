// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/window.hpp>

#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

namespace {

constinit std::uint64_t reserved = 0;  // [const after the program has started]

std::byte* begin() { return reinterpret_cast<std::byte*>(window_base); }

/// Before constructors without a number: those may use it.
__attribute__((constructor(200))) void reserve_window() {
    for (std::uint64_t bytes = window_bytes; bytes >= std::uint64_t{1} << 30; bytes = bytes == window_bytes ? std::uint64_t{64} << 30 : bytes / 8) {
        if (!sys::reserve_addresses(begin(), bytes)) continue;
        reserved = bytes;
        return;
    }
}

}  // namespace

result<window_range> window() {
    if (reserved != 0) return window_range{begin(), reserved};
    // The reason as it is now; what was in the way at the start may be gone, but then it is too late: others may have it next.
    const std::uint64_t least = std::uint64_t{1} << 30;
    const auto again = sys::reserve_addresses(begin(), least);
    if (!again) return std::unexpected(again.error());
    sys::unmap_shared(begin(), least);
    return fail(EEXIST, "pool window", "use it", "it could not be reserved when the program started; something was mapped there or RLIMIT_AS was smaller");
}

}  // namespace cohort::sharepool
