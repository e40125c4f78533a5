// SPDX-License-Identifier: Apache-2.0
/// What goes from one tenant to the other: a packed block in the pool's memory. Who has its pointer owns it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace example {

struct packed {
    std::uint64_t size = 0;
    std::uint8_t* bytes() { return reinterpret_cast<std::uint8_t*>(this + 1); }
    std::span<std::uint8_t> view() { return {bytes(), size}; }
};

}  // namespace example
