// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/scenario.hpp>

#include <gtest/gtest.h>

#include <cohort/sys/os.hpp>

namespace cohort::coresched {
namespace {

machine::topology machine_of(const std::string& description) { return machine::load("synthetic:" + description, sys::real()).value(); }

outcome run(const scenario& s, const std::string& machine = "pack:1 core:1 pu:2", const std::string& rules = "kernel") {
    auto r = simulate(s, machine_of(machine), {.rules = parse_policy(rules).value()});
    EXPECT_TRUE(r.has_value()) << r.error().line();
    return r ? *r : outcome{};
}

TEST(simulate, accounts_add_up_to_the_duration) {
    const outcome r = run({.duration_ms = 3000, .tasks = {{.name = "a", .tag = 1, .cpus = {0}}, {.name = "b", .cpus = {1}, .kind = behaviour::periodic, .run_us = 700, .sleep_us = 900}}});
    std::uint64_t forced = 0, charged = 0;
    for (const cpu_result& c : r.cpus) {
        EXPECT_EQ(c.busy_ns + c.idle_ns, r.duration_ns);
        forced += c.forced_idle_ns;
    }
    for (const task_result& t : r.tasks) charged += t.forced_idle_ns;
    EXPECT_EQ(forced, r.forced_idle_ns);
    EXPECT_EQ(charged, forced);
    EXPECT_GT(forced, 0u);
    std::uint64_t pairs = 0;
    for (const forced_pair& p : r.who_forced_whom) {
        EXPECT_NE(p.ran, p.waited);
        pairs += p.ns;
    }
    EXPECT_EQ(pairs, forced);
}

TEST(simulate, two_groups_that_fill_their_cores_lose_nothing_by_cookies_and_much_without_threads) {
    scenario s{.duration_ms = 10'000, .smt_yield = 1.67, .tasks = {}};
    for (int i = 0; i < 8; ++i) s.tasks.push_back({.name = "t" + std::to_string(i), .tag = static_cast<std::uint64_t>(i % 2 + 1), .cpus = {i / 2}});
    const double ours = run(s, "pack:1 core:2 pu:2").throughput, open = run(s, "pack:1 core:2 pu:2", "unprotected").throughput, one = run(s, "pack:1 core:2 pu:2", "nosmt").throughput;
    EXPECT_NEAR(open, 2 * 1.67, 0.01);
    EXPECT_GE(ours / open, 0.97);
    EXPECT_GE(ours / one, 1.62);
}

TEST(simulate, the_published_suite_of_two_groups_pays_threads_wherever_tasks_may_go) {
    // Two groups of as many computing tasks as there are CPUs; measured on 96 cores: 0.97 to 1.02 of unprotected, 1.62 to 1.70 of nosmt.
    scenario s{.duration_ms = 10'000, .smt_yield = 1.67, .tasks = {}};
    for (int i = 0; i < 64; ++i) s.tasks.push_back({.name = "t" + std::to_string(i), .tag = static_cast<std::uint64_t>(i / 32 + 1)});
    const auto work = [&](const char* rules) { return run(s, "pack:2 core:8 pu:2", rules).throughput; };
    const double open = work("unprotected"), one = work("nosmt");
    EXPECT_NEAR(open, 16 * 1.67, 0.05);
    EXPECT_NEAR(one, 16, 0.01);
    EXPECT_GE(work("kernel") / open, 0.97);
    EXPECT_GE(work("kernel") / one, 1.62);
    // The figures can fall: where each task trusts nobody, threads stand idle.
    for (std::size_t i = 0; i < s.tasks.size(); ++i) s.tasks[i].tag = i + 1;
    EXPECT_NEAR(work("kernel") / one, 1, 0.01);
}

TEST(simulate, one_tagged_hog_against_four_runs_a_fifth_whosever_tick_comes_first) {
    scenario s{.duration_ms = 10'000, .tasks = {{.name = "tagged", .tag = 1, .cpus = {0}}}};
    for (int i = 0; i < 4; ++i) s.tasks.push_back({.name = "plain" + std::to_string(i), .cpus = {1}});
    for (const fair_class fair : {fair_class::eevdf, fair_class::cfs}) {
        for (const tick_order order : {tick_order::any, tick_order::ascending, tick_order::descending}) {
            s.ticks = order;
            const outcome r = simulate(s, machine_of("pack:1 core:1 pu:2"), {.fair = fair}).value();
            for (const task_result& t : r.tasks) EXPECT_NEAR(t.share, 0.2, 0.005) << t.name;
            EXPECT_NEAR(static_cast<double>(r.cpus[0].forced_idle_ns) / 1e10, 0.8, 0.005);
            EXPECT_NEAR(static_cast<double>(r.cpus[1].forced_idle_ns) / 1e10, 0.2, 0.005);
        }
    }
}

TEST(simulate, a_pingpong_pair_takes_turns) {
    const outcome r = run({.duration_ms = 1000, .smt_yield = 1.5, .tasks = {{.name = "a", .cpus = {0}, .kind = behaviour::pingpong, .run_us = 100, .with = "b"},
                                                         {.name = "b", .cpus = {1}, .kind = behaviour::pingpong, .run_us = 300, .with = "a"}}});
    EXPECT_NEAR(r.tasks[0].share, 0.25, 0.01);
    EXPECT_NEAR(r.tasks[1].share, 0.75, 0.01);
    EXPECT_EQ(r.tasks[1].wait_p99_ns, 0u) << "its CPU is its own";
}

TEST(simulate, between_equals_the_order_of_siblings_ticks_decides) {
    // Where CPU 0's tick is always first, what it runs has always run a moment longer than CPU 1's: "kept" never has a turn. Kernel 6.12 does that, too (lab/shares-diff, seed 82).
    scenario s{.duration_ms = 3000, .seed = 0, .groups = {{"a", 1024}, {"b", 1024}},
               .tasks = {{.name = "pair0", .tag = 1, .cpus = {0}, .group = "a"}, {.name = "pair1", .tag = 1, .cpus = {1}, .group = "b"}, {.name = "kept", .cpus = {0}, .group = "a"}}};
    const auto kept = [&](tick_order order) {
        s.ticks = order;
        const outcome r = run(s);
        EXPECT_NEAR(r.tasks[0].share, 1 - r.tasks[2].share, 1e-9);
        EXPECT_EQ(r.tasks[0].runtime_ns, r.tasks[1].runtime_ns);
        return r.tasks[2].share;
    };
    EXPECT_LT(kept(tick_order::ascending), 0.01);
    EXPECT_NEAR(kept(tick_order::descending), 1. / 2, 0.01);
    EXPECT_NEAR(kept(tick_order::any), 1. / 3, 0.04);
}

TEST(simulate, waits_are_told_of_whoever_could_run) {
    const outcome r = run({.duration_ms = 4000, .tasks = {{.name = "a", .cpus = {0}}, {.name = "b", .cpus = {0}}}});
    for (const task_result& t : r.tasks) {
        EXPECT_NEAR(static_cast<double>(t.waits), 500, 20) << "one of two ticks";
        EXPECT_NEAR(static_cast<double>(t.wait_p50_ns), 4e6, 2e5);
    }
}

TEST(simulate, work_takes_longer_beside_a_busy_sibling) {
    const outcome r = run({.duration_ms = 1000, .smt_yield = 1.2, .tasks = {{.name = "a", .cpus = {0}}, {.name = "b", .cpus = {1}}}});
    EXPECT_NEAR(r.throughput, 1.2, 0.001);
    EXPECT_NEAR(static_cast<double>(r.tasks[0].work_ns), 0.6e9, 1e6);
}

TEST(simulate, events_change_cookies_tasks_and_cpus) {
    const scenario s{.duration_ms = 1000,
                     .tasks = {{.name = "a", .cpus = {0}}, {.name = "b", .cpus = {1}}},
                     .events = {{.at_us = 200'000, .what = change::create, .task = "a"},
                                {.at_us = 400'000, .what = change::share_to, .task = "a", .target = "b"},
                                {.at_us = 600'000, .what = change::clear, .task = "a"},
                                {.at_us = 700'000, .what = change::share_from, .task = "a", .target = "b"},
                                {.at_us = 800'000, .what = change::exit, .task = "b"},
                                {.at_us = 900'000, .what = change::fork, .task = "a", .target = "c"}}};
    const outcome r = run(s);
    ASSERT_EQ(r.tasks.size(), 3u);
    EXPECT_NEAR(static_cast<double>(r.forced_idle_ns), 3e8, 1e6) << "while they differed: 0.2 to 0.4 s and 0.6 to 0.7 s";
    EXPECT_NEAR(r.tasks[0].share + r.tasks[2].share, 0.85 - 0.001, 0.06);
    EXPECT_GT(r.tasks[2].runtime_ns, 0u);
}

TEST(simulate, is_a_function_of_its_arguments) {
    scenario s{.duration_ms = 500, .tasks = {}};
    for (int i = 0; i < 6; ++i) s.tasks.push_back({.name = "t" + std::to_string(i), .tag = static_cast<std::uint64_t>(i % 3), .kind = i % 2 ? behaviour::hog : behaviour::periodic, .run_us = 500, .sleep_us = 300});
    const outcome a = run(s, "pack:1 core:2 pu:2"), b = run(s, "pack:1 core:2 pu:2");
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(a.tasks[i].runtime_ns, b.tasks[i].runtime_ns);
    EXPECT_EQ(a.picks, b.picks);
}

TEST(simulate, what_cannot_be_is_refused_with_a_reason) {
    const auto why = [](const scenario& s) {
        auto r = simulate(s, machine_of("pack:1 core:1 pu:2"), {});
        return r ? std::string("no error") : r.error().line();
    };
    EXPECT_EQ(why({.tasks = {{.name = "a"}, {.name = "a"}}}), "task \"a\": add: EINVAL: there are two of this name");
    EXPECT_EQ(why({.tasks = {{.name = "a", .cpus = {7}}}}), "task \"a\": place on CPUs 7: EINVAL: the machine has 0-1");
    EXPECT_EQ(why({.tasks = {{.name = "a", .weight = 0}}}), "task \"a\": give weight 0: EINVAL: it is 1 to 88761");
    EXPECT_EQ(why({.tasks = {{.name = "a", .how = scheduling::fifo}}}), "task \"a\": give priority 0: EINVAL: it is 1 to 99");
    EXPECT_EQ(why({.tasks = {{.name = "a", .kind = behaviour::periodic}}}), "task \"a\": run: EINVAL: run_us is 0: only a hog computes all the time");
    EXPECT_EQ(why({.tasks = {{.name = "a", .kind = behaviour::pingpong, .run_us = 1, .with = "a"}}}), "task \"a\": find its partner \"a\": EINVAL: there is no other pingpong task of this name");
    EXPECT_EQ(why({.events = {{.what = change::create, .task = "x"}}}), "event at 0 us: act on task \"x\": EINVAL: there is none of this name");
    EXPECT_EQ(why({.tasks = {{.name = "a"}}, .events = {{.what = change::fork, .task = "a", .target = "a"}}}), "event at 0 us: fork \"a\": EINVAL: there is one of this name");
    EXPECT_EQ(why({.tasks = {{.name = "a"}}, .events = {{.what = change::share_to, .task = "a", .target = "b"}}}), "event at 0 us: share with task \"b\": EINVAL: there is none of this name");
    EXPECT_EQ(why({.events = {{.what = change::offline, .cpu = 9}}}), "event at 0 us: take CPU 9 on- or offline: EINVAL: the machine has 0-1");
    EXPECT_NE(why({.smt_yield = 2.5}).find("it is 1 to the number of siblings, 2"), std::string::npos);
}

}  // namespace
}  // namespace cohort::coresched
