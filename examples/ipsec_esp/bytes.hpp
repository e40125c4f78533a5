// SPDX-License-Identifier: Apache-2.0
/// Numbers in network order, and addresses.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace esp {

inline std::uint16_t load16(const std::uint8_t* p) { return static_cast<std::uint16_t>(p[0] << 8 | p[1]); }
inline std::uint32_t load32(const std::uint8_t* p) { return std::uint32_t{load16(p)} << 16 | load16(p + 2); }
inline void store16(std::uint8_t* p, std::uint32_t v) {
    p[0] = static_cast<std::uint8_t>(v >> 8);
    p[1] = static_cast<std::uint8_t>(v);
}
inline void store32(std::uint8_t* p, std::uint32_t v) {
    store16(p, v >> 16);
    store16(p + 2, v);
}
inline void store64(std::uint8_t* p, std::uint64_t v) {
    store32(p, static_cast<std::uint32_t>(v >> 32));
    store32(p + 4, static_cast<std::uint32_t>(v));
}

/// An IPv4 or IPv6 address. A value type.
struct address {
    int version = 0;  ///< 4 or 6; 0: none
    std::array<std::uint8_t, 16> bytes{};
    int size() const { return version == 4 ? 4 : 16; }
    bool is(const std::uint8_t* wire) const { return std::memcmp(bytes.data(), wire, static_cast<std::size_t>(size())) == 0; }
    bool operator==(const address&) const = default;
};

/// The addresses whose first `bits` bits are those of `base`. version 0 covers every address.
struct prefix {
    address base;
    int bits = 0;
    bool covers(int version, const std::uint8_t* wire) const;
    bool operator==(const prefix&) const = default;
};

std::string to_string(const address& a);

}  // namespace esp
