// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <zlib.h>
#include <zstd.h>

#include <cohort/stream/frames.hpp>
#include <cohort/stream/records.hpp>
#include <cohort/stream/testing/samples.hpp>

namespace cohort::stream {
namespace {

using namespace testing;

cut_options small(codec c) { return {.kind = c, .target_in = 4096, .target_out = 32768, .max_in = 65536, .max_out = 131072}; }

/// A member as bgzip writes it.
bytes bgzf_member(byte_view in) {
    bytes m = foreign_member(in);
    const bytes extra = {6, 0, 'B', 'C', 2, 0, 0, 0};
    m[3] = 4;
    m.insert(m.begin() + 10, extra.begin(), extra.end());
    m[16] = static_cast<std::uint8_t>(m.size() - 1);
    m[17] = static_cast<std::uint8_t>((m.size() - 1) >> 8);
    return m;
}

void append(bytes& to, const bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

class cutter_of : public ::testing::TestWithParam<codec> {};
INSTANTIATE_TEST_SUITE_P(cutter, cutter_of, ::testing::Values(codec::zstd, codec::gzip, codec::lz4),
                         [](const auto& p) { return std::string(codec_name(p.param)); });

TEST_P(cutter_of, our_own_frames_are_all_cut_whole) {
    const bytes in = text(500000);
    const bytes packed = frames_of(GetParam(), in, 10000);
    for (std::size_t arrives : {1u, 13u, 1000u, 4096u, 1000000u}) {
        const decoded d = decode_by_cuts(small(GetParam()), packed, arrives);
        ASSERT_TRUE(d.end) << arrives << ": " << d.end.error().line();
        EXPECT_EQ(d.out, in);
        EXPECT_EQ(d.serial, 0u);
        EXPECT_GT(d.whole, 10u);
    }
}

TEST_P(cutter_of, a_frame_over_the_limit_goes_in_parts_and_those_after_it_whole_again) {
    const bytes large = noise(300000), little = text(5000);
    bytes packed = frames_of(GetParam(), large, large.size());
    bytes in = large;
    for (int i = 0; i < 20; ++i) {
        append(packed, frames_of(GetParam(), little, little.size()));
        append(in, little);
    }
    for (std::size_t arrives : {100u, 4096u, 1000000u}) {
        const decoded d = decode_by_cuts(small(GetParam()), packed, arrives);
        ASSERT_TRUE(d.end) << d.end.error().line();
        EXPECT_EQ(d.out, in);
        EXPECT_GT(d.serial, 0u);
        EXPECT_GT(d.whole, 0u);
    }
}

TEST_P(cutter_of, content_over_the_limit_is_never_asked_for_in_one_go) {
    const bytes packed = frames_of(GetParam(), bytes(1 << 20), 1 << 20);  // a thousand times smaller than its content
    const decoded d = decode_by_cuts(small(GetParam()), packed, 1000);
    ASSERT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, bytes(1 << 20));
    EXPECT_EQ(d.whole, 0u);
}

/// Cuts are hints: whatever they are, the result is that of the streaming decoder, down to the error's place.
void expect_same_as_stream(codec c, byte_view in, std::size_t arrives, const std::string& what) {
    const decoded by_stream = decode_by_stream(c, in, 1 << 24), by_cuts = decode_by_cuts(small(c), in, arrives, 1 << 24);
    ASSERT_EQ(by_cuts.end.has_value(), by_stream.end.has_value())
        << what << ": cuts: " << (by_cuts.end ? "good" : by_cuts.end.error().line()) << "; stream: " << (by_stream.end ? "good" : by_stream.end.error().line());
    if (!by_cuts.end) { EXPECT_EQ(by_cuts.end.error().code, by_stream.end.error().code) << what << by_cuts.end.error().line(); }
    if (by_stream.end) { EXPECT_EQ(by_cuts.out, by_stream.out) << what; }
}

TEST_P(cutter_of, damage_and_truncation_are_seen_alike_by_cuts_and_by_stream) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    bytes good = frames_of(GetParam(), text(60000, seed), 7000);
    append(good, frames_of(GetParam(), noise(90000, seed), 90000));
    for (int i = 0; i < 400; ++i) {
        bytes bad = good;
        for (std::size_t k = random() % 3; k > 0; --k) bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
        if (random() % 2) bad.resize(random() % bad.size());
        expect_same_as_stream(GetParam(), bad, 1 + random() % 9000, "case " + std::to_string(i));
    }
}

TEST_P(cutter_of, a_size_field_that_lies_costs_time_and_nothing_else) {
    const bytes in = text(40000);
    const bytes good = frames_of(GetParam(), in, 4000);
    for (std::size_t at = 0; at < 32; ++at) {
        for (int v : {0, 1, 127, 255}) {
            bytes bad = good;
            bad[at] = static_cast<std::uint8_t>(v);
            expect_same_as_stream(GetParam(), bad, 5000, "byte " + std::to_string(at) + " = " + std::to_string(v));
        }
    }
}

TEST(gzip_cutter, foreign_members_are_found_by_their_first_bytes) {
    bytes packed, in;
    for (int i = 0; i < 50; ++i) {
        const bytes part = text(8000 + 100 * i, i);
        append(packed, foreign_member(part));
        append(in, part);
    }
    const decoded d = decode_by_cuts(small(codec::gzip), packed, 3000);
    ASSERT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, in);
    EXPECT_GT(d.whole, 10u);
    EXPECT_EQ(d.serial, 0u);
}

