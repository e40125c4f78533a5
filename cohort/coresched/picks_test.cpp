// SPDX-License-Identifier: Apache-2.0
// Very many picks: unequal cookies never run together, not for a nanosecond. Who runs is looked at from outside, whenever time passes.
//
//     COHORT_PICKS=1000000000 build/tests/coresched_test --gtest_filter='picks.*'      10 to 15 minutes, as COHORT_LONG=1; COHORT_SEED: another run
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <cohort/coresched/engine.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::coresched {
namespace {

std::uint64_t number(const char* name, std::uint64_t otherwise) {
    const char* given = std::getenv(name);
    return given ? std::strtoull(given, nullptr, 10) : otherwise;
}

/// A machine on which everything changes all the time.
class storm {
public:
    storm(const std::string& shape, engine_options o, std::uint64_t seed) : machine_(machine::load("synthetic:" + shape, sys::real()).value()), engine_(machine_, std::move(o)), random_(seed) {
        cpus_ = static_cast<int>(machine_.cpus.size());
        for (int i = 0; i < 3; ++i) cookies_.push_back(engine_.cookies().create());
        const group_id g = engine_.add_group("g", 0, 512), h = engine_.add_group("h", g, 2048);
        for (int i = 0; i < 5 * cpus_; ++i) {
            task_options o2{.tag = some_cookie(), .weight = static_cast<int>(50 + below(3000)), .group = i % 3 == 0 ? 0 : i % 3 == 1 ? g : h};
            if (below(3)) o2.cpus = {static_cast<int>(below(static_cast<unsigned>(cpus_)))};
            if (below(12) == 0) o2.how = below(2) ? scheduling::fifo : scheduling::round_robin, o2.priority = 1;
            if (below(20) == 0) o2.how = scheduling::deadline, o2.runtime_ns = 2'000'000, o2.deadline_ns = o2.period_ns = 40'000'000;
            tasks_.push_back(engine_.add(std::move(o2)));
            engine_.wake(tasks_.back());
        }
        engine_.settle();
    }

    /// Ticks, sleeps, wake-ups, other cookies, CPUs that go and come, until there have been n picks more.
    void picks(std::uint64_t n) {
        for (const std::uint64_t until = engine_.picks() + n; engine_.picks() < until;) {
            const task_id t = tasks_[below(static_cast<unsigned>(tasks_.size()))];
            switch (below(16)) {
                case 0: engine_.runnable(t) ? engine_.block(t) : engine_.wake(t); break;
                case 1: engine_.wake(t); break;
                case 2: engine_.set_cookie(t, some_cookie()); break;
                case 3: if (below(8) == 0) (void)engine_.set_online(static_cast<int>(below(static_cast<unsigned>(cpus_))), below(3) > 0); break;
                default: break;
            }
            engine_.settle();
            pass(1 + below(3'000'000));
            if (below(4)) {
                engine_.tick();
            } else {
                // Each CPU in its own time, and what it was told to it does later.
                std::vector<int> due;
                for (int cpu = 0; cpu < cpus_; ++cpu) {
                    if (engine_.tick(cpu)) due.push_back(cpu);
                    engine_.settle();
                    pass(below(2000));
                }
                for (const int cpu : due) engine_.choose(cpu);
            }
            engine_.settle();
        }
    }

    std::uint64_t together_ns() const { return together_; }
    std::uint64_t passed_ns() const { return engine_.now(); }
    std::uint64_t made() const { return engine_.picks(); }
    std::string broken() const { return engine_.broken(); }

private:
    unsigned below(unsigned n) { return static_cast<unsigned>((random_() >> 32) * n >> 32); }
    cookie some_cookie() {
        const unsigned i = below(4);
        return i == 0 ? no_cookie : cookies_[i - 1];
    }
    void pass(std::uint64_t ns) {
        for (const auto& core : machine_.cores) {
            bool any = false;
            cookie tag = no_cookie;
            for (const int cpu : core.cpus) {
                const task_id t = engine_.running(cpu);
                if (t == idle) continue;
                if (std::exchange(any, true) && engine_.cookie_of(t) != tag) together_ += ns;
                tag = engine_.cookie_of(t);
            }
        }
        engine_.advance(ns);
    }

    machine::topology machine_;
    engine engine_;
    std::mt19937_64 random_;
    int cpus_ = 0;
    std::vector<cookie> cookies_;
    std::vector<task_id> tasks_;
    std::uint64_t together_ = 0;
};

TEST(picks, unequal_cookies_are_together_for_no_nanosecond) {
    const std::uint64_t seed = number("COHORT_SEED", 1), wanted = number("COHORT_PICKS", std::getenv("COHORT_LONG") ? 1'000'000'000 : 2'000'000);
    struct kind {
        const char *shape, *rules;
        fair_class fair;
    };
    const kind kinds[] = {{"pack:1 core:4 pu:2", "kernel", fair_class::eevdf}, {"pack:1 core:2 pu:4", "kernel", fair_class::eevdf}, {"pack:1 core:4 pu:2", "kernel", fair_class::cfs},
                          {"pack:1 core:1 pu:8", "search0", fair_class::eevdf}, {"pack:2 core:2 pu:2", "steal0", fair_class::eevdf}, {"pack:1 core:2 pu:2", "gang", fair_class::eevdf}};
    const auto began = std::chrono::steady_clock::now();
    std::uint64_t made = 0, passed = 0;
    for (const kind& k : kinds) {
        storm s(k.shape, {.rules = parse_policy(k.rules).value(), .fair = k.fair}, seed);
        s.picks(wanted / std::size(kinds));
        EXPECT_EQ(s.together_ns(), 0u) << k.shape << ", " << k.rules << ", COHORT_SEED=" << seed;
        EXPECT_EQ(s.broken(), "") << k.shape << ", " << k.rules << ", COHORT_SEED=" << seed;
        made += s.made();
        passed += s.passed_ns();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    std::printf("%.3g picks in %.0f s simulated, %.1f s of this machine, %.2f million a second\n", static_cast<double>(made), static_cast<double>(passed) / 1e9, seconds, static_cast<double>(made) / seconds / 1e6);
    EXPECT_GE(made, wanted * 99 / 100);
}

TEST(picks, siblings_that_have_all_been_told_to_choose_agree) {
    // Found by 10^8 picks: the four answered each other for ever.
    for (const std::uint64_t seed : {117, 422}) {
        storm s("pack:1 core:2 pu:4", {}, seed);
        s.picks(500'000);
        EXPECT_EQ(s.broken(), "");
    }
}

TEST(picks, the_look_from_outside_sees_cookies_that_do_not_count) {
    storm s("pack:1 core:4 pu:2", {.rules = parse_policy("unprotected").value()}, 1);
    s.picks(10'000);
    EXPECT_GT(s.together_ns(), s.passed_ns() / 10);
}

}  // namespace
}  // namespace cohort::coresched
