// SPDX-License-Identifier: Apache-2.0
#include "esp.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <unordered_map>

#include <cohort/base/check.hpp>

namespace esp {
namespace {

constexpr std::uint8_t protocol_esp = 50, next_ip4 = 4, next_ip6 = 41, next_none = 59;
constexpr std::uint32_t header_bytes = 8, iv_bytes = 8, icv_bytes = 16, trailer_bytes = 2;

/// AES-GCM with one key in one direction. A context holds the expanded key, so it is kept; it may serve one thread at a time.
class gcm {
public:
    gcm(const sa& s, bool encrypts) : ctx_(EVP_CIPHER_CTX_new()) {
        const EVP_CIPHER* cipher = s.key.size() == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
        good_ = ctx_ && EVP_CipherInit_ex(ctx_.get(), cipher, nullptr, s.key.data(), nullptr, encrypts) == 1;
        std::copy_n(s.salt, 4, nonce_);
    }

    /// The calling thread's context. Contexts stay with the thread: workers live as long as their instance.
    static gcm& of(const sa& s, bool encrypts) {
        static thread_local std::unordered_map<std::uint64_t, std::unique_ptr<gcm>> kept;
        static thread_local std::uint64_t last_id = 0;
        static thread_local gcm* last = nullptr;
        const std::uint64_t id = s.id << 1 | (encrypts ? 1 : 0);
        if (id == last_id) return *last;
        auto& found = kept[id];
        if (!found) found = std::make_unique<gcm>(s, encrypts);
        last_id = id;
        return *(last = found.get());
    }

    bool seal(const std::uint8_t* iv, const std::uint8_t* header, const std::uint8_t* in, std::uint32_t bytes, std::uint8_t* out) {
        return begin(iv, header) && update(in, bytes, out) && finish() && EVP_CIPHER_CTX_ctrl(ctx_.get(), EVP_CTRL_AEAD_GET_TAG, icv_bytes, out + bytes) == 1;
    }

    /// in: bytes, then the check value. False: it is wrong.
    bool open(const std::uint8_t* iv, const std::uint8_t* header, std::uint8_t* in, std::uint32_t bytes, std::uint8_t* out) {
        return begin(iv, header) && update(in, bytes, out) && EVP_CIPHER_CTX_ctrl(ctx_.get(), EVP_CTRL_AEAD_SET_TAG, icv_bytes, in + bytes) == 1 && finish();
    }

    bool good() const { return good_; }

private:
    struct free_context {
        void operator()(EVP_CIPHER_CTX* c) const { EVP_CIPHER_CTX_free(c); }
    };

    bool begin(const std::uint8_t* iv, const std::uint8_t* header) {
        std::copy_n(iv, iv_bytes, nonce_ + 4);
        int n;
        return good_ && EVP_CipherInit_ex(ctx_.get(), nullptr, nullptr, nullptr, nonce_, -1) == 1 &&
               EVP_CipherUpdate(ctx_.get(), nullptr, &n, header, header_bytes) == 1;
    }
    bool update(const std::uint8_t* in, std::uint32_t bytes, std::uint8_t* out) {
        int n;
        return EVP_CipherUpdate(ctx_.get(), out, &n, in, static_cast<int>(bytes)) == 1;
    }
    bool finish() {
        int n;
        std::uint8_t none[16];  // GCM has nothing left to write
        return EVP_CipherFinal_ex(ctx_.get(), none, &n) == 1;
    }

