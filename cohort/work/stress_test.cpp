// SPDX-License-Identifier: Apache-2.0
/// Publishing, retiring, mail, masks, lending and polling from several threads at once. Everything published runs once, all mail comes once, and it ends.
/// COHORT_SEED sets the seed (printed), COHORT_STRESS_ROUNDS the rounds of each thread.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <cohort/work/testing/sources.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::work {
namespace {

using testing::jobs;
using testing::letter;
using testing::wait_until;

constexpr int cpus = 4;

std::uint64_t from_env(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A runnable that lives for a few publishes and is then retired and freed.
void publish_and_retire(worker_set& set, std::mt19937_64& random, std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        std::atomic<int> ran{0};
        int spin = static_cast<int>(random() % 200);
        auto j = std::make_unique<jobs>([&ran, spin](context&) {
            for (int k = 0; k < spin; ++k) sys::cpu_relax();
            ++ran;
        });
        int added = 0;
        for (int k = static_cast<int>(random() % 6); k >= 0; --k) {
            int n = 1 + static_cast<int>(random() % 5);
            switch (random() % 8) {
                case 0:
                    j->add_silently(n);
                    set.publish_on(*j, cpumask{static_cast<int>(random() % cpus)});
                    break;
                case 1:
                    set.lend({static_cast<int>(random() % cpus), random() % 2 == 0});
                    j->add(n, set, {static_cast<int>(random() % cpus), random() % 2 == 0});
                    break;
                default: j->add(n, set);
            }
            added += n;
            if (random() % 4 == 0) (void)set.poll();
        }
        bool all = random() % 8 != 0;  // now and then it is retired with work left
        bool came = !all || wait_until([&] { return j->done() == added; }, "for what was published");
        set.retire(*j);
        ASSERT_TRUE(came);
        EXPECT_LE(ran.load(), added);
    }
}

/// Mail that publishes and posts again where it arrives.
void post(worker_set& set, std::mt19937_64& random, std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i) {
        letter second;
        letter first([&](context& ctx) { set.post(second, (ctx.cpu + 1) % (cpus + 1)); });
        set.post(first, static_cast<int>(random() % (cpus + 1)));
        ASSERT_TRUE(wait_until([&] { return first.delivered() == 1 && second.delivered() == 1; }, "for a mail"));
    }
}

void change_masks(worker_set& set, std::mt19937_64& random, const std::atomic<bool>& over, std::uint64_t& changes) {
    while (!over.load()) {
        cpumask general, bound;
        for (int cpu = 0; cpu < cpus; ++cpu) {
            if (random() % 2) general.set(cpu);
            if (random() % 2) bound.set(cpu);
        }
        if (general.empty()) general.set(static_cast<int>(random() % cpus));
        ASSERT_TRUE(set.set_cpus(general, bound).has_value());
        ++changes;
        for (int i = static_cast<int>(random() % 50); i > 0; --i) sys::yield_thread();
    }
}

TEST(work_stress, nothing_is_lost_under_everything_at_once) {
    std::uint64_t seed = from_env("COHORT_SEED", std::random_device{}()), rounds = from_env("COHORT_STRESS_ROUNDS", 400), changes = 0;
    std::cout << "COHORT_SEED=" << seed << '\n';
    RecordProperty("seed", std::to_string(seed));
    auto set = worker_set::create({.name = "stress", .general = cpumask::range(0, cpus - 1), .pin = false, .spin_ns = 2'000}).value();
    std::atomic<bool> over{false};
    std::thread masks([&] {
        std::mt19937_64 random(seed);
        change_masks(*set, random, over, changes);
    });
    std::vector<std::thread> threads;
    for (std::uint64_t t = 1; t <= 3; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937_64 random(seed + t);
            if (t == 3) post(*set, random, rounds);
            else publish_and_retire(*set, random, rounds);
        });
    }
    for (auto& t : threads) t.join();
    over = true;
    masks.join();
    std::cout << changes << " mask changes\n";
    // At rest all who may sleep do, and the counts of idle workers have not drifted.
    wait_until([&] { return set->idle_workers().searching == 0 && static_cast<int>(set->idle_workers().parked) == set->general_workers(); }, "for rest");
}

}  // namespace
}  // namespace cohort::work
