// SPDX-License-Identifier: Apache-2.0
/// Where a compressed stream may be cut so that its parts can be decoded at the same time: found by walking headers, without decoding.
///
///     cutter c({.kind = codec::zstd});
///     while (fill(pending)) {
///         cut here = c.next(pending, at_end_of_input);
///         if (here.length == 0) continue;                 // more bytes are needed to tell
///         submit(pending.first(here.length), here.whole); // whole frames: any worker; else: a part of a large frame, for the serial side
///     }
///
/// A cut is a hint. Whoever decodes checks that frames end exactly there, so a header that lies costs time and nothing else. What cannot be walked
/// (foreign bytes, damage, the legacy format of lz4) is handed on as parts; the decoder then says what is wrong with it.
#pragma once

#include <cstdint>
#include <optional>

#include <cohort/stream/codec.hpp>

namespace cohort::stream {

struct cut_options {
    codec kind = codec::zstd;
    std::size_t target_in = 1u << 20;   ///< frames are put together until they have so many bytes ...
    std::size_t target_out = 8u << 20;  ///< ... or so much content
    std::size_t max_in = 16u << 20;     ///< a frame larger than that, ...
    std::uint64_t max_out = 32u << 20;  ///< ... or with more content, goes in parts
    /// As in decode_options. In one go a window costs nothing, but whether a frame is refused shall not depend on its size.
    std::uint64_t max_window = 128u << 20;
};

struct cut {
    std::size_t length = 0;       ///< 0: more input is needed
    bool whole = false;           ///< made of whole frames, as far as their headers tell
    std::uint64_t out_bound = 0;  ///< the most content that whole frames can have; for gzip an estimate
};

/// One stream. One thread at a time.
class cutter {
public:
    explicit cutter(const cut_options& options) : o_(options) {}
    /// `in` starts where the last cut ended. Answers length 0 only while in.size() < max_in and more input is to come; else 1 .. in.size().
    /// Cost: one step a block header; for gzip without size fields one pass over the bytes.
    cut next(byte_view in, bool end_of_input);

private:
    /// Where a walk stands between two structures of a format: `skip` bytes to pass over, then `place`.
    struct walk {
        enum place { boundary, block, lost } at = boundary;
        std::uint64_t skip = 0;
        std::uint64_t frame_bound = 0;                ///< content of the frame's blocks so far, at most
        std::uint64_t content = ~std::uint64_t{0};    ///< what the frame's header says
        std::uint32_t block_max = 0;
        bool checksum = false, block_checksum = false;

        std::uint64_t most_content() const { return frame_bound < content ? frame_bound : content; }
    };
    enum class step { moved, starved };

    cut next_walked(byte_view in, bool end);
    cut whole_frames(byte_view in, bool end);
    cut part_of_frame(byte_view in, bool end);
    cut next_gzip(byte_view in, bool end);
    cut gzip_sized(byte_view in, bool end);
    cut gzip_scanned(byte_view in, bool end);
    static void pass_over(walk& w, byte_view in, std::size_t& pos);
    static step skippable(walk& w, byte_view rest, std::size_t& used);
    static step lose(walk& w);
    step advance(walk& w, byte_view rest, std::size_t& used) const;
    step zstd_frame(walk& w, byte_view rest, std::size_t& used) const;
    step zstd_block(walk& w, byte_view rest, std::size_t& used) const;
    step lz4_frame(walk& w, byte_view rest, std::size_t& used) const;
    step lz4_block(walk& w, byte_view rest, std::size_t& used) const;

    cut_options o_;
    walk at_;                  // where the next cut starts
    bool in_member_ = false;   // gzip: the next cut starts inside a member
};

// --- what the formats look like -------------------------------------------------------------------------------------------

inline constexpr std::uint32_t zstd_magic = 0xFD2FB528, lz4_magic = 0x184D2204, lz4_legacy_magic = 0x184C2102;
/// The extra field of our gzip members: 'C' 'o', length 4, the member's size in bytes.
inline constexpr std::uint8_t gzip_size_id[2] = {'C', 'o'};

inline std::uint32_t load32(const std::uint8_t* p) {
    return p[0] | static_cast<std::uint32_t>(p[1]) << 8 | static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}
/// Of zstd and lz4 alike.
inline bool is_skippable(std::uint32_t magic) { return (magic & 0xFFFFFFF0) == 0x184D2A50; }

/// The size that a gzip member says it has, by our field or by BGZF's ('B' 'C', size - 1 in 16 bits); nothing when it has neither, or when
/// the header is cut off. `in` starts at the member.
std::optional<std::size_t> gzip_member_size(byte_view in);
/// The first place at or after `from` where a gzip member may start: 1f 8b 08 and flags without reserved bits; in.size() when there is none.
std::size_t find_gzip_member(byte_view in, std::size_t from);

}  // namespace cohort::stream
