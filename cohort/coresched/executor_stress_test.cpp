// SPDX-License-Identifier: Apache-2.0
/// Tenants with worker sets on the same core: short and long tasks, tasks of others inside them, waits, safepoints, threads that are no workers, and cookies that change. Unequal cookies
/// never run together, everything runs, and what is charged is what was lost. COHORT_SEED sets the seed (printed), COHORT_STRESS_MS the time of each test.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <cohort/coresched/executor.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/testing/sources.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::coresched {
namespace {

std::uint64_t from_env(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

void spin(std::uint64_t ns) {
    const std::uint64_t until = sys::real().now() + ns;
    while (sys::real().now() < until) sys::cpu_relax();
}

struct stage {
    static constexpr int tenants = 3;

    stage(executor_options o, const cpumask& on, bool pin) : ex(executor::create(std::move(o)).value()) {
        for (int i = 0; i < tenants; ++i) {
            gates.push_back(ex->add({.name = "t" + std::to_string(i)}).value());
            EXPECT_TRUE(ex->create(gates.back()->id(), scope::thread));
        }
        for (auto& g : gates) sets.push_back(work::worker_set::create({.name = g->name(), .general = on, .pin = pin, .around = g.get(), .spin_ns = 2'000}).value());
    }

    /// One task of tenant i. The tenants' cookies differ as long as `fixed`: then each task sees for itself that no other's runs.
    void task(int i, std::mt19937_64& random, bool fixed) {
        const auto alone = [&] {
            for (int k = 0; fixed && k < tenants; ++k) together += k != i && running[k].load() > 0;
        };
        ++running[i];
        alone();
        if (random() % 8 == 0) {
            --running[i];
            safepoint();
            ++running[i];
        }
        spin(random() % 8 == 0 ? random() % 300'000 : random() % 5'000);
        alone();
        --running[i];
        if (random() % 16 == 0) {
            const blocking here;
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 100));
        }
        if (random() % 8 == 0) {
            const int k = static_cast<int>(random() % tenants);
            const work::inside other(gates[static_cast<std::size_t>(k)].get(), sys::current_cpu());
            ++running[k];
            for (int j = 0; fixed && j < tenants; ++j) together += j != k && running[j].load() > 0;
            spin(random() % 2'000);
            --running[k];
        }
        ++ran;
    }

    void run(std::uint64_t seed, std::uint64_t ms, bool fixed) {
        const std::uint64_t until = sys::real().now() + ms * 1'000'000;
        std::vector<std::thread> threads;
        for (int i = 0; i < tenants; ++i) {
            threads.emplace_back([this, i, seed, until, fixed] {
                std::mt19937_64 random(seed + static_cast<std::uint64_t>(i));
                auto& set = *sets[static_cast<std::size_t>(i)];
                while (sys::real().now() < until || ex->report().turns == 0) {
                    std::atomic<std::uint64_t> salt{random()};
                    work::testing::jobs j([&](work::context& ctx) {
                        std::mt19937_64 mine(salt.fetch_add(1));
                        const work::inside place(ctx.set->around(), ctx.cpu);
                        task(i, mine, fixed);
                    });
                    const int n = 1 + static_cast<int>(random() % 30);
                    j.add(n, set);
                    if (random() % 4 == 0) (void)set.poll();
                    if (!fixed && random() % 4 == 0) change(random);
                    EXPECT_TRUE(work::testing::wait_until([&] { return j.done() == n; }, "for a tenant's tasks"));
                    set.retire(j);
                    added += static_cast<std::uint64_t>(n);
                }
            });
        }
        for (auto& t : threads) t.join();
    }

    void change(std::mt19937_64& random) {
        const int id = gates[random() % tenants]->id(), other = gates[random() % tenants]->id();
        switch (random() % 4) {
            case 0: EXPECT_TRUE(ex->create(id, scope::thread)); break;
            case 1: EXPECT_TRUE(ex->clear(id, scope::thread)); break;
            case 2: EXPECT_TRUE(ex->share_from(other)); break;
            default: EXPECT_TRUE(ex->share_to(id, scope::thread));
        }
    }

    void check() {
        const auto r = ex->report();
        EXPECT_EQ(together, 0u) << "tasks saw each other";
        EXPECT_EQ(r.overlap_ns, 0u);
        EXPECT_EQ(r.astray, 0u);
        EXPECT_EQ(ran, added);
        EXPECT_GT(r.turns, 0u);
        std::uint64_t lost = 0, charged = 0;
        for (const auto& c : r.cpus) lost += c.figures.forced_idle_ns;
        for (const auto& t : r.tenants) charged += t.figures.forced_idle_ns;
        EXPECT_EQ(lost, charged);
        std::cout << ran << " tasks, " << r.stretches << " stretches, " << r.turns << " turns, " << r.overlap_ns << " ns of unequal overlap, longest wait " << r.longest_wait_ns / 1000 << " us\n";
    }

    std::unique_ptr<executor> ex;
    std::vector<std::unique_ptr<tenant>> gates;
    std::vector<std::unique_ptr<work::worker_set>> sets;
    std::atomic<int> running[tenants] = {};
    std::atomic<std::uint64_t> together{0}, ran{0}, added{0};
};

void stress(executor_options o, const cpumask& on, bool pin, bool fixed) {
    const std::uint64_t seed = from_env("COHORT_SEED", std::random_device{}()), ms = from_env("COHORT_STRESS_MS", 300);
    std::cout << "COHORT_SEED=" << seed << '\n';
    stage s(std::move(o), on, pin);
    s.run(seed, ms, fixed);
    s.check();
}

/// All CPUs of this process as one core.
TEST(executor_stress, tenants_on_the_cpus_that_are_there) {
    const cpumask mine = sys::real().sched_getaffinity(0).value();
    if (mine.weight() < 2) GTEST_SKIP() << "needs two CPUs";
    stress({.cores = {mine}, .slice_ns = 50'000}, mine, true, true);
}

TEST(executor_stress, tenants_that_hold_their_cpus) {
    const cpumask mine = sys::real().sched_getaffinity(0).value();
    if (mine.weight() < 2) GTEST_SKIP() << "needs two CPUs";
    stress({.cores = {mine}, .slice_ns = 20'000, .hold = true}, mine, true, true);
}

TEST(executor_stress, four_siblings_that_are_not_there_and_no_turns) { stress({.cores = {cpumask::range(0, 3)}, .slice_ns = 0, .real_cpus = false}, cpumask::range(0, 3), false, true); }

TEST(executor_stress, cookies_that_change) { stress({.cores = {cpumask::range(0, 3)}, .slice_ns = 10'000, .real_cpus = false}, cpumask::range(0, 3), false, false); }

}  // namespace
}  // namespace cohort::coresched
