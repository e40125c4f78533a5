// SPDX-License-Identifier: Apache-2.0
// The walk that zstd and lz4 share, and the steps of each. gzip, which has no block sizes to walk, is in frames_gzip.cpp.
#include <cohort/stream/frames.hpp>

#include <algorithm>

namespace cohort::stream {

namespace {

constexpr std::uint32_t zstd_block_max = 128u << 10;

std::uint64_t load(const std::uint8_t* p, std::size_t n) {
    std::uint64_t v = 0;
    for (std::size_t i = 0; i < n; ++i) v |= static_cast<std::uint64_t>(p[i]) << (8 * i);
    return v;
}

}  // namespace

cut cutter::next(byte_view in, bool end) {
    if (in.empty()) return {};
    return o_.kind == codec::gzip ? next_gzip(in, end) : next_walked(in, end);
}

cut cutter::next_walked(byte_view in, bool end) {
    const bool inside = at_.at != walk::boundary || at_.skip != 0;
    return inside ? part_of_frame(in, end) : whole_frames(in, end);
}

/// The cut starts at a frame: as many whole frames as make a good piece of work.
cut cutter::whole_frames(byte_view in, bool end) {
    walk w;
    std::size_t pos = 0, boundary = 0;  // boundary: the end of the last whole frame
    std::uint64_t bound = 0;            // content up to there
    bool large = false;
    for (;;) {
        pass_over(w, in, pos);
        if (w.skip) break;
        if (w.at == walk::boundary && pos > boundary) {
            boundary = pos;
            bound += w.most_content();
            w = walk{};
            if (boundary >= o_.target_in || bound >= o_.target_out) break;
        }
        std::size_t used = 0;
        if (w.at == walk::lost || advance(w, in.subspan(pos), used) == step::starved) break;
        pos += used;
        if (bound + w.most_content() > o_.max_out) {
            large = true;
            break;
        }
    }
    const bool no_more = end || in.size() >= o_.max_in || w.at == walk::lost || large;
    if (boundary >= o_.target_in || bound >= o_.target_out || (boundary && no_more)) return {boundary, true, bound};
    if (!no_more) return {};
    // Not one whole frame: it is too large, cut off, or no frame at all.
    if (pos == 0 || w.at == walk::lost) {
        w.at = walk::lost;
        pos = in.size();
    }
    at_ = w;
    return {pos, false, 0};
}

/// The cut starts inside a frame: to its end, or as much of it as is there.
cut cutter::part_of_frame(byte_view in, bool end) {
    walk w = at_;
    std::size_t pos = 0;
    for (;;) {
        pass_over(w, in, pos);
        if (w.skip) break;
        if (w.at == walk::boundary) {
            at_ = walk{};
            return {pos, false, 0};
        }
        std::size_t used = 0;
        if (w.at == walk::lost || advance(w, in.subspan(pos), used) == step::starved) break;
        pos += used;
    }
    if (pos == 0 && w.at != walk::lost && !end && in.size() < o_.max_in) return {};  // a header of a few bytes, cut in two
    if (pos == 0 || w.at == walk::lost) {
        w.at = walk::lost;
        pos = in.size();
    }
    at_ = w;
    return {pos, false, 0};
}

void cutter::pass_over(walk& w, byte_view in, std::size_t& pos) {
    const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(w.skip, in.size() - pos));
    pos += n;
    w.skip -= n;
}

cutter::step cutter::advance(walk& w, byte_view rest, std::size_t& used) const {
    if (o_.kind == codec::zstd) return w.at == walk::block ? zstd_block(w, rest, used) : zstd_frame(w, rest, used);
    return w.at == walk::block ? lz4_block(w, rest, used) : lz4_frame(w, rest, used);
}

