// SPDX-License-Identifier: Apache-2.0
/// Where the IP packet stands in a captured frame, and which flow it belongs to.
///
///     frame f = look_at(link_type::ethernet, bytes, captured);
///     if (f.kind == frame_kind::ip) use(bytes + f.ip, f.ip_bytes);
///
/// RFC 791, RFC 8200, IEEE 802.3 and 802.1Q. Pure functions of the bytes; they read nothing beyond `captured`.
#pragma once

#include <cstdint>

namespace esp {

enum class link_type { ethernet, raw };

enum class frame_kind : std::uint8_t {
    ip,         ///< a whole IP packet
    other,      ///< no IP: ARP, LLDP, 802.3 frames ...
    cut,        ///< an IP packet of which the capture has only a part
    malformed,  ///< an IP header that contradicts itself
};

/// A value type; offsets from the first captured byte.
struct frame {
    frame_kind kind = frame_kind::other;
    std::uint8_t version = 0;       ///< 4 or 6
    std::uint8_t protocol = 0;      ///< what the IP header (not an extension header) says comes next
    bool fragment = false;
    std::uint32_t ethertype = 0;    ///< offset of the two bytes that name the protocol; Ethernet only
    std::uint32_t ip = 0;           ///< offset of the IP header
    std::uint32_t header_bytes = 0; ///< of the IP header alone
    std::uint32_t ip_bytes = 0;     ///< of the packet, as its header says; what follows it belongs to the link layer
};

/// Any bytes, any length.
frame look_at(link_type link, const std::uint8_t* bytes, std::uint32_t captured);

/// The same for a packet that begins at `bytes`: kind is ip, cut or malformed.
frame look_at_ip(const std::uint8_t* bytes, std::uint32_t captured);

/// A hash of addresses, protocol and ports; of a fragment, and of a protocol without ports, without ports. f.kind is ip.
std::uint64_t flow_hash(const frame& f, const std::uint8_t* bytes);

}  // namespace esp
