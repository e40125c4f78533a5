// SPDX-License-Identifier: Apache-2.0
/// percpu/add: one number that is counted up, by one thread and by two on two CPUs, beside what programs use instead. Every run's sum is checked.
#include <sched.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <tbb/combinable.h>
#include <tbb/enumerable_thread_specific.h>

#include <cohort/percpu/allocator.hpp>

#include "team.hpp"

namespace cohort::bench {
namespace {

struct alignas(64) line {
    std::atomic<std::uint64_t> value{0};
};

thread_local std::uint64_t own_word;  // the limit: an addition in memory, which nobody else can sum up

/// All ways to count, each with its total.
struct counters {
    percpu::ptr<std::uint64_t> by_cpu = percpu::make<std::uint64_t>().value();
    percpu::ptr<std::uint64_t, percpu::by::cid> by_cid = percpu::make<std::uint64_t, percpu::by::cid>().value();
    line shared;
    std::vector<line> lines = std::vector<line>(percpu::possible_cpus());
    std::atomic<std::uint64_t> thread_total{0};
    tbb::enumerable_thread_specific<std::uint64_t> specific{0};
    tbb::combinable<std::uint64_t> combinable{[] { return std::uint64_t{0}; }};
};

void add_here(counters& c, std::uint32_t n) {
    const auto h = c.by_cpu.get();
    for (std::uint32_t i = 0; i < n; ++i) this_cpu::inc(h);
}
void add_by_cid(counters& c, std::uint32_t n) {
    const auto h = c.by_cid.get();
    for (std::uint32_t i = 0; i < n; ++i) this_cpu::inc(h);
}
void add_shared(counters& c, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) c.shared.value.fetch_add(1, std::memory_order_relaxed);
}
void add_thread_local(counters& c, std::uint32_t n) {
    own_word = 0;
    for (std::uint32_t i = 0; i < n; ++i) {
        ++own_word;
        asm volatile("" : "+m"(own_word));  // each addition is done, in memory
    }
    c.thread_total += own_word;
}
void add_line(counters& c, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) c.lines[static_cast<std::size_t>(sched_getcpu())].value.fetch_add(1, std::memory_order_relaxed);
}
void add_specific(counters& c, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) ++c.specific.local();
}
void add_combinable(counters& c, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) ++c.combinable.local();
}

struct way {
    const char *name, *side, *peer_name, *note;
    void (*add)(counters&, std::uint32_t);
    std::uint64_t (*total)(counters&);
};
const way ways[] = {
    {"cohort, this_cpu::inc", "ours", "", "", add_here, [](counters& c) { return percpu::sum(c.by_cpu.get()); }},
    {"std::atomic, shared", "peer", "std::atomic", "shared", add_shared, [](counters& c) { return c.shared.value.load(); }},
    {"tbb::enumerable_thread_specific", "peer", "tbb::enumerable_thread_specific", "", add_specific,
     [](counters& c) { return c.specific.combine([](std::uint64_t a, std::uint64_t b) { return a + b; }); }},
    {"thread_local, plain", "peer", "thread_local", "plain add, the limit", add_thread_local, [](counters& c) { return c.thread_total.load(); }},
    {"cohort, by cid", "shown", "cohort, by cid", "", add_by_cid, [](counters& c) { return percpu::sum(c.by_cid.get()); }},
    {"std::atomic per CPU, sched_getcpu", "shown", "std::atomic per CPU, sched_getcpu", "", add_line,
     [](counters& c) {
         std::uint64_t all = 0;
         for (auto& l : c.lines) all += l.value.load();
         return all;
     }},
    {"tbb::combinable", "shown", "tbb::combinable", "", add_combinable,
     [](counters& c) { return c.combinable.combine([](std::uint64_t a, std::uint64_t b) { return a + b; }); }},
};

void check_sum(const way& w, std::uint64_t got, std::uint64_t wanted) {
    if (got == wanted) return;
    std::fprintf(stderr, "bench: percpu/add: %s: WRONG SUM: %llu, not %llu\n", w.name, static_cast<unsigned long long>(got), static_cast<unsigned long long>(wanted));
    std::exit(1);
}

void run_threads(const settings& s, int threads, const std::shared_ptr<team>& both) {
    const std::string bench = "percpu/add/" + std::to_string(threads) + "t";
    const auto c = std::make_shared<counters>();
    std::vector<variant> all;
    for (const way& w : ways) {
        const auto run = [=, &w](std::uint32_t n) {
            const std::uint64_t before = w.total(*c);
            if (threads == 1) w.add(*c, n);
            else both->run([&](int) { w.add(*c, n); });
            check_sum(w, w.total(*c) - before, std::uint64_t{n} * static_cast<unsigned>(threads));
        };
        all.push_back({w.name, w.side, w.peer_name, run, w.note});
    }
    measure_loops(s, bench, "ns", 1e9, 0.06, std::move(all));
}

}  // namespace

void run_percpu_add(const settings& s) {
    if (std::string("percpu/add/1t percpu/add/2t").find(s.only) == std::string::npos) return;
    const auto both = std::make_shared<team>(s);
    for (const int threads : {1, 2}) run_threads(s, threads, both);
}

}  // namespace cohort::bench
