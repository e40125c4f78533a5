// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes are a snapshot or a fault that is told; a snapshot that reads comes to the same text, and a model takes or refuses it.
//
//     cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOHORT_SANITIZE=address,undefined,fuzzer-no-link
//     ninja -C build-fuzz libcohort.a libcohort_group.a
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/group/cpuset_snapshot_fuzz.cpp build-fuzz/libcohort_group.a build-fuzz/libcohort.a \
//         -lhwloc -lfmt -o build-fuzz/cpuset_snapshot_fuzz
//     build-fuzz/cpuset_snapshot_fuzz -max_total_time=60
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <cohort/group/cpuset_snapshot.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto s = cohort::group::read_cpuset_snapshot("input", {reinterpret_cast<const char*>(data), size});
    if (!s) return 0;
    const std::string text = cohort::group::cpuset_snapshot_json(*s);
    const auto again = cohort::group::read_cpuset_snapshot("again", text);
    if (!again || cohort::group::cpuset_snapshot_json(*again) != text) {
        std::fprintf(stderr, "the text does not read back:\n%s", text.c_str());
        std::abort();
    }
    auto l = cohort::cpuset::load(*s);
    if (l && !l->model.broken().empty()) {
        std::fprintf(stderr, "%s, in:\n%s", l->model.broken().c_str(), text.c_str());
        std::abort();
    }
    return 0;
}