TEST(gzip_cutter, bgzf_members_are_cut_by_their_size) {
    bytes packed, in;
    for (int i = 0; i < 50; ++i) {
        const bytes part = text(9000, i);
        const bytes m = bgzf_member(part);
        EXPECT_EQ(gzip_member_size(m), m.size());
        append(packed, m);
        append(in, part);
    }
    const decoded d = decode_by_cuts(small(codec::gzip), packed, 3000);
    ASSERT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, in);
    EXPECT_EQ(d.serial, 0u);
}

TEST(gzip_cutter, bytes_that_only_look_like_a_member_change_nothing) {
    // Stored blocks hold the trap as it is, many times.
    bytes in = noise(60000);
    for (std::size_t at = 500; at + 4 < in.size(); at += 997) {
        in[at] = 0x1f, in[at + 1] = 0x8b, in[at + 2] = 8, in[at + 3] = 0;
    }
    bytes packed = foreign_member(in, 0), all = in;
    for (int i = 0; i < 5; ++i) {
        append(packed, foreign_member(in, 0));
        append(all, in);
    }
    const decoded d = decode_by_cuts(small(codec::gzip), packed, 2500);
    ASSERT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, all);
    EXPECT_GT(d.serial, 0u) << "the trap was not sprung";
}

TEST(zstd_cutter, frames_of_the_streaming_compressor_without_content_size_are_cut_whole) {
    ZSTD_CCtx* c = ZSTD_createCCtx();
    bytes packed, in;
    for (int i = 0; i < 30; ++i) {
        const bytes part = text(20000, i);
        bytes frame(ZSTD_compressBound(part.size()) + 100);
        ZSTD_outBuffer to{frame.data(), frame.size(), 0};
        for (std::size_t at = 0; at < part.size(); at += 5000) {  // in pieces, so that the size is not known at the start
            ZSTD_inBuffer from{part.data() + at, 5000, 0};
            ZSTD_compressStream2(c, &to, &from, at + 5000 == part.size() ? ZSTD_e_end : ZSTD_e_flush);
        }
        frame.resize(to.pos);
        append(packed, frame);
        append(in, part);
    }
    ZSTD_freeCCtx(c);
    cut_options o = small(codec::zstd);
    o.max_out = 1 << 20;  // without a content size the bound is 128 KiB a block
    const decoded d = decode_by_cuts(o, packed, 3000);
    ASSERT_TRUE(d.end) << d.end.error().line();
    EXPECT_EQ(d.out, in);
    EXPECT_EQ(d.serial, 0u);
}

TEST(cutter, says_nothing_of_nothing) {
    for (codec c : {codec::zstd, codec::gzip, codec::lz4}) EXPECT_EQ(cutter({.kind = c}).next({}, true).length, 0u);
}

TEST(records, last_end_is_behind_the_separator) {
    EXPECT_EQ(last_record_end(view("ab\ncd\nef"), "\n"), 6u);
    EXPECT_EQ(last_record_end(view("abcdef"), "\n"), 0u);
    EXPECT_EQ(last_record_end(view("\n"), "\n"), 1u);
    EXPECT_EQ(last_record_end({}, "\n"), 0u);
    EXPECT_EQ(last_record_end(view("a--b--c-"), "--"), 6u);
    EXPECT_EQ(last_record_end(view("aaa"), "aa"), 3u);
}

}  // namespace
}  // namespace cohort::stream
