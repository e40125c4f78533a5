// SPDX-License-Identifier: Apache-2.0
/// What the per-CPU allocator holds: after most of what was there has gone, at a million objects, and with thousands of possible CPUs.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include <cohort/percpu/stats.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

std::unique_ptr<percpu::allocator> make_allocator() { return must(percpu::allocator::create({.name = "bench"})); }

void write_all_copies(std::uintptr_t value, std::size_t bytes) {
    percpu::for_each_possible_cpu(percpu::handle<std::byte>(value), [&](unsigned, std::byte& copy) { std::memset(&copy, 0xa5, bytes); });
}

/// What an attached queue does while nothing else happens: it looks again until there is no more to give back.
void rest(percpu::allocator& a) {
    std::uint64_t before = ~std::uint64_t{0};
    for (int same = 0, looks = 0; same < 3 && looks < 100; ++looks) {
        a.balance();
        const std::uint64_t held = a.stats().resident_bytes;
        same = held == before ? same + 1 : 0;
        before = held;
    }
}

// ---- Survivors

/// A group's objects: those of a memory cgroup that has one memory node, of about the sizes that Linux 5.13 and later give it: memcg_vmstats_percpu, two copies of the
/// node's counters, the two records of the cgroup's resource statistics, and four reference counts (css, objcg, bdi). 2,896 bytes a CPU; the experiment's
/// machine shows 43 KiB a cgroup, which is that on 15 CPUs.
const std::vector<std::uint16_t> cgroup_objects = {2112, 320, 320, 64, 64, 8, 8};

struct held {
    double units = 0, all = 0;  // share of what was there before: pages of units, which is what the kernel counts; and those of the metadata, too
};

enum class pick { random, every_11th };

/// Makes groups, frees all but one of 11, rests. sizes(): those of the next group's objects.
template <class Sizes>
held survivors(unsigned groups, pick who, std::uint64_t seed, Sizes sizes) {
    std::mt19937_64 random(seed);
    auto a = make_allocator();
    std::vector<std::vector<std::uintptr_t>> made(groups);
    for (auto& group : made) {
        for (const std::size_t size : sizes(random)) {
            group.push_back(must(a->alloc(size)));
            write_all_copies(group.back(), size);
        }
    }
    const auto before = a->stats();
    std::vector<unsigned> order(groups);
    for (unsigned i = 0; i < groups; ++i) order[i] = i;
    if (who == pick::random) std::shuffle(order.begin(), order.end(), random);
    std::vector<std::uintptr_t> kept;
    for (unsigned i = 0; i < groups; ++i) {
        auto& group = made[order[i]];
        if (i % 11 == 0) kept.insert(kept.end(), group.begin(), group.end());
        else for (const std::uintptr_t v : group) a->free(v);
    }
    rest(*a);
    const auto after = a->stats();
    for (const std::uintptr_t v : kept) a->free(v);
    const auto share = [](auto x, auto y) { return static_cast<double>(x) / static_cast<double>(y); };
    return {share(after.unit_resident_bytes, before.unit_resident_bytes), share(after.resident_bytes, before.resident_bytes)};
}

