// SPDX-License-Identifier: Apache-2.0
// libFuzzer: bytes are operations on an area_map and on a plain reference; the two are equal after each, and every hint is true.
//
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/percpu/area_map_fuzz.cpp
//         cohort/percpu/detail/{area_map,area_map_figures,bits}.cpp cohort/base/check.cpp -o build/area_map_fuzz
//     build/area_map_fuzz -max_total_time=60
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <cohort/percpu/testing/area_map_model.hpp>

using namespace cohort::percpu::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    // A window over a few blocks fills sooner than a unit.
    const int start = data[0] * 16, end = data[1] == 0 ? unit_bits : start + 64 + data[1] * 16;
    const auto model = std::make_unique<area_map_model>(start, end);
    const auto fail = [](const std::string& broken) {
        std::fprintf(stderr, "%s\n", broken.c_str());
        std::abort();
    };
    std::size_t steps = 0;
    for (std::size_t i = 2; i + 4 <= size && steps < 200; i += 4, ++steps) {
        const std::uint32_t low = data[i + 1], high = data[i + 2];
        area_op op;
        op.kind = static_cast<area_op::kind_t>(data[i] % 6);
        op.bits = 1 + static_cast<int>((low | high << 8) % 8192);
        op.align = 1 << data[i + 3] % 11;
        op.which = low | high << 8 | static_cast<std::uint32_t>(data[i + 3]) << 16;
        if (const std::string broken = model->perform(op); !broken.empty()) fail(broken);
        if (steps % 8 == 0) {
            if (const std::string broken = model->map.check_invariants(); !broken.empty()) fail(broken);
        }
    }
    if (const std::string broken = model->compare(); !broken.empty()) fail(broken);
    return 0;
}
