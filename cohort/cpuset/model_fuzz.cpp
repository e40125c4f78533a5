// SPDX-License-Identifier: Apache-2.0
// libFuzzer: bytes choose the operations, as the model test's random numbers do; the invariants hold after each. Texts of operations read back as themselves.
//
//     cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOHORT_SANITIZE=address,undefined,fuzzer-no-link
//     ninja -C build-fuzz libcohort.a
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/cpuset/model_fuzz.cpp build-fuzz/libcohort.a -lhwloc -o build-fuzz/cpuset_fuzz
//     build-fuzz/cpuset_fuzz -max_len=1200 -max_total_time=60
#include <cstdio>
#include <cstdlib>

#include <cohort/cpuset/testing/random_ops.hpp>

using namespace cohort::cpuset;

namespace {

[[noreturn]] void end(const std::string& what, const std::string& done) {
    std::fprintf(stderr, "%s, after:\n%s", what.c_str(), done.c_str());
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    (void)parse_operation({reinterpret_cast<const char*>(data), size});
    static const auto machine = cohort::machine::load("synthetic:pack:2 numa:1 core:2 pu:2", cohort::sys::real()).value();
    const bool v1 = data[0] & 4;
    model m(machine, {.profile = v1 ? kernel::v6_12 : static_cast<kernel>((data[0] & 3) % 3), .v1 = v1});
    std::size_t at = 1;
    testing::random_ops next([&](unsigned n) { return at < size ? data[at++] % n : 0; }, {.v1 = v1});
    std::string done;
    while (at < size) {
        const operation op = next(m);
        const std::string line = to_line(op);
        done += line + "\n";
        const auto again = parse_operation(line);
        if (!again || to_line(*again) != line) end("the line does not read back", done);
        (void)m.perform(op);
        if (const std::string broken = m.broken(); !broken.empty()) end(broken, done);
    }
    return 0;
}
