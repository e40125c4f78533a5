// SPDX-License-Identifier: Apache-2.0
/// ESP in tunnel mode with AES-GCM and a 16-byte check value: one frame in, one frame out.
///
///     link header | outer IP | SPI | sequence | IV 8 | encrypted: inner IP packet, padding, pad length, next header | ICV 16 | link trailer
///                            '--- authenticated ---'
///
/// RFC 4303 (ESP), RFC 4106 (AES-GCM in it). The link layer's own bytes (header, tags, trailer) stay as they are, in the clear. 32-bit sequence numbers.
/// Differences from a gateway's: the inner TTL is not decremented (a bump in the wire), and nothing is fragmented.
#pragma once

#include <cstdint>
#include <vector>

#include "frame.hpp"
#include "sa.hpp"

namespace esp {

/// What became of a packet. `sealed` and `opened` carry a new frame, `passed` the old one; the others carry none.
enum class verdict : std::uint8_t {
    sealed,       ///< encrypted
    opened,       ///< decrypted; the check value is right
    passed,       ///< no IP: goes through unchanged
    dummy,        ///< a dummy packet (next header 59), which a receiver drops in silence
    cut,          ///< the capture has only a part of the packet
    malformed,    ///< its IP header contradicts itself
    no_sa,        ///< no SA protects it; the SPI and destination are not known
    clear,        ///< inbound, and not ESP
    fragment,     ///< inbound, a fragment of an ESP packet: reassembly comes first
    too_short,    ///< inbound, too few bytes for ESP
    too_long,     ///< outbound, the outer packet would exceed 65,535 bytes
    used_up,      ///< outbound, the SA has sent 2^32 - 1 packets: it has to be replaced
    forged,       ///< the check value is wrong: another key, or bytes that changed on the way
    replayed,     ///< a sequence number that was seen before
    late,         ///< a sequence number older than the anti-replay window
    bad_inside,   ///< authentic, but the padding or the inner packet is not what ESP in tunnel mode carries, or it does not belong to this SA
    failed,       ///< it could not be worked on: padata refused the job, or OpenSSL failed
};
inline constexpr int verdicts = 17;
/// "forged"
const char* name_of(verdict v);
/// A clause for people: "the check value is wrong (another key, or bytes changed on the way)"
const char* reason_of(verdict v);
/// Does a frame come out?
inline bool delivers(verdict v) { return v <= verdict::passed; }
/// Was the packet refused? (A dummy is neither delivered nor refused.)
inline bool refuses(verdict v) { return v > verdict::dummy; }

/// Bytes that seal() may need beside those of the frame: after the input (it writes padding there), and in the output.
inline constexpr std::uint32_t tail_room = 8, seal_room = 96;

/// One packet on its way: one cache line, since it goes from CPU to CPU.
struct alignas(64) packet {
    std::uint8_t* in = nullptr;      ///< the frame; tail_room bytes stand behind it
    std::uint8_t* out = nullptr;     ///< room for captured + seal_room bytes
    std::uint32_t captured = 0;      ///< bytes at `in`
    std::uint32_t out_bytes = 0;     ///< bytes at `out`, when the verdict delivers and is not `passed`
    frame at;
    verdict what = verdict::passed;
    std::int32_t sa = -1;            ///< its number in the table
    std::uint32_t seq = 0;
};
static_assert(sizeof(packet) == 64);

/// Encrypts p.in into p.out with s, p.seq and the given IV (8 bytes, never the same twice with one key). p.at.kind is ip. Sets what and out_bytes.
/// Uses this thread's cipher context of the SA: the first call with an SA on a thread expands the key. Writes up to tail_room bytes behind the IP packet in p.in.
void seal(packet& p, const sa& s, link_type link, std::uint64_t iv);

/// Decrypts p.in into p.out and checks it; p.at.kind is ip and protocol 50. Sets what (not yet `replayed` or `late`: see replay_window), out_bytes and seq.
void open(packet& p, const sa& s, link_type link);

/// Does the outer packet hold at least an ESP header, IV, trailer and check value?
bool fits_esp(const frame& f);
/// Would the outer packet of this inner one exceed what an IP header can say?
bool too_long_to_seal(const frame& f, const sa& s);

/// The anti-replay window of a receiver (RFC 4303 section 3.4.3): a bit for each of the last N sequence numbers.
/// One thread at a time; authentic packets only.
class replay_window {
public:
    /// packets: 0 (everything is new) or 32 .. 65536.
    explicit replay_window(std::uint32_t packets) : size_(packets), seen_((packets + 63) / 64 + 1) {}
    /// opened: it is new and is seen from now on. Else replayed or late.
    verdict take(std::uint32_t seq);

private:
    bool test_and_set(std::uint32_t seq);
    std::uint32_t size_, newest_ = 0;
    std::vector<std::uint64_t> seen_;  // a ring of words; one more than the window needs, so that the words ahead can be cleared whole
};

}  // namespace esp
