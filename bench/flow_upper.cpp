// SPDX-License-Identifier: Apache-2.0
/// What each record of bench/flow.cpp goes through, as a flow's plugin and as a function of its peers: small letters become capitals, in place.
#include <cohort/stream/flow_function.h>

extern "C" void cohort_bench_upper(char* text, size_t length) {
    for (size_t i = 0; i < length; ++i) text[i] = text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 32) : text[i];
}

extern "C" int cohort_flow(void* record, size_t length, cohort_flow_emit emit, void* to) {
    cohort_bench_upper(static_cast<char*>(record), length);
    return emit(to, record, length);
}
