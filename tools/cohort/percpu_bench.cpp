// SPDX-License-Identifier: Apache-2.0
// The room's own figures on this machine, beside what every program has: std::atomic, thread_local, malloc, std::shared_mutex.
#include <cohort/percpu/counter.hpp>
#include <cohort/percpu/rwsem.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/thread.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <shared_mutex>
#include <thread>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    bool json = false;
    std::int64_t rounds = 5;
};

using loop = std::function<void(std::uint64_t n)>;

struct side {
    std::string name;
    loop run;
    std::vector<double> ns = {};
    double median() const {
        std::vector<double> sorted = ns;
        std::sort(sorted.begin(), sorted.end());
        return sorted[sorted.size() / 2];
    }
    double best() const { return *std::min_element(ns.begin(), ns.end()); }
};

struct figure {
    std::string name;
    int threads;
    std::vector<side> sides;  // ours first
};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// The time of n turns on each of the CPUs at once: of the thread that took longest.
double timed(const std::vector<int>& cpus, const loop& run, std::uint64_t n) {
    std::atomic<std::size_t> here{0};
    std::vector<std::thread> others;
    std::vector<double> took(cpus.size());
    const auto arrive = [&] {
        here.fetch_add(1);
        while (here.load() < cpus.size()) sys::yield_thread();
    };
    const auto work = [&](std::size_t i) {
        (void)sys::pin_thread(cpumask{cpus[i]});
        arrive();
        const double began = seconds();
        run(n);
        took[i] = seconds() - began;
    };
    for (std::size_t i = 1; i < cpus.size(); ++i) others.emplace_back(work, i);
    work(0);
    for (auto& t : others) t.join();
    return *std::max_element(took.begin(), took.end());
}

/// Rounds of about 20 ms, all sides in turn.
void measure(figure& f, const std::vector<int>& cpus, std::int64_t rounds) {
    const std::vector<int> used(cpus.begin(), cpus.begin() + f.threads);
    std::vector<std::uint64_t> n;
    for (side& s : f.sides) {
        std::uint64_t tried = 1024;
        // The best of three: a round that was interrupted would make all others too short.
        const auto best = [&] { return std::min({timed(used, s.run, tried), timed(used, s.run, tried), timed(used, s.run, tried)}); };
        double took = best();
        while (took < 0.002 && tried < (std::uint64_t{1} << 32)) {
            tried *= 4;
            took = best();
        }
        n.push_back(std::max<std::uint64_t>(64, static_cast<std::uint64_t>(static_cast<double>(tried) * 0.02 / took)));
    }
    for (std::int64_t r = 0; r < rounds; ++r) {
        for (std::size_t i = 0; i < f.sides.size(); ++i) f.sides[i].ns.push_back(timed(used, f.sides[i].run, n[i]) / static_cast<double>(n[i]) * 1e9);
    }
}

template <class Body>
loop repeat(Body body) {
    return [body](std::uint64_t n) {
        const Body here = body;  // in registers, where it can be
        for (std::uint64_t i = 0; i < n; ++i) here();
    };
}

void keep(const void* p) { asm volatile("" : : "r"(p) : "memory"); }
thread_local std::uint64_t own_word;

struct stats64 {
    std::uint64_t words[8];
};

/// What is measured; made once, lives until the program ends.
struct subjects {
    percpu::ptr<std::uint64_t> word;
    std::unique_ptr<percpu::counter> counter;
    std::unique_ptr<percpu::rwsem> sem;
    std::atomic<std::uint64_t> shared{0};
    std::shared_mutex mutex;
};

result<std::shared_ptr<subjects>> make_subjects() {
    auto s = std::make_shared<subjects>();
    auto word = percpu::make<std::uint64_t>();
    auto counter = percpu::counter::create();
    auto sem = percpu::rwsem::create();
    if (!word) return std::unexpected(word.error());
    if (!counter) return std::unexpected(counter.error());
    if (!sem) return std::unexpected(sem.error());
    s->word = std::move(*word);
    s->counter = std::move(*counter);
    s->sem = std::move(*sem);
    return s;
}

