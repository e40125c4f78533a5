// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes are a message or EPROTO; a message that reads is written as the same bytes, and its rows, trace and error can be looked at.
//
//     cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOHORT_SANITIZE=address,undefined,fuzzer-no-link
//     ninja -C build-fuzz libcohort.a libcohort_sharepool.a
//     clang++-19 -std=c++23 -g -O1 -fsanitize=fuzzer,address,undefined -I. cohort/sharepool/broker/wire_fuzz.cpp build-fuzz/libcohort_sharepool.a build-fuzz/libcohort.a \
//         -lhwloc -o build-fuzz/wire_fuzz
//     build-fuzz/wire_fuzz -max_len=16500 -max_total_time=60
#include <cstdint>
#include <cstdlib>
#include <span>

#include <cohort/sharepool/broker/wire.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    namespace wire = cohort::sharepool::wire;
    const auto p = wire::decode(std::as_bytes(std::span(data, size)));
    if (!p) {
        if (p.error().code != EPROTO) std::abort();
        return 0;
    }
    (void)wire::trace_of(*p);
    (void)wire::rows_of<wire::group_row>(*p);
    (void)wire::error_of(*p);
    // What does not fit is cut; everything else comes back.
    const auto again = wire::decode(wire::encode(*p));
    if (!again || (p->rows.size() <= wire::most_row_bytes && *again != *p)) std::abort();
    return 0;
}
