// SPDX-License-Identifier: Apache-2.0
/// padata's streams among themselves: ten thousand beside one, masks that change beside masks that stand, and machines of many CPUs that are not there.
#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/shell.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

std::size_t heap_bytes() {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/// What one stream has delivered.
struct flow {
    std::uint32_t entered = 0, delivered = 0;
};

/// A packet: taken from a pool, given back by serial().
struct alignas(64) packet : padata::job {
    const load* l = nullptr;
    flow* of = nullptr;
    std::atomic<bool> busy{false};  // [atomic: the submitter sets, serial() clears]
    std::uint32_t number = 0;

    void parallel() override {
        volatile auto sunk = l->result(number);
        (void)sunk;
        padata::do_serial(*this);
    }
    void serial() override {
        if (of->delivered++ != number) {
            std::fprintf(stderr, "bench: WRONG ORDER: packet %u of a flow came as its %uth\n", number, of->delivered);
            std::exit(1);
        }
        busy.store(false, std::memory_order_release);
    }
};

/// `count` streams, and packets of which at most `pool` are under way.
class switchboard {
public:
    switchboard(const settings& s, std::uint32_t count, std::uint32_t pool)
        : pool_(pool), packets_(std::make_unique<packet[]>(pool)), flows_(count) {
        cpumask mask;
        for (const int c : s.cpus) mask.set(c);
        inst_ = must(padata::instance::create({.name = "bench", .parallel = mask, .serial = mask}));
        shells_.reserve(count);
        const std::size_t before = heap_bytes();
        for (std::uint32_t i = 0; i < count; ++i) shells_.push_back(must(padata::shell::create(*inst_)));
        at_rest_ = heap_bytes() - before;
        before_ = before;
        // Zipf's law with exponent 1: the stream of rank r gets traffic as 1 / r.
        std::vector<double> sums(count);
        double sum = 0;
        for (std::uint32_t i = 0; i < count; ++i) sums[i] = sum += 1.0 / (i + 1);
        std::mt19937 random(42);
        std::uniform_real_distribution<double> at(0, sum);
        traffic_.resize(1 << 16);
        for (auto& t : traffic_) t = static_cast<std::uint16_t>(std::min<std::ptrdiff_t>(std::lower_bound(sums.begin(), sums.end(), at(random)) - sums.begin(), count - 1));
        std::shuffle(shells_.begin(), shells_.end(), random);
    }

    void run(const load& l, std::uint32_t n, bool look_at_memory = false) {
        for (std::uint32_t i = 0; i < n; ++i) {
            const std::uint16_t to = traffic_[i % traffic_.size()];
            packet& p = take();
            p.l = &l;
            p.of = &flows_[to];
            p.number = flows_[to].entered++;
            must(shells_[to].do_parallel(p));
            if (look_at_memory && i % 1024 == 0) most_ = std::max(most_, heap_bytes() - before_);
        }
        for (auto& s : shells_) must(s.drain());
        for (const flow& f : flows_) {
            if (f.delivered == f.entered) continue;
            std::fprintf(stderr, "bench: WRONG RESULT: %u of %u packets of a flow\n", f.delivered, f.entered);
            std::exit(1);
        }
    }
    double at_rest() const { return static_cast<double>(at_rest_) / static_cast<double>(shells_.size()); }
    double most() const { return static_cast<double>(most_) / static_cast<double>(shells_.size()); }

private:
    packet& take() {
        for (std::uint32_t tried = 0;; ++tried) {
            packet& p = packets_[next_++ % pool_];
            if (!p.busy.load(std::memory_order_acquire)) {
                p.busy.store(true, std::memory_order_relaxed);
                return p;
            }
            if (tried % 8 == 7) inst_->poll();  // none is free: help
        }
    }

    const std::uint32_t pool_;
    std::uint32_t next_ = 0;
    std::unique_ptr<packet[]> packets_;
    std::vector<flow> flows_;
    std::vector<std::uint16_t> traffic_;
    std::size_t before_ = 0, at_rest_ = 0, most_ = 0;
    std::unique_ptr<padata::instance> inst_;
    std::vector<padata::shell> shells_;  // declared last: gone first
};

void run_shells(const settings& s) {
    const std::string name = "padata/shells/10000";
    if (name.find(s.only) == std::string::npos) return;
    pin_to(s.cpus);
    constexpr std::uint32_t pool = 8192;
    const load l{.steps = s.steps_per_us};
    const auto many = std::make_shared<switchboard>(s, 10'000, pool), one = std::make_shared<switchboard>(s, 1, pool);
    const auto jobs = std::max<std::uint32_t>(4096, static_cast<std::uint32_t>(100'000 * s.scale));
    many->run(l, jobs, true);
    one->run(l, jobs, true);
    const std::string also = "bytes a stream, at most";
    measure(s, name, "ns", 1e9, 200'000,
            {{"cohort, 10,000 streams", "ours", "", [=](std::uint32_t n) { many->run(l, n); }, {}, also, [=] { return many->most(); }},
             {"cohort, one stream", "peer", "one shell", [=](std::uint32_t n) { one->run(l, n); }, {}, also, [=] { return one->most(); }}});
    std::fprintf(stderr, "%s: %.0f bytes a stream at rest, %.0f at most\n", name.c_str(), many->at_rest(), many->most());
}

// ---- Masks that change

/// A packet of workers whose CPUs are not there: 0 and 2 share the first CPU that is, 1 and 3 the second. They are not placed by the library, and the kernel
/// would need longer than a millisecond to find out who belongs where.
struct placed_packet : packet {
    static inline std::vector<int> cpus;
    static bool place() {
        char name[16] = {};
        pthread_getname_np(pthread_self(), name, sizeof name);
        if (const char* number = std::strrchr(name, '/')) pin_to(cpus[static_cast<std::size_t>(std::atoi(number + 1)) % cpus.size()]);
        return true;
    }
    void parallel() override {
        static thread_local const bool placed = place();
        (void)placed;
        packet::parallel();
    }
};

/// Workers of four CPUs that are not there, two on each of those that are: a mask of two neighbours is always as good as another.
struct moving {
    explicit moving(std::uint32_t pool) : window(1024), items(std::make_unique<placed_packet[]>(pool)), size(pool) {
        inst = must(padata::instance::create({.name = "moving", .parallel = cpumask{0, 1}, .serial = cpumask::range(0, 3), .usable = cpumask::range(0, 3)}));
        shell = std::make_unique<padata::shell>(must(padata::shell::create(*inst, {.window = window, .when_full = padata::full_policy::block})));
    }
    void run(const load& l, std::uint32_t n) {
        f = {};
        for (std::uint32_t i = 0; i < n; ++i) {
            packet& p = items[i % size];
            p.l = &l;
            p.of = &f;
            p.number = i;
            must(shell->do_parallel(p));
        }
        must(shell->drain());
        if (f.delivered == n) return;
        std::fprintf(stderr, "bench: WRONG RESULT: %u of %u packets\n", f.delivered, n);
        std::exit(1);
    }
    /// The same, with a mask change every millisecond.
    void run_changing(const load& l, std::uint32_t n) {
        std::atomic<bool> stop{false};
        changes = 0;
        std::thread changer([&] {
            auto at = std::chrono::steady_clock::now();
            for (int i = 1; !stop.load(); ++i) {
                must(inst->set_cpumask(padata::mask_kind::parallel, cpumask{i % 4, (i + 1) % 4}));
                ++changes;
                at += std::chrono::milliseconds(1);
                std::this_thread::sleep_until(at);
            }
        });
        run(l, n);
        stop = true;
        changer.join();
        must(inst->set_cpumask(padata::mask_kind::parallel, cpumask{0, 1}));
    }

    std::uint32_t window;
    std::unique_ptr<placed_packet[]> items;
    std::uint32_t size;
    flow f;
    double changes = 0;
    std::unique_ptr<padata::instance> inst;
    std::unique_ptr<padata::shell> shell;
};

void run_maskchange(const settings& s) {
    const std::string name = "padata/maskchange";
    if (name.find(s.only) == std::string::npos) return;
    pin_to(s.cpus);
    const load l{.steps = s.steps_per_us};
    placed_packet::cpus = s.cpus;
    const auto m = std::make_shared<moving>(2048);
    measure(s, name, "ns", 1e9, 200'000,
            {{"cohort, a change every ms", "ours", "", [=](std::uint32_t n) { m->run_changing(l, n); }, {}, "changes", [=] { return m->changes; }},
             {"cohort, no change", "peer", "no mask change", [=](std::uint32_t n) { m->run(l, n); }, {}, "changes", [] { return 0.0; }}});
}

// ---- CPUs that are not there

void run_synthetic_cpus(const settings& s) {
    const std::string bench = "padata/synthetic_cpus";
    if (bench.find(s.only) == std::string::npos) return;
    const load l{.steps = s.steps_per_us};
    const auto n = std::max<std::uint32_t>(1024, static_cast<std::uint32_t>(50'000 * s.scale));
    for (const int cpus : {2, 4, 16, 64, 256, 1024}) {
        pin_to(s.cpus);
        figures f{bench, "ns", n, {}, {}};
        std::vector<double> start_ms;
        for (int round = 0; round < std::min(s.rounds, 3); ++round) {
            const double began = seconds_now();
            const auto inst = must(padata::instance::create({.name = "many", .usable = cpumask::range(0, cpus - 1)}));
            start_ms.push_back((seconds_now() - began) * 1e3);
            auto shell = must(padata::shell::create(*inst, {.window = 4096, .when_full = padata::full_policy::block}));
            const auto items = std::make_unique<packet[]>(8192);
            flow of;
            const double from = seconds_now(), cpu_from = cpu_seconds_now();
            for (std::uint32_t i = 0; i < n; ++i) {
                packet& p = items[i % 8192];
                p.l = &l;
                p.of = &of;
                p.number = i;
                must(shell.do_parallel(p));
            }
            must(shell.drain());
            f.values.push_back((seconds_now() - from) / n * 1e9);
            f.cpu.push_back((cpu_seconds_now() - cpu_from) / n * 1e9);
        }
        const std::string title = "cohort, " + std::to_string(cpus) + " CPUs";
        print_line(s, {title, cpus == 2 ? "ours" : "shown", cpus == 2 ? "" : title, {}, {}, "ms to start"}, f, start_ms);
        std::fflush(stdout);
    }
}

}  // namespace

void run_shells_and_masks(const settings& s) {
    run_shells(s);
    run_maskchange(s);
    run_synthetic_cpus(s);
}

}  // namespace cohort::bench
