// SPDX-License-Identifier: Apache-2.0
/// A service that is asked at a fixed rate, whether it is ready or not, and says how long its answers took: what a tenant notices of its neighbours.
///
///     serve [--seconds 5] [--rate 500] [--work-us 200]
///
/// A request is a chain of multiplications of so many microseconds of an idle CPU. Its time counts from when it was due, so that a late start is seen (no "coordinated omission").
/// Prints one line of JSON: {"requests", "seconds", "per_second", "p50_seconds", "p99_seconds", "max_seconds"}.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <cohort/base/histogram.hpp>

namespace {

using clock_type = std::chrono::steady_clock;
using std::chrono::duration;

void work(std::uint64_t steps) {
    std::uint64_t x = steps | 1u;
    for (std::uint64_t i = 0; i < steps; ++i) {
        x *= 6364136223846793005u;
        asm volatile("" : "+r"(x));
    }
}

/// Steps in a microsecond, the most of some tries: others may be running.
double steps_per_us() {
    double most = 0;
    for (int i = 0; i < 20; ++i) {
        const auto begin = clock_type::now();
        work(1'000'000);
        most = std::max(most, 1'000'000 / duration<double, std::micro>(clock_type::now() - begin).count());
    }
    return most;
}

int usage() { return std::fprintf(stderr, "usage: serve [--seconds N] [--rate REQUESTS_A_SECOND] [--work-us N]\n"), 2; }

}  // namespace

int main(int argc, char** argv) {
    double seconds = 5, rate = 500, work_us = 200;
    for (int i = 1; i < argc; i += 2) {
        double* to = !std::strcmp(argv[i], "--seconds") ? &seconds : !std::strcmp(argv[i], "--rate") ? &rate : !std::strcmp(argv[i], "--work-us") ? &work_us : nullptr;
        char* end = nullptr;
        if (!to || i + 1 == argc) return usage();
        *to = std::strtod(argv[i + 1], &end);
        if (*end != 0 || !(*to > 0)) return usage();
    }
    const auto steps = static_cast<std::uint64_t>(work_us * steps_per_us());
    const auto requests = static_cast<std::uint64_t>(seconds * rate);
    cohort::histogram times;
    const auto begin = clock_type::now();
    for (std::uint64_t i = 0; i < requests; ++i) {
        const auto due = begin + std::chrono::duration_cast<clock_type::duration>(duration<double>(static_cast<double>(i) / rate));
        std::this_thread::sleep_until(due);
        work(steps);
        times.add(static_cast<std::uint64_t>(std::chrono::nanoseconds(clock_type::now() - due).count()));
    }
    const double took = duration<double>(clock_type::now() - begin).count();
    const auto at = [&](double percent) { return static_cast<double>(times.percentile(percent)) / 1e9; };
    std::printf("{\"requests\": %llu, \"seconds\": %.3f, \"per_second\": %.1f, \"p50_seconds\": %.6f, \"p99_seconds\": %.6f, \"max_seconds\": %.6f}\n", static_cast<unsigned long long>(requests), took,
                static_cast<double>(requests) / took, at(50), at(99), at(100));
}
