// SPDX-License-Identifier: Apache-2.0
// Deflate has no sizes to walk. Members that say how large they are (ours, BGZF) are passed over by that; in others the first bytes of a member
// are looked for: about one place in 2^27 of compressed data looks like one and is none, and costs a part that is decoded twice.
#include <algorithm>

#include <cohort/stream/frames.hpp>

namespace cohort::stream {

namespace {

constexpr std::size_t least_member = 18, fixed_header = 10, trailer = 8;

/// The last four bytes of a member: its content's size modulo 2^32.
std::uint32_t isize_before(byte_view in, std::size_t end) { return end >= least_member ? load32(in.data() + end - 4) : 0; }

}  // namespace

std::optional<std::size_t> gzip_member_size(byte_view in) {
    if (in.size() < fixed_header + 2 || in[0] != 0x1f || in[1] != 0x8b || in[2] != 8 || !(in[3] & 4)) return {};
    const std::size_t extra = in[10] | in[11] << 8;
    if (in.size() < fixed_header + 2 + extra) return {};
    for (byte_view f = in.subspan(fixed_header + 2, extra); f.size() >= 4;) {
        const std::size_t n = f[2] | f[3] << 8;
        if (n > f.size() - 4) return {};
        std::size_t size = 0;
        if (f[0] == gzip_size_id[0] && f[1] == gzip_size_id[1] && n == 4) size = load32(f.data() + 4);
        if (f[0] == 'B' && f[1] == 'C' && n == 2) size = std::size_t{1} + (f[4] | f[5] << 8);
        if (size >= fixed_header + 2 + extra + trailer) return size;
        f = f.subspan(4 + n);
    }
    return {};
}

std::size_t find_gzip_member(byte_view in, std::size_t from) {
    for (std::size_t i = from; i + 4 <= in.size(); ++i) {
        const void* hit = std::memchr(in.data() + i, 0x1f, in.size() - i - 3);
        if (!hit) break;
        i = static_cast<std::size_t>(static_cast<const std::uint8_t*>(hit) - in.data());
        if (in[i + 1] == 0x8b && in[i + 2] == 8 && (in[i + 3] & 0xe0) == 0) return i;
    }
    return in.size();
}

cut cutter::next_gzip(byte_view in, bool end) {
    if (in_member_) {
        // To the next member's start; a start may be cut in two by the end of what is there.
        std::size_t at = find_gzip_member(in, 0);
        if (at == 0) {
            in_member_ = false;
        } else {
            in_member_ = at == in.size();
            if (in_member_ && !end) {
                if (at <= 3) return {};
                at -= 3;
            }
            return {at, false, 0};
        }
    }
    const cut sized = gzip_sized(in, end);
    if (sized.length || gzip_member_size(in)) return sized;
    if (in.size() < o_.target_in && !end && in[0] == 0x1f) return {};  // the header may be cut off
    return gzip_scanned(in, end);
}

/// Members that say their size, as many as make a good piece of work.
cut cutter::gzip_sized(byte_view in, bool end) {
    std::size_t pos = 0;
    std::uint64_t bound = 0;
    bool no_more = end || in.size() >= o_.max_in;
    while (pos < o_.target_in && bound < o_.target_out) {
        const auto size = gzip_member_size(in.subspan(pos));
        if (!size || *size > in.size() - pos) {
            no_more |= !size && in.size() - pos >= 64;  // no size field at all, and not for want of bytes
            break;
        }
        const std::uint64_t content = isize_before(in, pos + *size);
        if (bound + content > o_.max_out) {
            no_more = true;
            break;
        }
        pos += *size;
        bound += content;
    }
    if (pos >= o_.target_in || bound >= o_.target_out || (pos && no_more)) return {pos, true, bound};
    if (pos || !no_more || !gzip_member_size(in)) return {};
    // One member, and it is too large to be decoded in one go, or the input ends inside it.
    const std::size_t size = *gzip_member_size(in);
    in_member_ = size > in.size();
    return {std::min(size, in.size()), false, 0};
}

/// Members without a size: up to a place that looks like the start of another one.
cut cutter::gzip_scanned(byte_view in, bool end) {
    std::uint64_t bound = 0;
    std::size_t at = find_gzip_member(in, 1);
    for (; at < in.size(); at = find_gzip_member(in, at + 1)) {
        bound += isize_before(in, at);
        if (at >= o_.target_in || bound >= o_.target_out) break;
    }
    if (at == in.size()) {
        if (!end && in.size() < o_.max_in) return {};
        bound += isize_before(in, at);
        if (!end) {
            in_member_ = true;
            return {at - 3, false, 0};
        }
    }
    if (bound > o_.max_out) bound = o_.max_out;
    return {at, true, bound};
}

}  // namespace cohort::stream