    std::unique_ptr<EVP_CIPHER_CTX, free_context> ctx_;
    std::uint8_t nonce_[12];  // salt, IV
    bool good_ = false;
};

std::uint32_t padding_of(std::uint32_t inner) { return (4 - (inner + trailer_bytes) % 4) % 4; }

std::uint32_t esp_bytes(std::uint32_t inner) { return header_bytes + iv_bytes + inner + padding_of(inner) + trailer_bytes + icv_bytes; }

void checksum_ip4(std::uint8_t* ip) {
    std::uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += load16(ip + i);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(ip + 10, ~sum);
}

std::uint8_t traffic_class(int version, const std::uint8_t* ip) {
    return version == 4 ? ip[1] : static_cast<std::uint8_t>(ip[0] << 4 | ip[1] >> 4);
}

/// The outer header; answers where it ends. DSCP and ECN are the inner packet's (RFC 4301 section 5.1.2).
std::uint8_t* put_outer(std::uint8_t* ip, const sa& s, std::uint8_t tclass, std::uint32_t payload, std::uint32_t seq) {
    std::fill_n(ip, s.to.version == 4 ? 20 : 8, std::uint8_t{0});
    if (s.to.version == 4) {
        ip[0] = 0x45;
        ip[1] = tclass;
        store16(ip + 2, 20 + payload);
        store16(ip + 4, seq);     // any value does: the packet says that it is not to be fragmented
        store16(ip + 6, 0x4000);
        ip[8] = 64;
        ip[9] = protocol_esp;
        std::copy_n(s.from.bytes.data(), 4, ip + 12);
        std::copy_n(s.to.bytes.data(), 4, ip + 16);
        checksum_ip4(ip);
        return ip + 20;
    }
    store32(ip, 6u << 28 | std::uint32_t{tclass} << 20);
    store16(ip + 4, payload);
    ip[6] = protocol_esp;
    ip[7] = 64;
    std::copy_n(s.from.bytes.data(), 16, ip + 8);
    std::copy_n(s.to.bytes.data(), 16, ip + 24);
    return ip + 40;
}

/// The link layer's header, with the protocol of what follows it; answers where it ends.
std::uint8_t* put_link(const packet& p, link_type link, int version) {
    std::copy_n(p.in, p.at.ip, p.out);
    if (link == link_type::ethernet) store16(p.out + p.at.ethertype, version == 4 ? 0x0800 : 0x86dd);
    return p.out + p.at.ip;
}

/// ECN on leaving a tunnel (RFC 6040 section 4.2): congestion met on the way is told to the inner packet. False: such a packet is to be dropped.
bool combine_ecn(std::uint8_t outer, int version, std::uint8_t* ip) {
    const int out_ecn = outer & 3, in_ecn = traffic_class(version, ip) & 3;
    if (out_ecn == 3 && in_ecn == 0) return false;
    const int to = out_ecn == 3 ? 3 : in_ecn == 2 && out_ecn == 1 ? 1 : in_ecn;
    if (to == in_ecn) return true;
    if (version == 6) {
        ip[1] = static_cast<std::uint8_t>((ip[1] & 0xcf) | to << 4);
        return true;
    }
    // The header's checksum follows the change (RFC 1624), so that one that was wrong stays wrong.
    const std::uint16_t before = load16(ip);
    ip[1] = static_cast<std::uint8_t>((ip[1] & 0xfc) | to);
    std::uint32_t sum = (~load16(ip + 10) & 0xffffu) + (~before & 0xffffu) + load16(ip);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(ip + 10, ~sum);
    return true;
}

/// How many bytes of what was decrypted are the inner packet; 0: it is not what it should be.
std::uint32_t inner_bytes(const std::uint8_t* clear, std::uint32_t bytes, const sa& s) {
    const std::uint32_t padding = clear[bytes - 2];
    const std::uint8_t next = clear[bytes - 1];
    if (padding + trailer_bytes > bytes) return 0;
    const std::uint32_t inner = bytes - trailer_bytes - padding;
    for (std::uint32_t i = 0; i < padding; ++i) {
        if (clear[inner + i] != i + 1) return 0;
    }
    const frame f = look_at_ip(clear, inner);
    if (f.kind != frame_kind::ip || next != (f.version == 4 ? next_ip4 : next_ip6)) return 0;
    if (!s.selector.covers(f.version, clear + (f.version == 4 ? 16 : 24))) return 0;
    return f.ip_bytes;  // what stands between it and the padding is there to hide its length (RFC 4303 section 2.7)
}

}  // namespace

const char* name_of(verdict v) {
    static constexpr const char* names[verdicts] = {"sealed", "opened", "passed", "dummy", "cut", "malformed", "no_sa", "clear", "fragment", "too_short",
                                                    "too_long", "used_up", "forged", "replayed", "late", "bad_inside", "failed"};
    return names[static_cast<int>(v)];
}

const char* reason_of(verdict v) {
    switch (v) {
        case verdict::sealed: return "encrypted";
        case verdict::opened: return "decrypted";
        case verdict::passed: return "no IP: passed unchanged";
        case verdict::dummy: return "a dummy packet, dropped as it should be";
        case verdict::cut: return "the capture has only a part of this packet";
        case verdict::malformed: return "its IP header contradicts itself";
        case verdict::no_sa: return "there is no SA for it";
        case verdict::clear: return "it is not ESP: a packet in the clear is not let in";
        case verdict::fragment: return "a fragment of an ESP packet; it has to be reassembled first";
        case verdict::too_short: return "too short for ESP";
        case verdict::too_long: return "with ESP around it, it would exceed 65,535 bytes";
        case verdict::used_up: return "the SA's sequence numbers are used up; it has to be replaced by one with a new key";
        case verdict::forged: return "the check value is wrong: another key, or bytes that changed on the way";
        case verdict::replayed: return "replayed: this sequence number was seen before";
        case verdict::late: return "its sequence number is older than the anti-replay window";
        case verdict::bad_inside: return "authentic, but what is inside is no packet of this tunnel";
        case verdict::failed: return "it could not be worked on";
    }
    return "";
}

bool fits_esp(const frame& f) {
    const std::uint32_t payload = f.ip_bytes - f.header_bytes;
    return payload >= header_bytes + iv_bytes + 4 + icv_bytes && payload % 4 == 0;
}

bool too_long_to_seal(const frame& f, const sa& s) { return esp_bytes(f.ip_bytes) + (s.to.version == 4 ? 20 : 0) > 65535; }

void seal(packet& p, const sa& s, link_type link, std::uint64_t iv) {
    std::uint8_t* inner = p.in + p.at.ip;
    const std::uint32_t length = p.at.ip_bytes, padding = padding_of(length), clear = length + padding + trailer_bytes;
    const std::uint32_t trailer = p.captured - p.at.ip - length;
    std::uint8_t* ip = put_link(p, link, s.to.version);
    std::uint8_t* header = put_outer(ip, s, traffic_class(p.at.version, inner), esp_bytes(length), p.seq);
    store32(header, s.spi);
    store32(header + 4, p.seq);
    store64(header + header_bytes, iv);
    std::uint8_t* body = header + header_bytes + iv_bytes;
    std::uint8_t* end = body + clear + icv_bytes;
    std::copy_n(inner + length, trailer, end);  // before the padding takes its place in the input
    for (std::uint32_t i = 0; i < padding; ++i) inner[length + i] = static_cast<std::uint8_t>(i + 1);
    inner[length + padding] = static_cast<std::uint8_t>(padding);
    inner[length + padding + 1] = p.at.version == 4 ? next_ip4 : next_ip6;
    p.what = gcm::of(s, true).seal(header + header_bytes, header, inner, clear, body) ? verdict::sealed : verdict::failed;
    p.out_bytes = static_cast<std::uint32_t>(end + trailer - p.out);
}

void open(packet& p, const sa& s, link_type link) {
    std::uint8_t* outer = p.in + p.at.ip;
    std::uint8_t* header = outer + p.at.header_bytes;
    p.seq = load32(header + 4);
    std::uint8_t* body = header + header_bytes + iv_bytes;
    const std::uint32_t clear = p.at.ip_bytes - p.at.header_bytes - header_bytes - iv_bytes - icv_bytes;
    std::uint8_t* inner = p.out + p.at.ip;
    gcm& cipher = gcm::of(s, false);
    p.what = verdict::failed;
    if (!cipher.good()) return;
    p.what = verdict::forged;
    if (!cipher.open(header + header_bytes, header, body, clear, inner)) return;
    p.what = verdict::dummy;
    if (inner[clear - 1] == next_none) return;
    p.what = verdict::bad_inside;
    const std::uint32_t length = inner_bytes(inner, clear, s);
    if (length == 0) return;
    const int version = inner[0] >> 4;
    if (!combine_ecn(traffic_class(p.at.version, outer), version, inner)) return;
    put_link(p, link, version);
    const std::uint32_t trailer = p.captured - p.at.ip - p.at.ip_bytes;
    std::copy_n(outer + p.at.ip_bytes, trailer, inner + length);
    p.out_bytes = p.at.ip + length + trailer;
    p.what = verdict::opened;
}

/// A bit of the ring of words: its old value; set from now on.
bool replay_window::test_and_set(std::uint32_t seq) {
    std::uint64_t& word = seen_[seq / 64 % seen_.size()];
    const std::uint64_t bit = std::uint64_t{1} << seq % 64;
    const bool was = (word & bit) != 0;
    word |= bit;
    return was;
}

verdict replay_window::take(std::uint32_t seq) {
    if (size_ == 0) return verdict::opened;
    if (seq == 0) return verdict::late;  // a sender begins with 1
    if (seq > newest_) {
        const std::uint32_t ahead = std::min<std::uint32_t>(seq / 64 - newest_ / 64, static_cast<std::uint32_t>(seen_.size()));
        for (std::uint32_t i = 0; i < ahead; ++i) seen_[(seq / 64 - i) % seen_.size()] = 0;
        newest_ = seq;
    } else if (newest_ - seq >= size_) {
        return verdict::late;
    }
    return test_and_set(seq) ? verdict::replayed : verdict::opened;
}

}  // namespace esp
