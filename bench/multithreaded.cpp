// SPDX-License-Identifier: Apache-2.0
/// padata's multithreaded jobs beside OpenMP's dynamic loop: chunks with an empty body, and the launch alone.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include <omp.h>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/multithreaded.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

constexpr std::size_t chunk = 10'000;

/// What one chunk does: nothing that could be left out.
void empty_body(std::size_t begin, std::size_t end) { asm volatile("" : : "r"(begin), "r"(end)); }

[[noreturn]] void wrong(const char* who) {
    std::fprintf(stderr, "bench: %s: WRONG RESULT: a chunk was run not at all, or twice\n", who);
    std::exit(1);
}

void own_job(padata::instance& inst, std::size_t chunks, std::vector<std::atomic<int>>* seen) {
    padata::mt_job job{.run =
                           [seen](std::size_t b, std::size_t e) {
                               empty_body(b, e);
                               if (seen)
                                   for (std::size_t u = b; u < e; u += chunk) (*seen)[u / chunk].fetch_add(1, std::memory_order_relaxed);
                               return 0;
                           },
                       .size = chunks * chunk,
                       .align = chunk,
                       .min_chunk = chunk,
                       .max_chunk = chunk};
    must(padata::do_multithreaded(inst, job));
}

void openmp_job(std::size_t chunks, std::vector<std::atomic<int>>* seen) {
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t c = 0; c < chunks; ++c) {
        empty_body(c * chunk, (c + 1) * chunk);
        if (seen) (*seen)[c].fetch_add(1, std::memory_order_relaxed);
    }
}

template <class Job>
void verify(const char* who, std::size_t chunks, Job job) {
    std::vector<std::atomic<int>> seen(chunks);
    job(&seen);
    for (auto& s : seen)
        if (s.load() != 1) wrong(who);
}

void run_size(const settings& s, const std::string& name, std::size_t chunks, std::uint32_t jobs) {
    if (name.find(s.only) == std::string::npos) return;
    pin_to(s.cpus);  // the threads below inherit it
    cpumask mask;
    for (const int c : s.cpus) mask.set(c);
    const std::shared_ptr<padata::instance> inst = must(padata::instance::create({.name = "bench", .parallel = mask}));
    openmp_variants(s, {});  // makes and pins OpenMP's team
    verify("cohort", chunks, [&](auto* seen) { own_job(*inst, chunks, seen); });
    verify("OpenMP", chunks, [&](auto* seen) { openmp_job(chunks, seen); });
    measure(s, name, "us", 1e6, jobs,
            {{"cohort", "ours", "",
              [=](std::uint32_t n) {
                  for (std::uint32_t i = 0; i < n; ++i) own_job(*inst, chunks, nullptr);
              }},
             {"OpenMP dynamic,1", "peer", "OpenMP dynamic",
              [=](std::uint32_t n) {
                  for (std::uint32_t i = 0; i < n; ++i) openmp_job(chunks, nullptr);
              }},
             {"one thread", "single", "one thread", [=](std::uint32_t n) {
                  for (std::uint32_t i = 0; i < n; ++i)
                      for (std::size_t c = 0; c < chunks; ++c) empty_body(c * chunk, (c + 1) * chunk);
              }}});
}

}  // namespace

void run_multithreaded(const settings& s) {
    run_size(s, "padata/multithreaded/chunk", 1000, 5'000);
    run_size(s, "padata/multithreaded/launch", 2, 50'000);
}

}  // namespace cohort::bench
