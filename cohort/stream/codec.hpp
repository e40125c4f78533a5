// SPDX-License-Identifier: Apache-2.0
/// Codecs: one block becomes one frame (zstd, lz4) or one member (gzip) that the codec's own tool reads; and back.
///
///     auto c = compressor::create(codec::zstd, 3).value();
///     buffer out(c->bound(block.size()));
///     auto n = c->block(block, out.tail());                      // result<size_t>: a whole frame
///     auto d = stream_decoder::create({codec::zstd}).value();
///     d->feed(0, frame, [&](byte_view piece) { return write(piece); });
///     d->finish();                                               // truncated input ends here
///
/// Two decoders for one format: frame_decoder is quick and knows only "good" and "not like this"; stream_decoder takes any cut of the input,
/// needs bounded memory, and says what is wrong and where. What the first refuses is given to the second, so every error text comes from it.
/// Kernel: crypto/acompress.c and pcrypt give whole requests to a codec in the same way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include <cohort/base/error.hpp>
#include <cohort/stream/block.hpp>

namespace cohort::stream {

enum class codec { zstd, gzip, lz4 };

std::string_view codec_name(codec c);
/// Errors: EINVAL, no such codec.
result<codec> parse_codec(std::string_view name);

/// What --level may be, and what it is when nobody says.
struct level_range {
    int low, high, usual;
};
level_range levels(codec c);
/// Bytes of input per frame when nobody says: the least at which the ratio is that of the codec's own tool.
std::size_t usual_block(codec c);
/// The largest block a frame may have.
std::size_t largest_block(codec c);

/// Makes frames. One thread at a time; output depends on codec, level and input alone.
class compressor {
public:
    /// Errors: EINVAL, level out of range; ENOMEM.
    static result<std::unique_ptr<compressor>> create(codec c, int level);
    virtual ~compressor() = default;
    /// The most bytes that block() writes for n bytes.
    virtual std::size_t bound(std::size_t n) const = 0;
    /// in: 0 .. largest_block(); out: at least bound(in.size()). Errors: EIO, the library failed. Cost: the compression; no allocation after the first.
    virtual result<std::size_t> block(byte_view in, std::span<std::uint8_t> out) = 0;
};

/// Decodes whole frames in one go. One thread at a time.
class frame_decoder {
public:
    struct done {
        std::size_t consumed = 0;  ///< whole frames from the front of the input, checked
        std::size_t produced = 0;  ///< their content
    };
    /// Errors: ENOMEM.
    static result<std::unique_ptr<frame_decoder>> create(codec c);
    virtual ~frame_decoder() = default;
    /// Decodes as many whole frames as are there and fit into `out`. What is behind done::consumed is damaged, cut off, foreign or too large.
    virtual done frames(byte_view in, std::span<std::uint8_t> out) = 0;
};

/// Takes decoded pieces; what it fails with ends the decoding and is passed on.
using byte_sink = std::function<result<void>(byte_view)>;

struct decode_options {
    codec kind = codec::zstd;
    /// A zstd frame whose window is larger is refused, as zstd does without --memory or --long.
    std::uint64_t max_window = 128u << 20;
};

/// Decodes a stream that comes in any pieces. One thread at a time.
class stream_decoder {
public:
    /// Errors: ENOMEM.
    static result<std::unique_ptr<stream_decoder>> create(const decode_options& options);
    virtual ~stream_decoder() = default;
    /// `offset` is where `in` stands in the input; the error's act names the byte at which the input is wrong.
    /// Errors: EBADMSG, damaged or foreign; EFBIG, the window is over the limit; and the sink's.
    virtual result<void> feed(std::uint64_t offset, byte_view in, const byte_sink& out) = 0;
    /// Is everything that was fed made of whole frames?
    virtual bool at_boundary() const = 0;
    /// Tells that whole frames up to `offset` were decoded elsewhere. at_boundary() must hold.
    virtual void skip_to(std::uint64_t offset) = 0;
    /// The input is at its end. Errors: EBADMSG, inside a frame; or nothing came at all, and the codec's own tool calls that an error.
    virtual result<void> finish() = 0;
};

/// An error of the decoders: "decode zstd at byte 4711".
std::unexpected<error> bad_input(codec c, std::uint64_t offset, std::string reason, int code = EBADMSG);

namespace detail {
std::unique_ptr<compressor> make_zstd_compressor(int level);
std::unique_ptr<compressor> make_gzip_compressor(int level);
std::unique_ptr<compressor> make_lz4_compressor(int level);
std::unique_ptr<frame_decoder> make_zstd_frames();
std::unique_ptr<frame_decoder> make_gzip_frames();
std::unique_ptr<frame_decoder> make_lz4_frames();
std::unique_ptr<stream_decoder> make_zstd_stream(const decode_options& options);
std::unique_ptr<stream_decoder> make_gzip_stream(const decode_options& options);
std::unique_ptr<stream_decoder> make_lz4_stream(const decode_options& options);
}  // namespace detail

}  // namespace cohort::stream
