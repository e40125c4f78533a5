// SPDX-License-Identifier: Apache-2.0
// The executor: what it costs two tenants that they never share a core, and how long a core takes to change its cookie. All CPUs count as one core.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include <cohort/coresched/executor.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/sys/ticks.hpp>
#include <cohort/work/worker_set.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

cpumask mask_of(const settings& s) {
    cpumask m;
    for (const int c : s.cpus) m.set(c);
    return m;
}

/// So many tasks of so many steps; a worker runs one at a time.
class tasks final : public work::runnable {
public:
    void add(work::worker_set& set, std::uint32_t n, unsigned steps) {
        steps_ = steps;
        left_.store(static_cast<std::int64_t>(n), std::memory_order_seq_cst);
        done_.store(n, std::memory_order_relaxed);
        set.publish(*this);
    }
    void wait() {
        for (std::uint32_t d; (d = done_.load(std::memory_order_acquire)) != 0;) done_.wait(d);
    }

private:
    bool run(work::context& ctx) override {
        if (left_.fetch_sub(1, std::memory_order_seq_cst) <= 0) return false;
        ctx.found(*this);
        {
            const work::inside place(ctx.set->around(), ctx.cpu);
            volatile std::uint32_t sunk = chain(7, steps_);
            (void)sunk;
        }
        if (done_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_all();
        return true;
    }
    bool ready() const noexcept override { return left_.load(std::memory_order_seq_cst) > 0; }

    unsigned steps_ = 0;
    std::atomic<std::int64_t> left_{0};
    std::atomic<std::uint32_t> done_{0};
};

/// Two worker sets on the same CPUs; with an executor, a cookie each.
struct two_tenants {
    two_tenants(const settings& s, bool guarded, bool hold) {
        if (guarded) ex = must(coresched::executor::create({.cores = {mask_of(s)}, .source = "all CPUs as one core", .hold = hold}));
        for (auto& side : sides) {
            if (ex) {
                side.gate = must(ex->add({}));
                must(ex->create(side.gate->id(), coresched::scope::thread));
            }
            side.set = must(work::worker_set::create({.name = "tenant", .general = mask_of(s), .around = side.gate.get()}));
        }
    }
    ~two_tenants() {
        for (auto& side : sides) side.set->retire(side.work);
    }
    void run(std::uint32_t n, unsigned steps) {
        sides[0].work.add(*sides[0].set, n - n / 2, steps);
        sides[1].work.add(*sides[1].set, n / 2, steps);
        for (auto& side : sides) side.work.wait();
        if (!ex || ex->report().overlap_ns == 0) return;
        std::fprintf(stderr, "bench: the tenants ran together\n");
        std::exit(1);
    }
    struct tenant_side {
        std::unique_ptr<coresched::tenant> gate;
        std::unique_ptr<work::worker_set> set;
        tasks work;
    };
    std::unique_ptr<coresched::executor> ex;
    tenant_side sides[2];
};

/// Two threads on two CPUs hand something over n times; the time from just before give() to the return of the other's take(), which has waited for `pause_us` then: the median, in us.
double median_change(const settings& s, std::uint32_t n, double pause_us, const std::function<void(std::size_t)>& take, const std::function<void(std::size_t)>& give) {
    std::atomic<bool> waits[2] = {false, false}, ended[2] = {false, false};
    std::atomic<std::uint64_t> given{0};
    std::vector<double> took[2];
    const double ns = sys::ns_per_tick();
    const auto side = [&](std::size_t i) {
        pin_to(s.cpus[i]);
        for (std::uint32_t k = 0; k < n / 2; ++k) {
            waits[i].store(true);
            take(i);
            const std::uint64_t now = sys::ticks();
            if (const std::uint64_t from = given.exchange(0)) took[i].push_back(static_cast<double>(now - from) * ns / 1e3);
            waits[i].store(false);
            while (!waits[1 - i].load() && !ended[1 - i].load()) sys::cpu_relax();
            for (const std::uint64_t seen = sys::ticks(); static_cast<double>(sys::ticks() - seen) * ns < pause_us * 1e3;) sys::cpu_relax();
            if (waits[1 - i].load()) given.store(sys::ticks());
            give(i);
        }
        ended[i].store(true);
    };
    std::thread other(side, 1);
    side(0);
    other.join();
    took[0].insert(took[0].end(), took[1].begin(), took[1].end());
    std::ranges::nth_element(took[0], took[0].begin() + static_cast<std::ptrdiff_t>(took[0].size() / 2));
    return took[0][took[0].size() / 2];
}

/// Two tenants of a core. Each wants in as soon as it is out.
double cookie_change(const settings& s, const coresched::executor_options& o, std::uint32_t n, double pause_us) {
    auto ex = must(coresched::executor::create(o));
    std::unique_ptr<coresched::tenant> gates[2];
    for (auto& g : gates) {
        g = must(ex->add({}));
        must(ex->create(g->id(), coresched::scope::thread));
    }
    return median_change(s, n, pause_us, [&](std::size_t i) { gates[i]->enter(s.cpus[i]); }, [&](std::size_t i) { gates[i]->leave(s.cpus[i]); });
}

/// Two tenants of a core, a worker each on a CPU of its own, with options as they are: so many turns of tasks of 300 us. From the last one out to the first one in: the median, in us.
double turn_change(const settings& s, std::uint32_t turns) {
    auto ex = must(coresched::executor::create({.cores = {mask_of(s)}}));
    std::unique_ptr<coresched::tenant> gates[2];
    for (auto& g : gates) {
        g = must(ex->add({}));
        must(ex->create(g->id(), coresched::scope::thread));
    }
    const std::uint64_t busy_until = sys::real().now() + turns * ex->options().slice_ns;
    const auto worker = [&](std::size_t i) {
        pin_to(s.cpus[i]);
        gates[i]->attach(s.cpus[i]);
        while (sys::real().now() < busy_until) {
            const work::inside place(gates[i].get(), s.cpus[i]);
            volatile std::uint32_t sunk = chain(7, 300 * s.steps_per_us);
            (void)sunk;
        }
        gates[i]->rest(s.cpus[i]);
    };
    std::thread first(worker, 0), second(worker, 1);
    first.join();
    second.join();
    return static_cast<double>(ex->report().change_p50_ns) / 1e3;
}

/// The same by one word that says whose turn it is: what the machine itself takes.
double word_change(const settings& s, bool sleep, std::uint32_t n, double pause_us) {
    std::atomic<std::uint32_t> turn{0};
    return median_change(
        s, n, pause_us,
        [&](std::size_t i) {
            for (std::uint32_t t; (t = turn.load(std::memory_order_acquire)) != i;) {
                if (sleep) sys::futex_wait(turn, t);
                else sys::cpu_relax();
            }
        },
        [&](std::size_t i) {
            turn.store(static_cast<std::uint32_t>(1 - i), std::memory_order_release);
            if (sleep) sys::futex_wake(turn, 1);
        });
}

/// One round: what `measured` answers, and the processor time it took a unit.
void add_round(figures& f, const std::function<double()>& measured) {
    const double began = cpu_seconds_now();
    f.values.push_back(measured());
    f.cpu.push_back((cpu_seconds_now() - began) / f.units * 1e6);
}

/// In turns, as tenants have them, and where nothing tells a sleeper that its turn comes: every task is a turn of its own.
void measure_parked(const settings& s, const std::string& name) {
    if (name.find(s.only) == std::string::npos) return;
    const auto n = std::max<std::uint32_t>(64, static_cast<std::uint32_t>(4'000 * s.scale)), turns = std::max<std::uint32_t>(10, n / 40);
    figures in_turns{name, "us", turns, {}, {}}, at_once{name, "us", n, {}, {}}, futex = at_once;
    for (int round = 0; round < s.rounds; ++round) {
        add_round(in_turns, [&] { return turn_change(s, turns); });
        add_round(at_once, [&] { return cookie_change(s, {.cores = {mask_of(s)}, .slice_ns = 0, .spin_ns = 0}, n, 50); });
        add_round(futex, [&] { return word_change(s, true, n, 50); });
    }
    print_line(s, {"cohort, executor, in turns", "ours", "", {}, "median of a round"}, in_turns);
    print_line(s, {"cohort, executor, at once", "shown", "cohort, executor, at once", {}, "median of a round"}, at_once);
    print_line(s, {"a futex", "peer", "a futex", {}, "median of a round"}, futex);
    std::fflush(stdout);
}

void measure_spinning(const settings& s, const std::string& name) {
    if (name.find(s.only) == std::string::npos) return;
    const auto n = std::max<std::uint32_t>(64, static_cast<std::uint32_t>(20'000 * s.scale));
    figures ours{name, "us", n, {}, {}}, peer = ours;
    for (int round = 0; round < s.rounds; ++round) {
        add_round(ours, [&] { return cookie_change(s, {.cores = {mask_of(s)}, .slice_ns = 0, .hold = true}, n, 2); });
        add_round(peer, [&] { return word_change(s, false, n, 2); });
    }
    print_line(s, {"cohort, executor", "ours", "", {}, "median of a round"}, ours);
    print_line(s, {"a word, spinning", "peer", "a word, spinning", {}, "median of a round"}, peer);
    std::fflush(stdout);
}

}  // namespace

void run_coresched_executor(const settings& s) {
    const unsigned steps = 300 * s.steps_per_us;
    const std::string all = "coresched/executor/";
    if (all.find(s.only) == std::string::npos && s.only.find(all) == std::string::npos) return;
    if (s.cpus.size() < 2) {
        std::fprintf(stderr, "coresched/executor: skipped: needs two CPUs\n");
        return;
    }
    pin_to(s.cpus);
    if (const std::string name = all + "two_tenants"; name.find(s.only) != std::string::npos) {
        const auto parks = std::make_shared<two_tenants>(s, true, false), holds = std::make_shared<two_tenants>(s, true, true), open = std::make_shared<two_tenants>(s, false, false);
        measure(s, name, "us", 1e6, 3'000,
                {{"cohort, executor", "ours", "", [=](std::uint32_t n) { parks->run(n, steps); }},
                 {"cohort, executor, hold", "shown", "cohort, executor, hold", [=](std::uint32_t n) { holds->run(n, steps); }},
                 {"unprotected", "peer", "unprotected", [=](std::uint32_t n) { open->run(n, steps); }}});
    }
    measure_spinning(s, "coresched/executor/switch_spin");
    measure_parked(s, "coresched/executor/switch_park");
}

}  // namespace cohort::bench
