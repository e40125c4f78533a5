// SPDX-License-Identifier: Apache-2.0
/// The addresses at which every process that is linked with cohort::sharepool has its groups: reserved when the program starts, before anything else can be mapped there.
///
///     if (const auto w = sharepool::window(); !w) std::puts(w.error().line().c_str());   // why there is none
///     else std::printf("%p, %llu GiB\n", (void*)w->base, (unsigned long long)(w->bytes >> 30));
///
/// 0x550000000000: below where programs are loaded, in a part that AddressSanitizer, ThreadSanitizer and valgrind leave alone. A reservation is neither memory nor swap; it counts against RLIMIT_AS, where
/// a smaller one is tried. Kernel's counterpart: MMAP_SHARE_POOL_START of openEuler's mm/share_pool.c.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cohort/base/error.hpp>

namespace cohort::sharepool {

inline constexpr std::uint64_t window_base = 0x550000000000, window_bytes = std::uint64_t{320} << 30;

struct window_range {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

/// What this process could reserve: the whole window, or its beginning of 64, 8 or 1 GiB. Errors: EEXIST, something was mapped there before us; ENOMEM, RLIMIT_AS.
result<window_range> window();

}  // namespace cohort::sharepool
