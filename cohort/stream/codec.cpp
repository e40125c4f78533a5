// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/codec.hpp>

#include <array>

namespace cohort::stream {

namespace {

struct entry {
    std::string_view name;
    level_range levels;
    std::size_t usual_block, largest_block;
    std::unique_ptr<compressor> (*make_compressor)(int);
    std::unique_ptr<frame_decoder> (*make_frames)();
    std::unique_ptr<stream_decoder> (*make_stream)(const decode_options&);
};

// Blocks: zstd's window at level 3 is 2 MiB, and what a frame forgets at its start must be small beside it; deflate's is 32 KiB; an lz4 block is at most 4 MiB.
// Largest: a gzip member's size field and ISIZE have 32 bits, and a job's size in a shell has, too.
constexpr std::array<entry, 3> table{{
    {"zstd", {1, 19, 3}, 8u << 20, 1u << 30, detail::make_zstd_compressor, detail::make_zstd_frames, detail::make_zstd_stream},
    {"gzip", {1, 12, 6}, 1u << 20, 1u << 30, detail::make_gzip_compressor, detail::make_gzip_frames, detail::make_gzip_stream},
    {"lz4", {1, 12, 1}, 4u << 20, 1u << 30, detail::make_lz4_compressor, detail::make_lz4_frames, detail::make_lz4_stream},
}};

const entry& of(codec c) { return table[static_cast<std::size_t>(c)]; }

template <class T>
result<std::unique_ptr<T>> made(std::unique_ptr<T> one, codec c, const char* what) {
    if (!one) return fail(ENOMEM, std::string(codec_name(c)), what, "the library has no memory");
    return one;
}

}  // namespace

std::string_view codec_name(codec c) { return of(c).name; }
level_range levels(codec c) { return of(c).levels; }
std::size_t usual_block(codec c) { return of(c).usual_block; }
std::size_t largest_block(codec c) { return of(c).largest_block; }

result<codec> parse_codec(std::string_view name) {
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (table[i].name == name) return static_cast<codec>(i);
    }
    return fail(EINVAL, "codec \"" + std::string(name) + "\"", "choose", "it is none of zstd, gzip, lz4");
}

result<std::unique_ptr<compressor>> compressor::create(codec c, int level) {
    const level_range r = of(c).levels;
    if (level < r.low || level > r.high) {
        return fail(EINVAL, std::string(of(c).name), "set level " + std::to_string(level),
                    "its levels are " + std::to_string(r.low) + " to " + std::to_string(r.high));
    }
    return made(of(c).make_compressor(level), c, "start a compressor");
}

result<std::unique_ptr<frame_decoder>> frame_decoder::create(codec c) { return made(of(c).make_frames(), c, "start a decoder"); }

result<std::unique_ptr<stream_decoder>> stream_decoder::create(const decode_options& options) {
    return made(of(options.kind).make_stream(options), options.kind, "start a decoder");
}

std::unexpected<error> bad_input(codec c, std::uint64_t offset, std::string reason, int code) {
    return fail(code, {}, "decode " + std::string(codec_name(c)) + " at byte " + std::to_string(offset), std::move(reason));
}

}  // namespace cohort::stream
