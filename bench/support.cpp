// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

namespace cohort::bench {
namespace {

double now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double cpu_now() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// Waits until no thread of this process runs any more: a peer's idle threads may spin for milliseconds after its run.
void settle() {
    // Longer than a timer tick: the kernel brings the clock of a thread that runs elsewhere up to date only then.
    const timespec pause{0, 6'000'000};
    for (int i = 0, quiet = 0; i < 50 && quiet < 2; ++i) {
        const double cpu = cpu_now();
        nanosleep(&pause, nullptr);
        quiet = cpu_now() - cpu < 200e-6 ? quiet + 1 : 0;
    }
}

void print_times(const char* key, const std::vector<double>& times) {
    std::printf(", \"%s\": [", key);
    for (std::size_t i = 0; i < times.size(); ++i) std::printf("%s%.6g", i ? ", " : "", times[i]);
    std::printf("]");
}

}  // namespace

void sink::fail(std::uint32_t seq) const {
    std::fprintf(stderr, "bench: WRONG ORDER: item %u came where item %u was due\n", seq, next_);
    std::exit(1);
}

void give_up(const error& e) {
    std::fprintf(stderr, "bench: %s\n", e.line().c_str());
    std::exit(5);
}

double seconds_now() { return now(); }
double cpu_seconds_now() { return cpu_now(); }

std::vector<int> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cpus;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int c = 0; c < CPU_SETSIZE; ++c)
            if (CPU_ISSET(c, &set)) cpus.push_back(c);
    return cpus;
}

void pin_to(const std::vector<int>& cpus) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int c : cpus) CPU_SET(c, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        std::perror("bench: sched_setaffinity");
        std::exit(5);
    }
}

unsigned calibrate() {
    constexpr unsigned steps = 200'000;
    double best = 1;
    for (int i = 0; i < 50; ++i) {
        const double began = now();
        volatile auto sunk = chain(static_cast<std::uint32_t>(i), steps);
        (void)sunk;
        best = std::min(best, now() - began);
    }
    return static_cast<unsigned>(steps / (best * 1e6));
}

std::uint64_t expected(const load& l, std::uint32_t n) {
    sink s;
    for (std::uint32_t i = 0; i < n; ++i) s.take(i, l.result(i));
    return s.sum();
}

void check(const sink& s, const load& l, std::uint32_t n, const std::string& who) {
    static std::map<std::pair<std::uint64_t, std::uint32_t>, std::uint64_t> known;
    const auto key = std::pair{(std::uint64_t{l.steps} << 32) | l.rare_steps, n};
    auto found = known.find(key);
    if (found == known.end()) found = known.emplace(key, expected(l, n)).first;
    if (s.taken() == n && s.sum() == found->second) return;
    std::fprintf(stderr, "bench: %s: WRONG RESULT: %u of %u items, sum %llx\n", who.c_str(), s.taken(), n, static_cast<unsigned long long>(s.sum()));
    std::exit(1);
}

namespace {

/// Rounds of variants, each with its own n.
void measure_each(const settings& s, const std::string& bench, const std::string& unit, double scale_to, const std::vector<std::uint32_t>& n, std::vector<variant>& variants) {
    std::vector<std::vector<double>> wall(variants.size()), cpu(variants.size()), also(variants.size());
    for (int round = 0; round < s.rounds; ++round) {
        std::fprintf(stderr, "\r%-32s round %d of %d ", bench.c_str(), round + 1, s.rounds);
        for (std::size_t k = 0; k < variants.size(); ++k) {
            const std::size_t i = (k + static_cast<std::size_t>(round)) % variants.size();
            settle();
            variants[i].run(std::max<std::uint32_t>(64, n[i] / 50));
            const double cpu_began = cpu_now(), began = now();
            variants[i].run(n[i]);
            const double took = now() - began, cpu_took = cpu_now() - cpu_began;
            wall[i].push_back(took / n[i] * scale_to);
            cpu[i].push_back(cpu_took / n[i] * scale_to);
            if (variants[i].also) also[i].push_back(variants[i].also());
        }
    }
    std::fprintf(stderr, "\r%60s\r", "");
    for (std::size_t i = 0; i < variants.size(); ++i) print_line(s, variants[i], {bench, unit, n[i], wall[i], cpu[i]}, also[i]);
    std::fflush(stdout);
}

}  // namespace

void print_line(const settings& s, const variant& v, const figures& f, const std::vector<double>& also) {
    std::printf("{\"bench\": \"%s\", \"variant\": \"%s\", \"side\": \"%s\", \"peer_name\": \"%s\", \"unit\": \"%s\", \"units\": %u, \"cpus\": %zu", f.bench.c_str(),
                v.name.c_str(), v.side.c_str(), v.peer_name.c_str(), f.unit.c_str(), f.units, s.cpus.size());
    if (!v.note.empty()) std::printf(", \"note\": \"%s\"", v.note.c_str());
    print_times("wall", f.values);
    print_times("cpu", f.cpu);
    if (!v.also_name.empty()) {
        std::printf(", \"also_name\": \"%s\"", v.also_name.c_str());
        print_times("also", also);
    }
    std::printf("}\n");
}

void measure(const settings& s, const std::string& bench, const std::string& unit, double scale_to, std::uint32_t n, std::vector<variant> variants) {
    if (bench.find(s.only) == std::string::npos) return;
    n = std::max<std::uint32_t>(64, static_cast<std::uint32_t>(n * s.scale));
    pin_to(s.cpus[0]);
    for (auto& v : variants) v.run(std::max<std::uint32_t>(64, n / 10));
    measure_each(s, bench, unit, scale_to, std::vector<std::uint32_t>(variants.size(), n), variants);
}

void measure_loops(const settings& s, const std::string& bench, const std::string& unit, double scale_to, double seconds, std::vector<variant> variants) {
    if (bench.find(s.only) == std::string::npos) return;
    seconds *= s.scale;
    pin_to(s.cpus[0]);
    std::vector<std::uint32_t> n;
    for (auto& v : variants) {
        std::uint32_t tried = 1024;
        for (;;) {
            const double began = now();
            v.run(tried);
            const double took = now() - began;
            if (took > seconds / 4 || tried >= 1u << 30) {
                n.push_back(static_cast<std::uint32_t>(std::clamp(tried * seconds / took, 1024.0, 4e9)));
                break;
            }
            tried *= 4;
        }
    }
    measure_each(s, bench, unit, scale_to, n, variants);
}

}  // namespace cohort::bench
