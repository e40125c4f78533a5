// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <lz4.h>
#include <zlib.h>
#include <zstd.h>

#include <cohort/stream/codec.hpp>
#include <cohort/stream/testing/samples.hpp>

namespace cohort::stream {
namespace {

using namespace testing;

class every_codec : public ::testing::TestWithParam<codec> {};
INSTANTIATE_TEST_SUITE_P(codecs, every_codec, ::testing::Values(codec::zstd, codec::gzip, codec::lz4),
                         [](const auto& p) { return std::string(codec_name(p.param)); });

TEST_P(every_codec, name_is_parsed_back) {
    EXPECT_EQ(parse_codec(codec_name(GetParam())), GetParam());
    EXPECT_EQ(parse_codec("zip").error().code, EINVAL);
}

TEST_P(every_codec, levels_outside_the_range_are_refused) {
    const level_range r = levels(GetParam());
    for (int bad : {r.low - 1, r.high + 1, -100, 1000}) EXPECT_EQ(compressor::create(GetParam(), bad).error().code, EINVAL) << bad;
    for (int good : {r.low, r.usual, r.high}) EXPECT_TRUE(compressor::create(GetParam(), good)) << good;
}

TEST_P(every_codec, both_decoders_give_a_frame_back) {
    for (std::size_t n : {0u, 1u, 2u, 255u, 4096u, 65535u, 65536u, 65537u, 1000003u, 5000000u}) {
        for (const bytes& in : {text(n), noise(n), bytes(n)}) {
            const bytes frame = frames_of(GetParam(), in, n ? n : 1);
            bytes out(n + 1);
            auto fast = frame_decoder::create(GetParam()).value();
            const auto done = fast->frames(frame, out);
            EXPECT_EQ(done.consumed, frame.size());
            ASSERT_EQ(done.produced, n);
            out.resize(n);
            EXPECT_EQ(out, in);
            const decoded d = decode_by_stream(GetParam(), frame);
            EXPECT_TRUE(d.end) << d.end.error().line();
            EXPECT_EQ(d.out, in);
        }
    }
}

TEST_P(every_codec, a_used_compressor_makes_the_bytes_of_a_fresh_one) {
    auto used = compressor::create(GetParam(), levels(GetParam()).usual).value();
    for (int i = 0; i < 4; ++i) {
        const bytes in = i % 2 ? noise(100000, i) : text(300000, i);
        bytes a(used->bound(in.size()));
        a.resize(used->block(in, a).value());
        EXPECT_EQ(a, frames_of(GetParam(), in, in.size()));
    }
}

TEST_P(every_codec, stream_decoder_takes_any_cut_of_the_input) {
    const bytes in = text(70000);
    const bytes packed = frames_of(GetParam(), in, 20000);
    for (std::size_t step : {1u, 2u, 3u, 7u, 1000u, 65536u}) {
        auto d = stream_decoder::create({.kind = GetParam()}).value();
        bytes out;
        for (std::size_t at = 0; at < packed.size(); at += step) {
            auto r = d->feed(at, byte_view(packed).subspan(at, std::min(step, packed.size() - at)), [&](byte_view b) -> result<void> {
                out.insert(out.end(), b.begin(), b.end());
                return {};
            });
            ASSERT_TRUE(r) << r.error().line();
        }
        EXPECT_TRUE(d->finish());
        EXPECT_TRUE(d->at_boundary());
        EXPECT_EQ(out, in) << step;
    }
}

TEST_P(every_codec, an_error_of_the_sink_is_passed_on) {
    const bytes packed = frames_of(GetParam(), text(70000), 70000);
    auto d = stream_decoder::create({.kind = GetParam()}).value();
    auto r = d->feed(0, packed, [](byte_view) -> result<void> { return fail(ENOSPC, "disk", "write"); });
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ENOSPC);
}

TEST_P(every_codec, what_follows_the_last_frame_is_named_by_its_byte) {
    bytes packed = frames_of(GetParam(), text(1000), 1000);
    const std::size_t end = packed.size();
    for (char c : std::string("garbage behind it")) packed.push_back(static_cast<std::uint8_t>(c));
    const decoded d = decode_by_stream(GetParam(), packed);
    ASSERT_FALSE(d.end);
    EXPECT_EQ(d.end.error().code, EBADMSG);
    EXPECT_NE(d.end.error().act.find("at byte " + std::to_string(end)), std::string::npos) << d.end.error().line();
    EXPECT_EQ(d.out, text(1000)) << "what stood before the garbage is good";
}

TEST_P(every_codec, foreign_bytes_are_refused_at_byte_0) {
    for (const bytes& in : {noise(1000, 3), text(5), bytes(100)}) {
        const decoded d = decode_by_stream(GetParam(), in);
        ASSERT_FALSE(d.end);
        EXPECT_EQ(d.end.error().code, EBADMSG);
        EXPECT_NE(d.end.error().act.find("at byte 0"), std::string::npos) << d.end.error().line();
        EXPECT_TRUE(d.out.empty());
    }
}

TEST_P(every_codec, a_flipped_bit_is_never_taken_for_good) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const bytes in = text(3000, seed);
    const bytes good = frames_of(GetParam(), in, 1000);
    for (int i = 0; i < 2000; ++i) {
        bytes bad = good;
        const std::size_t at = random() % bad.size();
        bad[at] ^= static_cast<std::uint8_t>(1u << random() % 8);
        const decoded d = decode_by_stream(GetParam(), bad, 1 << 24);
        // A header has bits without a meaning for the content (a time, an operating system); everything else must be noticed.
        if (d.end) { EXPECT_EQ(d.out, in) << "byte " << at; }
    }
}

