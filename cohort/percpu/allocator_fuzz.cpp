// SPDX-License-Identifier: Apache-2.0
// libFuzzer: bytes are operations on an allocator and on a plain reference; the two are equal after each.
//
//     cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOHORT_SANITIZE=address,undefined,fuzzer-no-link
//     ninja -C build-fuzz libcohort.a
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/percpu/allocator_fuzz.cpp build-fuzz/libcohort.a -lhwloc -o build-fuzz/allocator_fuzz
//     build-fuzz/allocator_fuzz -max_len=1200 -max_total_time=60
#include <cstdio>
#include <cstdlib>

#include <cohort/percpu/testing/allocator_ops.hpp>

using namespace cohort::percpu;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    allocator_options options{.name = "fuzz"};
    options.magazines = data[0] & 1;
    options.index = data[0] & 2 ? by::cid : by::cpu;
    options.reserved_bytes = data[0] & 4 ? 256 : 8 << 10;
    testing::allocator_model model(options, 48);
    for (std::size_t i = 1, steps = 0; i + 6 <= size && steps < 200; i += 6, ++steps) {
        if (const std::string broken = model.perform(testing::decode(data + i)); !broken.empty()) {
            std::fprintf(stderr, "step %zu: %s\n", steps, broken.c_str());
            std::abort();
        }
    }
    return 0;
}
