// SPDX-License-Identifier: Apache-2.0
/// Inputs for tests, and the decoding of a stream by cuts without threads: the same steps as a run, one after another.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <zlib.h>

#include <cohort/stream/codec.hpp>
#include <cohort/stream/frames.hpp>

namespace cohort::stream::testing {

using bytes = std::vector<std::uint8_t>;

inline byte_view view(const std::string& s) { return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()}; }

/// Lines of words that repeat: compresses about four times.
inline bytes text(std::size_t n, std::uint64_t seed = 1) {
    static const char* const words[] = {"stream", "block", "order", "turn", "window", "of ", "the ", "a ", "job ", "42", "1729", "core", "\n", "\n"};
    std::mt19937_64 random(seed);
    bytes out;
    out.reserve(n + 16);
    while (out.size() < n) {
        for (const char* c = words[random() % std::size(words)]; *c; ++c) out.push_back(static_cast<std::uint8_t>(*c));
        if (random() % 4 == 0) out.push_back(static_cast<std::uint8_t>('a' + random() % 26));
    }
    out.resize(n);
    return out;
}

/// Does not compress.
inline bytes noise(std::size_t n, std::uint64_t seed = 1) {
    std::mt19937_64 random(seed);
    bytes out(n);
    for (auto& b : out) b = static_cast<std::uint8_t>(random());
    return out;
}

/// A member as gzip writes it: nothing tells its size.
inline bytes foreign_member(byte_view in, int level = 6) {
    z_stream z{};
    deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
    bytes out(deflateBound(&z, in.size()) + 32);
    z.next_in = const_cast<Bytef*>(in.data());
    z.avail_in = static_cast<uInt>(in.size());
    z.next_out = out.data();
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    out.resize(out.size() - z.avail_out);
    deflateEnd(&z);
    return out;
}

/// One frame (member) for each `block` bytes.
inline bytes frames_of(codec c, byte_view in, std::size_t block) {
    auto k = compressor::create(c, levels(c).usual).value();
    bytes out;
    do {
        const byte_view part = in.first(std::min(block, in.size()));
        bytes frame(k->bound(part.size()));
        frame.resize(k->block(part, frame).value());
        out.insert(out.end(), frame.begin(), frame.end());
        in = in.subspan(part.size());
    } while (!in.empty());
    return out;
}

struct decoded {
    bytes out;
    result<void> end;
    std::size_t whole = 0, serial = 0;  ///< pieces that a worker decoded; pieces that were streamed, all or in part
};

/// Cuts `in`, which comes in pieces of at most `arrives` bytes, and decodes the pieces as a run does. most_out: stops beyond so much content.
inline decoded decode_by_cuts(const cut_options& o, byte_view in, std::size_t arrives, std::size_t most_out = std::size_t{1} << 30) {
    decoded d;
    auto frames = frame_decoder::create(o.kind).value();
    auto stream = stream_decoder::create({.kind = o.kind}).value();
    const auto put = [&](byte_view b) -> result<void> {
        if (d.out.size() + b.size() > most_out) return fail(EFBIG, "test", "decode", "too much content");
        d.out.insert(d.out.end(), b.begin(), b.end());
        return {};
    };
    cutter cuts(o);
    std::size_t start = 0, have = 0;
    for (;;) {
        const bool end = have == in.size();
        const cut c = cuts.next(in.subspan(start, have - start), end);
        if (c.length == 0) {
            if (end) break;
            if (have - start >= o.max_in) {
                d.end = fail(EPROTO, "cutter", "next", "no cut though max_in is there");
                return d;
            }
            have += std::min(arrives, in.size() - have);
            continue;
        }
        if (c.length > have - start) {
            d.end = fail(EPROTO, "cutter", "next", "a cut beyond the input");
            return d;
        }
        const byte_view piece = in.subspan(start, c.length);
        frame_decoder::done done;
        bytes room;
        if (c.whole) {
            if (c.out_bound > o.max_out) {
                d.end = fail(EPROTO, "cutter", "next", "a bound over max_out");
                return d;
            }
            room.resize(std::max<std::size_t>(c.out_bound, 1));
            done = frames->frames(piece, room);
        }
        std::size_t used = 0;
        if (stream->at_boundary() && done.consumed) {
            d.end = put(byte_view(room).first(done.produced));
            used = done.consumed;
            stream->skip_to(start + used);
            ++d.whole;
        }
        if (d.end && used < piece.size()) {
            ++d.serial;
            d.end = stream->feed(start + used, piece.subspan(used), put);
        }
        if (!d.end) return d;
        start += c.length;
    }
    if (start != in.size()) d.end = fail(EPROTO, "cutter", "next", "input was left over");
    else d.end = stream->finish();
    return d;
}

/// The same input through the streaming decoder alone.
inline decoded decode_by_stream(codec c, byte_view in, std::size_t most_out = std::size_t{1} << 30) {
    decoded d;
    auto stream = stream_decoder::create({.kind = c}).value();
    d.end = stream->feed(0, in, [&](byte_view b) -> result<void> {
        if (d.out.size() + b.size() > most_out) return fail(EFBIG, "test", "decode", "too much content");
        d.out.insert(d.out.end(), b.begin(), b.end());
        return {};
    });
    if (d.end) d.end = stream->finish();
    return d;
}

}  // namespace cohort::stream::testing
