// SPDX-License-Identifier: Apache-2.0
// Groups, deadlines, the two fair classes, delayed sleepers; other policies; nobody starves.
#include <map>
#include <random>

#include <gtest/gtest.h>

#include <cohort/coresched/scenario.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::coresched {
namespace {

machine::topology machine_of(const std::string& description) { return machine::load("synthetic:" + description, sys::real()).value(); }

outcome run(scenario s, const std::string& machine = "pack:1 core:1 pu:2", engine_options o = {}) {
    if (machine.ends_with("pu:1")) s.smt_yield = 1;
    auto r = simulate(s, machine_of(machine), o);
    EXPECT_TRUE(r.has_value()) << r.error().line();
    return r.value();
}

task_spec hog(const std::string& name, std::uint64_t tag, int cpu, const std::string& group = "", int weight = 1024) { return {.name = name, .tag = tag, .cpus = {cpu}, .weight = weight, .group = group}; }

TEST(groups, compete_as_one_at_their_weight) {
    for (const fair_class which : {fair_class::eevdf, fair_class::cfs}) {
        const outcome r = run({.duration_ms = 10'000, .seed = 0, .groups = {{"a", 1024}, {"a/b", 2048}, {"c", 3072}},
                               .tasks = {hog("a1", 0, 0, "a"), hog("b1", 0, 0, "a/b"), hog("b2", 0, 0, "a/b"), hog("c1", 0, 0, "c"), hog("r", 0, 0)}},
                              "pack:1 core:1 pu:1", {.fair = which});
        const double expected[] = {1. / 15, 1. / 15, 1. / 15, 3. / 5, 1. / 5};  // a : c : r = 1 : 3 : 1; within a: a1 : b = 1 : 2
        for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(r.tasks[i].share, expected[i], 0.005) << r.tasks[i].name;
    }
}

TEST(groups, weigh_on_each_cpu_by_what_of_their_load_is_there) {
    // Three of g's four hogs are on CPU 1: there it weighs three times of what it does on CPU 0.
    const outcome r = run({.duration_ms = 10'000, .seed = 0, .groups = {{"g", 1024}},
                           .tasks = {hog("g0", 0, 0, "g"), hog("g1", 0, 1, "g"), hog("g2", 0, 1, "g"), hog("g3", 0, 1, "g"), hog("r0", 0, 0), hog("r1", 0, 1)}},
                          "pack:1 core:2 pu:1");
    EXPECT_NEAR(r.tasks[0].share, 0.2, 0.01) << "256 of 1280";
    EXPECT_NEAR(r.tasks[4].share, 0.8, 0.01);
    EXPECT_NEAR(r.tasks[5].share, 1024. / 1792, 0.01);
}

TEST(groups, within_groups_weigh_what_they_weigh_now_and_not_what_they_did) {
    // What kernel 6.12 gave: 43.3, 13.4, 43.3, 13.4 % (mean of seven runs, all within 0.6).
    const outcome r = run({.duration_ms = 3000, .seed = 0, .groups = {{"g0", 512}, {"g0/g1", 1024}}, .tasks = {hog("t0", 1, 0), hog("t1", 2, 1, "g0/g1"), hog("t2", 3, 0), hog("t3", 2, 0, "g0/g1")}},
                          "pack:1 core:2 pu:2");
    const double kernel[] = {0.433, 0.134, 0.433, 0.134};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(r.tasks[i].share, kernel[i], 0.01) << r.tasks[i].name;
}

TEST(fair, who_runs_on_without_a_slice_of_its_own_makes_way_once_others_are_owed_more) {
    engine e(machine_of("pack:1 core:1 pu:1"), {.slice_ns = 3'000'000});
    const task_id heavy = e.add({.weight = 3072}), light = e.add({});
    e.wake(heavy), e.wake(light), e.settle();
    const auto after = [&](std::uint64_t ns) {
        e.settle(), e.advance(ns), e.tick(), e.settle();
        return e.running(0);
    };
    EXPECT_EQ(after(2'000'000), light);
    EXPECT_EQ(after(2'000'000), heavy);
    EXPECT_EQ(after(4'000'000), heavy) << "its slice is used up, and the earlier deadline is still its own";
    EXPECT_EQ(after(500'000), light) << "it is owed nothing any more: it does not get another slice";
}

TEST(fair, the_6_1_class_shares_by_weight_and_meets_the_published_case) {
    const outcome r = run({.duration_ms = 10'000, .seed = 0, .tasks = {hog("a", 0, 0, "", 3072), hog("b", 0, 0)}}, "pack:1 core:1 pu:1", {.fair = fair_class::cfs});
    EXPECT_NEAR(r.tasks[0].share, 0.75, 0.01);
    scenario s{.duration_ms = 20'000, .seed = 0, .tasks = {hog("tagged", 1, 0)}};
    for (int i = 0; i < 4; ++i) s.tasks.push_back(hog("plain" + std::to_string(i), 0, 1));
    for (const task_result& t : run(s, "pack:1 core:1 pu:2", {.fair = fair_class::cfs}).tasks) EXPECT_NEAR(t.share, 0.2, 0.02) << t.name;
}

TEST(fair, who_had_more_than_its_share_and_sleeps_stays_until_the_others_have_caught_up) {
    engine e(machine_of("pack:1 core:1 pu:1"));
    const task_id hog = e.add({}), sleeper = e.add({});
    e.wake(hog), e.wake(sleeper);
    e.settle();
    const task_id first = e.running(0), other = first == hog ? sleeper : hog;
    e.advance(3'000'000);
    e.block(first);  // 1.5 ms ahead
    e.settle();
    EXPECT_EQ(e.running(0), other);
    e.advance(500'000);
    e.wake(first);   // it is still behind in the queue, with what it owes
    e.settle();
    EXPECT_EQ(e.running(0), other);
    EXPECT_EQ(e.broken(), "");
    e.block(first);
    e.advance(8'000'000);
    e.tick(), e.settle();
    e.block(other);
    e.settle();
    EXPECT_EQ(e.running(0), idle) << "nothing runnable: what stayed is gone";
    e.wake(first), e.settle();
    EXPECT_EQ(e.running(0), first);
    e.exit(first), e.settle();
    EXPECT_EQ(e.broken(), "");
}

TEST(deadlines, a_budget_in_each_period_before_all_others) {
    const task_spec d{.name = "d", .tag = 1, .cpus = {0}, .how = scheduling::deadline, .runtime_us = 8000, .deadline_us = 20'000, .period_us = 20'000};
    const outcome r = run({.duration_ms = 10'000, .seed = 0, .tasks = {d, hog("h", 0, 0), {.name = "f", .cpus = {1}, .how = scheduling::fifo, .priority = 5}}});
    EXPECT_NEAR(r.tasks[0].share, 0.4, 0.04) << "8 of 20 ms, at the grain of a tick";
    EXPECT_NEAR(r.tasks[2].share, 0.6, 0.04) << "real time waits for a deadline of another cookie";
    EXPECT_NEAR(r.tasks[0].share + r.tasks[2].share, 1, 0.01);
    EXPECT_NEAR(r.tasks[1].share, 0.6, 0.04) << "it shares with the other one";
}

TEST(deadlines, the_earlier_goes_first_core_wide_and_sleepers_lose_their_budget) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const auto add = [&](int cpu, cookie c, std::uint64_t ms) { return e.add({.tag = c, .cpus = {cpu}, .how = scheduling::deadline, .runtime_ns = 5'000'000, .deadline_ns = ms * 1'000'000, .period_ns = ms * 1'000'000}); };
    const task_id late = add(0, e.cookies().create(), 200), early = add(1, no_cookie, 50);
    e.wake(late), e.settle();
    EXPECT_EQ(e.running(0), late);
    e.wake(early), e.settle();
    EXPECT_EQ(e.running(1), early);
    EXPECT_TRUE(e.forced_idle(0));
    e.advance(6'000'000), e.tick(), e.settle();
    EXPECT_EQ(e.running(0), late) << "the other's budget is used up";
    EXPECT_EQ(e.next_timer(), 50'000'000u);
    e.block(early), e.wake(early), e.settle();
    EXPECT_EQ(e.running(1), idle) << "throttled";
    e.advance(44'000'000), e.settle();
    EXPECT_EQ(e.running(1), early);
    EXPECT_EQ(e.broken(), "");
}

TEST(hotplug, the_leader_of_a_core_hands_over_and_takes_back_nothing) {
    engine e(machine_of("pack:1 core:1 pu:4"));
    const cookie c = e.cookies().create();
    for (int i = 0; i < 4; ++i) e.wake(e.add({.tag = i < 2 ? c : no_cookie}));
    e.settle();
    EXPECT_EQ(e.leader_of(3), 0);
    for (const int gone : {0, 1}) {
        EXPECT_TRUE(e.set_online(gone, false));
        e.settle();
        EXPECT_EQ(e.leader_of(3), gone + 1);
        EXPECT_EQ(e.broken(), "");
        e.advance(1'000'000);
    }
    EXPECT_TRUE(e.set_online(0, true));
    e.settle();
    EXPECT_EQ(e.leader_of(3), 2) << "who comes joins";
    EXPECT_EQ(e.broken(), "");
}

TEST(gang, cookies_take_turns_by_weight_and_siblings_of_one_run_together) {
    scenario s{.duration_ms = 10'000, .seed = 0, .tasks = {}};
    for (int i = 0; i < 4; ++i) s.tasks.push_back(hog("a" + std::to_string(i), 1, i));
    s.tasks.push_back(hog("b", 2, 0, "", 4096));
    const outcome r = run(s, "pack:1 core:1 pu:4", {.rules = parse_policy("gang").value()});
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(r.tasks[i].share, 0.5, 0.01) << r.tasks[i].name;
}

TEST(pick_steps, tell_who_asked_and_what_each_sibling_got) {
    std::vector<pick_step> steps;
    run({.duration_ms = 100, .seed = 0, .tasks = {hog("a", 1, 0), hog("b", 2, 1)}}, "pack:1 core:1 pu:2", {.on_pick = [&](const pick_step& p) { steps.push_back(p); }});
    std::size_t followed = 0;
    ASSERT_GT(steps.size(), 20u);
    for (const pick_step& p : steps) {
        ASSERT_EQ(p.siblings.size(), 2u);
        followed += p.followed;
        EXPECT_NE(p.siblings[0].given == idle, p.siblings[1].given == idle) << "one of the two";
        if (p.followed) continue;
        EXPECT_EQ(p.siblings[p.best].given, p.best);
        EXPECT_TRUE(p.siblings[1 - p.best].forced_idle);
        EXPECT_EQ(p.tag, p.best + 1);
    }
    EXPECT_GT(followed, 5u);
}

TEST(break_even, is_the_yield_at_which_threads_pay) {
    scenario s{.duration_ms = 4000, .seed = 0, .tasks = {hog("a", 1, 0), hog("b", 0, 1), hog("c", 0, 0)}};
    const auto with = [&](double yield, const char* rules) {
        s.smt_yield = yield;
        return run(s, "pack:1 core:1 pu:2", {.rules = parse_policy(rules).value()});
    };
    EXPECT_NEAR(break_even(with(1.5, "kernel"), with(1.5, "nosmt")).value(), 1, 0.01) << "the core is never idle";
    outcome other;
    other.duration_ns = 4'000'000'000;
    other.throughput = 1.1;
    const double half = break_even(with(1.5, "kernel"), other).value();
    EXPECT_NEAR(with(half, "kernel").throughput, 1.1, 0.001);
    EXPECT_FALSE(break_even(with(1.5, "nosmt"), other).has_value());
}

/// Random hogs on one core; the least share of any.
double least_share(unsigned seed, const char* rules, tick_order order) {
    std::mt19937 random(seed);
    const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
    const int siblings = 1 << (1 + below(3));
    scenario s{.duration_ms = 10'000, .seed = 0, .ticks = order, .tasks = {}};
    for (int i = 0, n = 2 + below(8); i < n; ++i) s.tasks.push_back(hog("t" + std::to_string(i), static_cast<std::uint64_t>(below(4)), below(static_cast<unsigned>(siblings))));
    double least = 1;
    for (const task_result& t : run(s, "pack:1 core:1 pu:" + std::to_string(siblings), {.rules = parse_policy(rules).value()}).tasks) least = std::min(least, t.share);
    return least;
}

TEST(any_hogs, nobody_starves_whosever_tick_comes_first) {
    for (const tick_order order : {tick_order::any, tick_order::ascending, tick_order::descending}) {
        for (unsigned seed = 1; seed <= 100; ++seed) {
            for (const char* rules : {"search0", "steal0", "gang"}) EXPECT_GT(least_share(seed, rules, order), 0.01) << rules << ", seed " << seed << ", order " << static_cast<int>(order);
        }
    }
}

/// Each way in which the kernel lets a task starve: the share of the task "kept" under some rules.
double kept(scenario s, const char* rules) {
    const outcome r = run(std::move(s), "pack:1 core:1 pu:2", {.rules = parse_policy(rules).value()});
    return std::ranges::find(r.tasks, "kept", &task_result::name)->share;
}

TEST(starvation, of_an_untagged_task_behind_a_tagged_one_beside_an_untagged_core) {
    // Real time beside it keeps the core's cookie at 0. Its own CPU's first choice has a cookie, so that the CPU idles: nobody looks behind it.
    const scenario s{.duration_ms = 3000, .seed = 0,
                     .tasks = {{.name = "high", .cpus = {0}, .how = scheduling::fifo, .priority = 50}, {.name = "low", .tag = 1, .cpus = {1}, .how = scheduling::fifo, .priority = 40}, hog("kept", 0, 1)}};
    EXPECT_EQ(kept(s, "kernel"), 0);
    EXPECT_EQ(kept(s, "search0"), 1);
}

TEST(starvation, of_an_equal_whose_queue_was_always_looked_at_first) {
    const scenario s{.duration_ms = 3000, .seed = 0, .ticks = tick_order::ascending, .groups = {{"a", 1024}, {"b", 1024}}, .tasks = {hog("pair0", 1, 0, "a"), hog("pair1", 1, 1, "b"), hog("kept", 0, 0, "a")}};
    EXPECT_LT(kept(s, "kernel"), 0.01);
    EXPECT_NEAR(kept(s, "search0"), 0.5, 0.01);
}

}  // namespace
}  // namespace cohort::coresched