/// RFC 8878, 3.1.1: magic number, descriptor, window, dictionary id, content size.
cutter::step cutter::zstd_frame(walk& w, byte_view rest, std::size_t& used) const {
    if (rest.size() < 5) return step::starved;
    const std::uint32_t magic = load32(rest.data());
    if (is_skippable(magic)) return skippable(w, rest, used);
    if (magic != zstd_magic) return lose(w);
    const std::uint8_t d = rest[4];
    const bool single = d & 0x20;
    const std::size_t id_bytes = std::size_t{1} << (d & 3) >> 1, size_field = d >> 6;
    const std::size_t size_bytes = size_field ? std::size_t{1} << size_field : single ? 1 : 0;
    const std::size_t header = 5 + (single ? 0 : 1) + id_bytes + size_bytes;
    if (rest.size() < header) return step::starved;
    if (d & 8) return lose(w);  // reserved bit
    if (size_bytes) w.content = load(rest.data() + header - size_bytes, size_bytes) + (size_bytes == 2 ? 256 : 0);
    std::uint64_t window = w.content;
    if (!single) {
        const std::uint64_t base = std::uint64_t{1} << (10 + (rest[5] >> 3));
        window = base + base / 8 * (rest[5] & 7);
    }
    if (!single && window > o_.max_window) return lose(w);  // the decoder says so
    w.block_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(window, zstd_block_max));
    w.checksum = d & 4;
    w.at = walk::block;
    used = header;
    return step::moved;
}

/// RFC 8878, 3.1.1.2: last block, type, size; an RLE block has one byte for its whole size.
cutter::step cutter::zstd_block(walk& w, byte_view rest, std::size_t& used) const {
    if (rest.size() < 3) return step::starved;
    const std::uint64_t h = load(rest.data(), 3), size = h >> 3, type = h >> 1 & 3;
    if (type == 3 || size > zstd_block_max) return lose(w);
    w.frame_bound += type == 2 ? w.block_max : size;
    w.skip = type == 1 ? 1 : size;
    if (h & 1) {
        w.at = walk::boundary;
        if (w.checksum) w.skip += 4;
    }
    used = 3;
    return step::moved;
}

/// lz4_Frame_format.md 1.6: magic number, FLG, BD, content size, dictionary id, header checksum.
cutter::step cutter::lz4_frame(walk& w, byte_view rest, std::size_t& used) const {
    if (rest.size() < 6) return step::starved;
    const std::uint32_t magic = load32(rest.data());
    if (is_skippable(magic)) return skippable(w, rest, used);
    const std::uint8_t flg = rest[4], bd = rest[5];
    const unsigned size_id = bd >> 4 & 7;
    if (magic != lz4_magic || flg >> 6 != 1 || size_id < 4) return lose(w);
    const std::size_t header = 7 + (flg & 8 ? 8 : 0) + (flg & 1 ? 4 : 0);
    if (rest.size() < header) return step::starved;
    if (flg & 8) w.content = load(rest.data() + 6, 8);
    w.block_max = 1u << (8 + 2 * size_id);
    w.block_checksum = flg & 16;
    w.checksum = flg & 4;
    w.at = walk::block;
    used = header;
    return step::moved;
}

/// A size, its highest bit for "stored as it is"; 0 is the end mark.
cutter::step cutter::lz4_block(walk& w, byte_view rest, std::size_t& used) const {
    if (rest.size() < 4) return step::starved;
    const std::uint32_t h = load32(rest.data()), size = h & 0x7FFFFFFF;
    used = 4;
    if (h == 0) {
        w.at = walk::boundary;
        w.skip = w.checksum ? 4 : 0;
        return step::moved;
    }
    if (size > w.block_max) return lose(w);
    w.frame_bound += h >> 31 ? size : w.block_max;
    w.skip = size + (w.block_checksum ? 4u : 0u);
    return step::moved;
}

cutter::step cutter::skippable(walk& w, byte_view rest, std::size_t& used) {
    if (rest.size() < 8) return step::starved;
    w.skip = load32(rest.data() + 4);
    used = 8;
    return step::moved;
}

cutter::step cutter::lose(walk& w) {
    w.at = walk::lost;
    return step::moved;
}

}  // namespace cohort::stream