void run_survivors(const settings& s) {
    const std::string bench = "percpu/survivors";
    if (bench.find(s.only) == std::string::npos) return;
    const auto groups = std::max(110u, static_cast<unsigned>(11'000 * s.scale));
    const int rounds = std::min(s.rounds, 3);
    const auto cgroup = [](auto&) { return std::span(cgroup_objects); };
    const auto single = [one = std::vector<std::uint16_t>(1)](auto& random) mutable {
        one[0] = static_cast<std::uint16_t>(4 + random() % 2045);
        return std::span<const std::uint16_t>(one);
    };
    const auto run = [&](const variant& v, unsigned n, auto once) {
        figures resident{bench, "share", n, {}, {}};
        std::vector<double> with_metadata;
        for (int i = 0; i < rounds; ++i) {
            const held h = once(static_cast<std::uint64_t>(i) + 1);
            resident.values.push_back(h.units);
            resident.cpu.push_back(0);
            with_metadata.push_back(h.all);
        }
        print_line(s, v, resident, with_metadata);
    };
    const std::string also = "with metadata";
    run({"cohort, 10 of 11 groups at random", "ours", "", {}, {}, also}, groups, [&](auto seed) { return survivors(groups, pick::random, seed, cgroup); });
    run({"cohort, each 11th group stays", "shown", "cohort, each 11th group stays", {}, {}, also}, groups,
        [&](auto seed) { return survivors(groups, pick::every_11th, seed, cgroup); });
    const auto large = [one = std::vector<std::uint16_t>(1, 8192)](auto&) { return std::span<const std::uint16_t>(one); };
    run({"cohort, groups of 8,192 B at random", "shown", "cohort, groups of 8,192 B", {}, {}, also}, groups, [&](auto seed) { return survivors(groups / 4, pick::random, seed, large); });
    run({"cohort, objects of 4 .. 2048 B at random", "shown", "cohort, objects of 4 .. 2048 B", {}, {}, also}, groups * 3,
        [&](auto seed) { return survivors(groups * 3, pick::random, seed, single); });
    // 135,552 kB of 481,408 kB, /proc/meminfo's Percpu. Gushchin, "percpu: partial chunk depopulation", April 2021.
    print_line(s, {"kernel, published", "peer", "kernel", {}, "published", also}, {bench, "share", 11'000, {0.28}, {0}}, {0.28});
    std::fflush(stdout);
}

// ---- A million objects

enum class order { forward, alternating, backward };

/// Times of making n objects and of freeing them, and live over populated bytes in between.
struct million {
    double alloc_ns = 0, free_ns = 0, utilisation = 0;
};

million objects(std::uint32_t n, std::size_t size, std::size_t align, order how) {
    auto a = make_allocator();
    std::vector<std::uintptr_t> made(n);
    const double began = seconds_now();
    for (auto& value : made) value = must(a->alloc(size, align));
    const double between = seconds_now();
    const auto stats = a->stats();
    const double again = seconds_now();
    switch (how) {
        case order::forward:
            for (std::uint32_t i = 0; i < n; ++i) a->free(made[i]);
            break;
        case order::alternating:
            for (std::uint32_t i = 0; i < n; i += 2) a->free(made[i]);
            for (std::uint32_t i = 1; i < n; i += 2) a->free(made[i]);
            break;
        case order::backward:
            for (std::uint32_t i = n; i-- > 0;) a->free(made[i]);
            break;
    }
    const double ended = seconds_now();
    return {(between - began) / n * 1e9, (ended - again) / n * 1e9, static_cast<double>(stats.live_bytes) / static_cast<double>(stats.populated_bytes)};
}

void run_objects(const settings& s) {
    struct shape {
        const char* name;
        std::size_t size, align;
    };
    const auto n = std::max<std::uint32_t>(1024, static_cast<std::uint32_t>((1u << 20) * s.scale));
    for (const shape& w : {shape{"4B", 4, 4}, {"4B_align8", 4, 8}, {"16B", 16, 8}, {"64B", 64, 8}, {"256B", 256, 8}, {"1024B", 1024, 8}}) {
        const std::string bench = std::string("percpu/million/") + w.name;
        if (bench.find(s.only) == std::string::npos) continue;
        for (const auto& [name, how] : {std::pair{"forward", order::forward}, {"alternating", order::alternating}, {"backward", order::backward}}) {
            figures f{bench, "ns", n, {}, {}};
            std::vector<double> utilisation;
            for (int i = 0; i < std::min(s.rounds, 3); ++i) {
                const million m = objects(n, w.size, w.align, how);
                f.values.push_back(m.alloc_ns + m.free_ns);
                f.cpu.push_back(m.free_ns);
                utilisation.push_back(m.utilisation);
            }
            const std::string title = std::string("cohort, freed ") + name;
            const bool first = how == order::forward;
            print_line(s, {title, first ? "ours" : "shown", first ? "" : title, {}, "CPU: of the free", "live/populated"}, f, utilisation);
        }
        std::fflush(stdout);
    }
}

// ---- Possible CPUs

constexpr std::uint32_t cpus_objects = 20'000;

/// The child's part: this process was started with COHORT_POSSIBLE_CPUS. Objects are used on this CPU alone.
struct cpus_figures {
    double alloc_free_ns = 0;
    double resident_bytes = 0;
};

cpus_figures cost_here(double scale) {
    const auto n = std::max<std::uint32_t>(64, static_cast<std::uint32_t>(cpus_objects * scale)), pairs = n * 50;
    auto& a = percpu::default_allocator();
    std::vector<std::uintptr_t> made(n);
    for (auto& value : made) {
        value = must(a.alloc(64));
        this_cpu::inc(percpu::handle<std::uint64_t>(value));
    }
    cpus_figures f;
    f.resident_bytes = static_cast<double>(a.stats().resident_bytes);
    const double began = seconds_now();
    for (std::uint32_t i = 0; i < pairs; ++i) {
        const std::uintptr_t value = must(a.alloc(64));
        this_cpu::inc(percpu::handle<std::uint64_t>(value));
        a.free(value);
    }
    f.alloc_free_ns = (seconds_now() - began) / pairs * 1e9;
    for (const std::uintptr_t value : made) a.free(value);
    return f;
}

cpus_figures cost_with(unsigned possible, double scale) {
    int ends[2];
    if (pipe(ends) != 0) std::exit(5);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        setenv("COHORT_POSSIBLE_CPUS", std::to_string(possible).c_str(), 1);
        execl("/proc/self/exe", "cohort_bench", "--possible-cpus-child", std::to_string(scale).c_str(), nullptr);
        _exit(5);
    }
    close(ends[1]);
    char text[128] = {};
    std::size_t got = 0;
    for (ssize_t r; got < sizeof text - 1 && (r = read(ends[0], text + got, sizeof text - 1 - got)) > 0;) got += static_cast<std::size_t>(r);
    close(ends[0]);
    int status = 0;
    cpus_figures f;
    if (waitpid(child, &status, 0) != child || status != 0 || std::sscanf(text, "%lf %lf", &f.alloc_free_ns, &f.resident_bytes) != 2) {
        std::fprintf(stderr, "bench: percpu/possible_cpus: the process with %u possible CPUs failed\n", possible);
        std::exit(5);
    }
    return f;
}

void run_possible_cpus(const settings& s) {
    const std::string bench = "percpu/possible_cpus";
    if (bench.find(s.only) == std::string::npos) return;
    pin_to(s.cpus[0]);
    for (const unsigned possible : {2u, 16u, 64u, 256u, 1024u, 4096u}) {
        figures f{bench, "ns", cpus_objects * 50, {}, {}};
        std::vector<double> kib;
        for (int i = 0; i < std::min(s.rounds, 3); ++i) {
            const cpus_figures c = cost_with(possible, s.scale);
            f.values.push_back(c.alloc_free_ns);
            f.cpu.push_back(c.alloc_free_ns);
            kib.push_back(c.resident_bytes / 1024);
        }
        const std::string title = "cohort, " + std::to_string(possible) + " possible CPUs";
        print_line(s, {title, possible == 2 ? "ours" : "shown", possible == 2 ? "" : title, {}, {}, "resident KiB"}, f, kib);
        std::fflush(stdout);
    }
}

}  // namespace

int possible_cpus_child(double scale) {
    const cpus_figures f = cost_here(scale);
    std::printf("%.6g %.0f\n", f.alloc_free_ns, f.resident_bytes);
    return 0;
}

void run_percpu_memory(const settings& s) {
    run_survivors(s);
    run_objects(s);
    run_possible_cpus(s);
}

}  // namespace cohort::bench
