// SPDX-License-Identifier: Apache-2.0
#include "frame.hpp"

#include <cstring>

#include "bytes.hpp"

namespace esp {
namespace {

constexpr std::uint16_t type_ip4 = 0x0800, type_ip6 = 0x86dd;

bool is_tag(std::uint16_t type) { return type == 0x8100 || type == 0x88a8 || type == 0x9100; }

frame malformed(frame f) {
    f.kind = frame_kind::malformed;
    return f;
}

frame cut(frame f) {
    f.kind = frame_kind::cut;
    return f;
}

frame look_at_ip4(frame f, const std::uint8_t* ip, std::uint32_t left) {
    f.version = 4;
    if (left < 20) return cut(f);
    f.header_bytes = (ip[0] & 15u) * 4u;
    f.ip_bytes = load16(ip + 2);
    f.protocol = ip[9];
    f.fragment = (load16(ip + 6) & 0x3fff) != 0;  // an offset, or more fragments
    if (f.header_bytes < 20 || f.ip_bytes < f.header_bytes) return malformed(f);
    if (left < f.ip_bytes) return cut(f);
    f.kind = frame_kind::ip;
    return f;
}

frame look_at_ip6(frame f, const std::uint8_t* ip, std::uint32_t left) {
    f.version = 6;
    if (left < 40) return cut(f);
    f.header_bytes = 40;
    f.ip_bytes = 40u + load16(ip + 4);
    f.protocol = ip[6];
    if (f.ip_bytes == 40 && f.protocol == 0) return malformed(f);  // a jumbogram: its length stands elsewhere
    if (left < f.ip_bytes) return cut(f);
    f.kind = frame_kind::ip;
    return f;
}

/// The upper protocol and where it begins; 0 where it cannot be told.
struct upper {
    std::uint8_t protocol;
    std::uint32_t at;
};

upper upper_of(const frame& f, const std::uint8_t* ip) {
    if (f.version == 4) return {f.protocol, f.fragment ? 0 : f.header_bytes};
    std::uint8_t next = f.protocol;
    std::uint32_t at = 40;
    for (int headers = 0; headers < 8; ++headers) {
        const bool plain = next == 0 || next == 43 || next == 60 || next == 51;  // hop-by-hop, routing, destination; authentication
        if (next == 44) return {ip[f.ip_bytes >= at + 8 ? at : 6], 0};           // a fragment: no ports
        if (!plain) return {next, at};
        if (f.ip_bytes < at + 8) break;
        const std::uint32_t length = next == 51 ? (ip[at + 1] + 2u) * 4 : (ip[at + 1] + 1u) * 8;
        next = ip[at];
        at += length;
    }
    return {next, 0};
}

bool has_ports(std::uint8_t protocol) {
    return protocol == 6 || protocol == 17 || protocol == 33 || protocol == 132 || protocol == 136;  // TCP UDP DCCP SCTP UDP-Lite
}

/// Mixes 64 bits in; a multiplication and a shift, as in xorshift-multiply hashes.
std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

}  // namespace

frame look_at_ip(const std::uint8_t* bytes, std::uint32_t captured) {
    frame f;
    if (captured == 0) return cut(f);
    if (bytes[0] >> 4 == 4) return look_at_ip4(f, bytes, captured);
    if (bytes[0] >> 4 == 6) return look_at_ip6(f, bytes, captured);
    return malformed(f);
}

frame look_at(link_type link, const std::uint8_t* bytes, std::uint32_t captured) {
    frame f;
    if (link == link_type::raw) return look_at_ip(bytes, captured);
    std::uint32_t at = 12;
    for (int tags = 0; at + 2 <= captured; ++tags) {
        const std::uint16_t type = load16(bytes + at);
        if (is_tag(type) && tags < 4) {
            at += 4;
            continue;
        }
        if (type != type_ip4 && type != type_ip6) return f;
        f.ethertype = at;
        f.ip = at + 2;
        const std::uint32_t left = captured - f.ip;
        if (left == 0) return cut(f);
        if (bytes[f.ip] >> 4 != (type == type_ip4 ? 4 : 6)) return malformed(f);
        return type == type_ip4 ? look_at_ip4(f, bytes + f.ip, left) : look_at_ip6(f, bytes + f.ip, left);
    }
    return f;
}

std::uint64_t flow_hash(const frame& f, const std::uint8_t* bytes) {
    const std::uint8_t* ip = bytes + f.ip;
    const upper up = upper_of(f, ip);
    std::uint64_t h = up.protocol;
    const int words = f.version == 4 ? 1 : 4;
    for (int i = 0; i < words; ++i) {
        std::uint64_t pair;
        std::memcpy(&pair, ip + (f.version == 4 ? 12 : 8) + 8 * i, 8);
        h = mix(h, pair);
    }
    if (up.at != 0 && has_ports(up.protocol) && f.ip_bytes >= up.at + 4) h = mix(h, load32(ip + up.at));
    return h ^ h >> 29;
}

}  // namespace esp
