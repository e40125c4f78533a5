// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>

#include <cohort/base/testing/fuzz.hpp>
#include <cohort/percpu/testing/allocator_ops.hpp>

/// Bytes are operations on an allocator and on a plain reference; the two are equal after each.
FUZZ(text) {
    using namespace cohort::percpu;
    if (text.empty()) return;
    const auto* data = reinterpret_cast<const std::uint8_t*>(text.data());
    allocator_options options{.name = "fuzz"};
    options.magazines = data[0] & 1;
    options.index = data[0] & 2 ? by::cid : by::cpu;
    options.reserved_bytes = data[0] & 4 ? 256 : 8 << 10;
    testing::allocator_model model(options, 48);
    for (std::size_t i = 1, steps = 0; i + 6 <= text.size() && steps < 200; i += 6, ++steps) {
        const std::string broken = model.perform(testing::decode(data + i));
        if (!broken.empty()) std::fprintf(stderr, "step %zu: %s\n", steps, broken.c_str());
        CLAIM(broken.empty());
    }
}
