// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes, in any arrival, decode by cuts as they do by streaming alone: the same verdict, and for good input the same content.
//
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/stream/{frames_fuzz,frames,frames_gzip,block}.cpp
//         cohort/stream/codec{,_zstd,_gzip,_lz4}.cpp cohort/sys/memory.cpp cohort/base/error.cpp -lzstd -ldeflate -llz4 -lz -o build/frames_fuzz
//     build/frames_fuzz -max_total_time=60
#include <cstdio>
#include <cstdlib>

#include <cohort/stream/testing/samples.hpp>

using namespace cohort::stream;
using namespace cohort::stream::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const auto kind = static_cast<codec>(data[0] % 3);
    const std::size_t arrives = 1 + data[1] * 16u;
    // The rest, behind frames of our own where the first byte says so: damage deep inside a stream is reached sooner.
    bytes in;
    if (data[0] & 4) in = frames_of(kind, text(3000), 700);
    const std::size_t good = in.size();
    in.insert(in.end(), data + 2, data + size);
    if (data[0] & 8 && good) in[size % good] ^= data[1];
    constexpr std::size_t most = 1 << 22;
    const cut_options o{.kind = kind, .target_in = 1024, .target_out = 4096, .max_in = 8192, .max_out = 1 << 20};
    const decoded by_stream = decode_by_stream(kind, in, most), by_cuts = decode_by_cuts(o, in, arrives, most);
    const bool same = by_stream.end.has_value() == by_cuts.end.has_value() && (!by_stream.end || by_stream.out == by_cuts.out) &&
                      (by_stream.end || by_stream.end.error().code == by_cuts.end.error().code);
    if (!same) {
        std::fprintf(stderr, "stream: %s\ncuts: %s\n", by_stream.end ? "good" : by_stream.end.error().line().c_str(),
                     by_cuts.end ? "good" : by_cuts.end.error().line().c_str());
        std::abort();
    }
    return 0;
}