std::vector<figure> figures_for(const std::shared_ptr<subjects>& s, std::size_t cpus) {
    std::vector<figure> all;
    for (const int threads : {1, 2}) {
        if (static_cast<std::size_t>(threads) > cpus) continue;
        const std::string t = "/" + std::to_string(threads) + "t";
        const auto h = s->word.get();
        all.push_back({"add" + t, threads,
                       {{"this_cpu::inc", repeat([h] { this_cpu::inc(h); })},
                        {"std::atomic", repeat([&a = s->shared] { a.fetch_add(1, std::memory_order_relaxed); })},
                        {"thread_local", repeat([] {
                             ++own_word;
                             asm volatile("" : "+m"(own_word));
                         })}}});
        all.push_back({"counter_add" + t, threads,
                       {{"percpu::counter", repeat([&c = *s->counter] { c.inc(); })}, {"std::atomic", repeat([&a = s->shared] { a.fetch_add(1, std::memory_order_relaxed); })}}});
        all.push_back({"alloc_free/64B" + t, threads,
                       {{"percpu::make", repeat([] {
                             const auto p = percpu::make<stats64>();
                             keep(p ? reinterpret_cast<const void*>(p->get().value()) : nullptr);
                         })},
                        {"malloc", repeat([] {
                             void* p = std::malloc(64);
                             keep(p);
                             std::free(p);
                         })}}});
        all.push_back({"rwsem_read" + t, threads,
                       {{"percpu::rwsem", repeat([&l = *s->sem] {
                             l.lock_shared();
                             keep(&l);
                             l.unlock_shared();
                         })},
                        {"std::shared_mutex", repeat([&l = s->mutex] {
                             l.lock_shared();
                             keep(&l);
                             l.unlock_shared();
                         })}}});
    }
    all.push_back({"rwsem_write", 1,
                   {{"percpu::rwsem", repeat([&l = *s->sem] {
                         l.lock();
                         keep(&l);
                         l.unlock();
                     })},
                    {"std::shared_mutex", repeat([&l = s->mutex] {
                         l.lock();
                         keep(&l);
                         l.unlock();
                     })}}});
    all.push_back({"sum", 1, {{"percpu::sum", repeat([h = s->word.get()] {
                                   const std::uint64_t sum = percpu::sum(h);
                                   keep(&sum);
                               })}}});
    return all;
}

std::string number(double v, int digits) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*f", digits, v);
    return text;
}

std::string json_of(const std::vector<figure>& all, const percpu::allocator_stats& memory) {
    std::string out = "{\"schema_version\": 1, \"unit\": \"ns\", \"possible_cpus\": " + std::to_string(memory.possible_cpus) +
                      ", \"present_cpus\": " + std::to_string(memory.present_cpus) + ", \"sequences\": " + (memory.sequences ? "true" : "false") + ", \"figures\": [";
    for (const figure& f : all) {
        const double ours = f.sides[0].median();
        out += (&f == all.data() ? "" : ", ") + ("{\"name\": \"" + f.name) + "\", \"threads\": " + std::to_string(f.threads) + ", \"ours\": " + number(ours, 3) + ", \"best\": " + number(f.sides[0].best(), 3) +
               ", \"peers\": [";
        for (std::size_t i = 1; i < f.sides.size(); ++i) {
            const double peer = f.sides[i].median();
            out += std::string(i > 1 ? ", " : "") + "{\"name\": \"" + f.sides[i].name + "\", \"peer\": " + number(peer, 3) + ", \"best\": " + number(f.sides[i].best(), 3) +
                   ", \"ratio\": " + number(peer / ours, 3) + "}";
        }
        out += "]}";
    }
    return out + "], \"memory\": " + memory.json() + "}\n";
}

std::string text_of(const std::vector<figure>& all, const percpu::allocator_stats& memory) {
    std::string out = std::to_string(memory.possible_cpus) + " possible CPUs, " + std::to_string(memory.present_cpus) + " used; " +
                      (memory.sequences ? "restartable sequences" : "no restartable sequences: atomics") + "; medians, in nanoseconds\n\n";
    char line[200];
    for (const figure& f : all) {
        std::snprintf(line, sizeof line, "%-22s %-16s %8.2f\n", f.name.c_str(), f.sides[0].name.c_str(), f.sides[0].median());
        out += line;
        for (std::size_t i = 1; i < f.sides.size(); ++i) {
            std::snprintf(line, sizeof line, "%-22s %-16s %8.2f   %.2f times ours\n", "", f.sides[i].name.c_str(), f.sides[i].median(), f.sides[i].median() / f.sides[0].median());
            out += line;
        }
    }
    std::snprintf(line, sizeof line, "\nmemory: %llu bytes live in a unit, %llu populated; %llu resident over all units, with the metadata\n",
                  static_cast<unsigned long long>(memory.live_bytes), static_cast<unsigned long long>(memory.populated_bytes), static_cast<unsigned long long>(memory.resident_bytes));
    return out + line;
}

outcome bench(const options& o) {
    const auto usable = sys::thread_affinity();
    if (!usable) return std::unexpected(usable.error());
    std::vector<int> cpus;
    for (const int cpu : *usable) cpus.push_back(cpu);
    auto made = make_subjects();
    if (!made) return std::unexpected(made.error());
    auto all = figures_for(*made, cpus.size());
    for (figure& f : all) measure(f, cpus, o.rounds);
    const auto memory = percpu::default_allocator().stats();
    print(o.json ? json_of(all, memory) : text_of(all, memory));
    return exit_code::ok;
}

}  // namespace

void add_percpu_bench(registry& all) {
    auto o = std::make_shared<options>();
    all.add("percpu bench", "Measure per-CPU operations on this machine")
        .flag("--json", o->json, "print JSON")
        .number("--rounds", o->rounds, 1, 1000, "rounds of each figure, of 20 ms; default: 5")
        .notes("Adding up, allocating and locking, by one thread and by two on two CPUs, beside std::atomic, thread_local, malloc and std::shared_mutex.\n"
               "More peers: make bench.")
        .run([o] { return bench(*o); });
}

}  // namespace cohort::cli
