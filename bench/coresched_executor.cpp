// SPDX-License-Identifier: Apache-2.0
// The executor: what it costs two tenants that they never share a core, and how long a core takes to change its cookie. All CPUs count as one core.
#include <atomic>
#include <memory>
#include <thread>

#include <cohort/coresched/executor.hpp>
#include <cohort/sys/futex.hpp>
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

/// Two threads on two CPUs of a core, each with its cookie, that each want in as soon as they are out: n changes.
void change(const settings& s, const coresched::executor_options& o, std::uint32_t n) {
    auto ex = must(coresched::executor::create(o));
    std::unique_ptr<coresched::tenant> gates[2];
    for (auto& g : gates) {
        g = must(ex->add({}));
        must(ex->create(g->id(), coresched::scope::thread));
    }
    const auto side = [&](std::size_t i) {
        pin_to(s.cpus[i]);
        for (std::uint32_t k = 0; k < n / 2; ++k) {
            const work::inside place(gates[i].get(), s.cpus[i]);
        }
    };
    std::thread other(side, 1);
    side(0);
    other.join();
}

/// The same by one word that goes back and forth: what the machine itself takes.
void word(const settings& s, bool sleep, std::uint32_t n) {
    std::atomic<std::uint32_t> turn{0};
    const auto side = [&](std::uint32_t i) {
        pin_to(s.cpus[i]);
        for (std::uint32_t k = 0; k < n / 2; ++k) {
            for (std::uint32_t t; (t = turn.load(std::memory_order_acquire)) % 2 != i;) {
                if (sleep) sys::futex_wait(turn, t);
                else sys::cpu_relax();
            }
            turn.fetch_add(1, std::memory_order_acq_rel);
            if (sleep) sys::futex_wake(turn, 1);
        }
    };
    std::thread other(side, 1);
    side(0);
    other.join();
}

}  // namespace

void run_coresched_executor(const settings& s) {
    const unsigned steps = 300 * s.steps_per_us;
    if (std::string("coresched/executor/").find(s.only) == std::string::npos && s.only.find("coresched/executor") == std::string::npos) return;
    if (s.cpus.size() < 2) {
        std::fprintf(stderr, "coresched/executor: skipped: needs two CPUs\n");
        return;
    }
    pin_to(s.cpus);
    {
        const auto parks = std::make_shared<two_tenants>(s, true, false), holds = std::make_shared<two_tenants>(s, true, true), open = std::make_shared<two_tenants>(s, false, false);
        measure(s, "coresched/executor/two_tenants", "us", 1e6, 3'000,
                {{"cohort, executor", "ours", "", [=](std::uint32_t n) { parks->run(n, steps); }},
                 {"cohort, executor, hold", "shown", "cohort, executor, hold", [=](std::uint32_t n) { holds->run(n, steps); }},
                 {"unprotected", "peer", "unprotected", [=](std::uint32_t n) { open->run(n, steps); }}});
    }
    const coresched::executor_options spins{.cores = {mask_of(s)}, .slice_ns = 0, .hold = true}, sleeps{.cores = {mask_of(s)}, .slice_ns = 0, .spin_ns = 0};
    const auto changes = [&](const char* name, const coresched::executor_options& o, bool sleep, std::uint32_t n) {
        measure(s, name, "us", 1e6, n,
                {{"cohort, executor", "ours", "", [&s, o](std::uint32_t k) { change(s, o, k); }},
                 {sleep ? "a futex" : "a word, spinning", "peer", sleep ? "a futex back and forth" : "a word back and forth", [&s, sleep](std::uint32_t k) { word(s, sleep, k); }}});
    };
    changes("coresched/executor/switch_spin", spins, false, 500'000);
    changes("coresched/executor/switch_park", sleeps, true, 20'000);
}

}  // namespace cohort::bench