TEST_P(every_codec, truncation_anywhere_is_an_error_that_names_the_end) {
    const bytes good = frames_of(GetParam(), text(3000), 1000);
    std::size_t boundaries = 0;
    for (std::size_t n = 1; n < good.size(); ++n) {
        const decoded d = decode_by_stream(GetParam(), byte_view(good).first(n));
        if (d.end) {
            ++boundaries;
            continue;
        }
        EXPECT_EQ(d.end.error().code, EBADMSG);
        EXPECT_NE(d.end.error().act.find("at byte " + std::to_string(n)), std::string::npos) << n << ": " << d.end.error().line();
    }
    EXPECT_EQ(boundaries, 2u) << "only behind the first and the second frame";
}

TEST(codec, empty_input_is_what_the_tools_say_it_is) {
    EXPECT_FALSE(decode_by_stream(codec::zstd, {}).end);
    EXPECT_FALSE(decode_by_stream(codec::gzip, {}).end);
    EXPECT_TRUE(decode_by_stream(codec::lz4, {}).end);
}

TEST(gzip, zeros_behind_the_last_member_are_padding) {
    bytes packed = frames_of(codec::gzip, text(1000), 400);
    packed.resize(packed.size() + 700);
    EXPECT_TRUE(decode_by_stream(codec::gzip, packed).end);
    packed.push_back('x');
    const decoded d = decode_by_stream(codec::gzip, packed);
    ASSERT_FALSE(d.end);
    EXPECT_NE(d.end.error().act.find("at byte " + std::to_string(packed.size() - 1)), std::string::npos);
}

TEST(gzip, member_says_its_own_size) {
    const bytes packed = frames_of(codec::gzip, text(5000), 5000);
    EXPECT_EQ(gzip_member_size(packed), packed.size());
}

TEST(zstd, window_over_the_limit_is_refused_with_the_reason) {
    // A frame header by hand: no content size, window 2^(10 + 18) = 256 MiB, one raw last block of one byte.
    const bytes frame = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 0x09, 0x00, 0x00, 'x'};
    const decoded d = decode_by_stream(codec::zstd, frame);
    ASSERT_FALSE(d.end);
    EXPECT_EQ(d.end.error().code, EFBIG);
    EXPECT_NE(d.end.error().reason.find("128 MiB"), std::string::npos);
    auto wide = stream_decoder::create({.kind = codec::zstd, .max_window = 256u << 20}).value();
    EXPECT_TRUE(wide->feed(0, frame, [](byte_view) -> result<void> { return {}; }));
    EXPECT_TRUE(wide->finish());
}

TEST(zstd, skippable_frames_are_passed_over) {
    bytes in = {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
    const bytes skip = in;
    const bytes frame = frames_of(codec::zstd, text(500), 500);
    in.insert(in.end(), frame.begin(), frame.end());
    in.insert(in.end(), skip.begin(), skip.end());
    const decoded d = decode_by_stream(codec::zstd, in);
    EXPECT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, text(500));
    EXPECT_TRUE(decode_by_stream(codec::zstd, skip).end);
    EXPECT_TRUE(decode_by_stream(codec::lz4, skip).end);
}

/// The legacy format: magic number, then [size, compressed bytes] for each block.
bytes legacy_lz4(byte_view in, std::size_t block) {
    bytes out = {0x02, 0x21, 0x4c, 0x18};
    for (std::size_t at = 0; at < in.size(); at += block) {
        const auto part = in.subspan(at, std::min(block, in.size() - at));
        bytes packed(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(part.size()))));
        const int n = LZ4_compress_default(reinterpret_cast<const char*>(part.data()), reinterpret_cast<char*>(packed.data()), static_cast<int>(part.size()), static_cast<int>(packed.size()));
        for (int i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(n >> (8 * i)));
        out.insert(out.end(), packed.begin(), packed.begin() + n);
    }
    return out;
}

TEST(lz4, legacy_frames_are_decoded_also_between_others) {
    const bytes in = text(100000);
    bytes packed = legacy_lz4(in, 30000);
    EXPECT_EQ(decode_by_stream(codec::lz4, packed).out, in);
    const bytes frame = frames_of(codec::lz4, in, 50000);
    packed.insert(packed.end(), frame.begin(), frame.end());
    const bytes again = legacy_lz4(in, 8u << 20);
    packed.insert(packed.end(), again.begin(), again.end());
    const decoded d = decode_by_stream(codec::lz4, packed);
    EXPECT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out.size(), 3 * in.size());
    packed.resize(packed.size() - 1);
    EXPECT_FALSE(decode_by_stream(codec::lz4, packed).end);
}

TEST(buffer_pool, gives_used_buffers_back_and_stays_under_its_limit) {
    buffer_pool pool(10000);
    buffer a = pool.take(4000);
    const auto* where = a.data();
    pool.give(std::move(a));
    a = pool.take(3000);
    EXPECT_EQ(a.data(), where);
    EXPECT_EQ(a.size(), 0u);
    EXPECT_EQ(a.capacity(), 4000u);
    pool.give(std::move(a));
    buffer b = pool.take(9000);  // does not fit beside the idle one, which goes
    EXPECT_EQ(b.capacity(), 9000u);
    pool.give(std::move(b));
    EXPECT_EQ(pool.take(4000).capacity(), 9000u) << "the smaller one is gone";
    EXPECT_EQ(pool.take(100).capacity(), 100u) << "a buffer far too large is not taken";
}

}  // namespace
}  // namespace cohort::stream
