// SPDX-License-Identifier: Apache-2.0
/// Security associations: what is agreed between the two ends of a tunnel, read from a small text file.
///
///     # SPI      tunnel from  to          key and salt, hex (20 bytes: AES-128; 36: AES-256)    options
///     sa 0x1001  192.0.2.1    192.0.2.2   000102030405060708090a0b0c0d0e0fcafebabe               for=10.1.0.0/16 replay=64
///
/// Outbound, the first SA whose for= covers the packet's destination is used (no for=: every packet). Inbound it is found by SPI and outer destination.
/// Key and salt stand as in `ip xfrm` (rfc4106(gcm(aes))): the key, then four bytes of salt.
///
/// RFC 4301 section 4.4; RFC 4106 section 8.1.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>

#include "bytes.hpp"
#include "frame.hpp"

namespace esp {

/// Immutable once read; sequence numbers and replay windows are kept by whoever sends and receives.
struct sa {
    std::uint32_t spi = 0;
    address from, to;               ///< the tunnel's ends; of one version
    prefix selector;                ///< of the inner destination
    std::uint32_t replay = 64;      ///< packets of the anti-replay window, 0: no check
    std::uint32_t first_seq = 1;    ///< of the sender
    std::vector<std::uint8_t> key;  ///< 16 or 32 bytes
    std::uint8_t salt[4] = {};
    std::uint64_t id = 0;           ///< of this object in this process: never used again

    sa() = default;
    sa(const sa&) = delete;
    sa& operator=(const sa&) = delete;
    ~sa();                          ///< wipes the key
};

class sa_table {
public:
    /// Errors: EINVAL, object "NAME:LINE": a word that is not understood, a second SA with the same SPI and destination, no SA at all.
    static cohort::result<sa_table> parse(std::string_view text, const std::string& name);
    /// Errors: those of reading the file, and of parse().
    static cohort::result<sa_table> load(const std::string& path);

    std::size_t size() const { return all_.size(); }
    const sa& operator[](std::size_t i) const { return *all_[i]; }
    /// The number of the SA that protects this inner packet; -1: none.
    int outbound(const frame& f, const std::uint8_t* bytes) const;
    /// The number of the SA of an ESP packet; -1: none.
    int inbound(std::uint32_t spi, int version, const std::uint8_t* destination) const;

private:
    std::vector<std::unique_ptr<const sa>> all_;
};

}  // namespace esp
