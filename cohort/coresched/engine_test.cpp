// SPDX-License-Identifier: Apache-2.0
// One core, then several: who runs beside whom, and who is charged for it.
#include <cohort/coresched/engine.hpp>

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include <cohort/sys/os.hpp>

namespace cohort::coresched {
namespace {

machine::topology machine_of(const std::string& description) { return machine::load("synthetic:" + description, sys::real()).value(); }

/// Ticks for so long, with the invariants held after each.
void run(engine& e, std::uint64_t ms, std::uint64_t tick = 4'000'000) {
    for (std::uint64_t passed = 0; passed < ms * 1'000'000; passed += tick) {
        e.settle();
        ASSERT_EQ(e.broken(), "") << "at " << e.now();
        e.advance(tick);
        e.tick();
    }
    e.settle();
}

double share(const engine& e, task_id t) { return static_cast<double>(e.figures(t).runtime_ns) / static_cast<double>(e.now()); }

TEST(core, tasks_of_equal_cookies_run_beside_each_other_and_others_do_not) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const cookie web = e.cookies().create();
    const task_id a = e.add({.name = "a", .tag = web, .cpus = {0}}), b = e.add({.name = "b", .tag = web, .cpus = {1}}), c = e.add({.name = "c", .cpus = {1}});
    e.wake(a);
    e.wake(b);
    e.settle();
    EXPECT_EQ(e.running(0), a);
    EXPECT_EQ(e.running(1), b);
    e.block(b);
    e.wake(c);
    e.settle();
    EXPECT_TRUE(e.forced_idle(0) != e.forced_idle(1)) << "one of the two waits";
    e.block(a);
    e.settle();
    EXPECT_EQ(e.running(1), c);
    EXPECT_FALSE(e.forced_idle(0));
}

TEST(core, one_tagged_hog_against_four_untagged_is_twenty_percent_each) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    std::vector<task_id> all{e.add({.name = "tagged", .tag = e.cookies().create(), .cpus = {0}})};
    for (int i = 0; i < 4; ++i) all.push_back(e.add({.name = "plain", .cpus = {1}}));
    for (const task_id t : all) e.wake(t);
    run(e, 20'000);
    for (const task_id t : all) EXPECT_NEAR(share(e, t), 0.2, 0.005);
    const double total = static_cast<double>(e.now());
    EXPECT_NEAR(static_cast<double>(e.figures_of_cpu(0).forced_idle_ns) / total, 0.8, 0.01);
    EXPECT_NEAR(static_cast<double>(e.figures_of_cpu(1).forced_idle_ns) / total, 0.2, 0.01);
    EXPECT_EQ(e.figures_of_cpu(0).forced_idle_ns + e.figures_of_cpu(1).forced_idle_ns, e.now());
    EXPECT_EQ(e.who_forced_whom().size(), 2u);
}

TEST(core, without_cookies_or_where_they_do_not_count_nobody_waits) {
    for (const char* rules : {"kernel", "unprotected"}) {
        engine e(machine_of("pack:1 core:1 pu:2"), {.rules = parse_policy(rules).value()});
        const cookie tag = std::string(rules) == "kernel" ? no_cookie : e.cookies().create();
        const task_id a = e.add({.tag = tag, .cpus = {0}}), b = e.add({.cpus = {1}});
        e.wake(a);
        e.wake(b);
        run(e, 1000);
        EXPECT_EQ(share(e, a), 1.0) << rules;
        EXPECT_EQ(share(e, b), 1.0) << rules;
    }
}

TEST(core, an_untagged_task_behind_a_tagged_one_is_found_only_by_search0) {
    for (const char* rules : {"kernel", "search0"}) {
        engine e(machine_of("pack:1 core:1 pu:2"), {.rules = parse_policy(rules).value()});
        const cookie tag = e.cookies().create();
        const task_id first = e.add({.name = "fifo", .cpus = {0}, .how = scheduling::fifo, .priority = 50});
        const task_id tagged = e.add({.name = "tagged", .tag = tag, .cpus = {1}, .how = scheduling::fifo, .priority = 40}), plain = e.add({.name = "plain", .cpus = {1}});
        for (const task_id t : {plain, tagged, first}) e.wake(t);
        e.settle();
        EXPECT_EQ(e.running(0), first);
        EXPECT_EQ(e.running(1), std::string(rules) == "search0" ? plain : idle) << rules;
        EXPECT_EQ(e.broken(), "");
    }
}

TEST(core, a_tie_goes_to_the_cpu_that_asks) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id a = e.add({.tag = e.cookies().create(), .cpus = {0}, .how = scheduling::fifo, .priority = 5}), b = e.add({.cpus = {1}, .how = scheduling::fifo, .priority = 5});
    for (const task_id t : {a, b}) {
        e.wake(t);
        e.settle();
        EXPECT_EQ(e.running(e.cpu_of(t)), t) << "the one that came last";
    }
    EXPECT_TRUE(e.forced_idle(0));
}

TEST(core, a_task_of_the_cores_cookie_is_found_behind_others) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const cookie tag = e.cookies().create();
    const task_id high = e.add({.tag = tag, .cpus = {0}, .how = scheduling::fifo, .priority = 9}), first = e.add({.cpus = {1}, .how = scheduling::fifo, .priority = 3}),
                  fits = e.add({.tag = tag, .cpus = {1}});
    for (const task_id t : {fits, first, high}) e.wake(t);
    e.settle();
    EXPECT_EQ(e.running(1), fits);
    EXPECT_FALSE(e.forced_idle(1));
}

TEST(core, queues_are_compared_by_what_they_have_had_since_they_meet) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id old = e.add({.cpus = {1}});
    e.wake(old);
    run(e, 10'000);
    const task_id young = e.add({.tag = e.cookies().create(), .cpus = {0}});
    e.wake(young);
    run(e, 2000);
    EXPECT_NEAR(static_cast<double>(e.figures(young).runtime_ns), 1e9, 5e7) << "not all of what the other had before it came";
}

TEST(core, a_forced_idle_cpu_takes_a_task_of_the_cores_cookie_from_another_core) {
    engine e(machine_of("pack:1 core:2 pu:2"));
    const cookie tag = e.cookies().create();
    const auto fifo = [&](int cpu, cookie c, int priority) { return e.add({.tag = c, .cpus = {cpu}, .how = scheduling::fifo, .priority = priority}); };
    const task_id guard = fifo(1, no_cookie, 60), busy = fifo(2, tag, 50), high = fifo(0, tag, 50), plain = e.add({.cpus = {1}}), waits = e.add({.tag = tag, .cpus = {1, 2}});
    for (const task_id t : {guard, waits, busy, high, plain}) {
        e.wake(t);
        e.settle();
    }
    ASSERT_EQ(e.cpu_of(waits), 2) << "behind `busy`, since CPU 1 was taken";
    ASSERT_TRUE(e.forced_idle(0));
    e.block(guard);
    e.settle();
    EXPECT_EQ(e.running(0), high);
    EXPECT_EQ(e.running(1), waits);
    EXPECT_EQ(e.steals(), 1u);
}

TEST(fair, who_sleeps_saves_nothing_up) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id hog = e.add({.cpus = {0}}), sleeper = e.add({.cpus = {0}});
    e.wake(hog);
    e.wake(sleeper);
    run(e, 100);
    e.block(sleeper);
    run(e, 5000);
    const auto before = e.figures(sleeper).runtime_ns;
    e.wake(sleeper);
    run(e, 1000);
    EXPECT_NEAR(static_cast<double>(e.figures(sleeper).runtime_ns - before), 5e8, 2e7);
}

TEST(fair, weights_are_shares_of_time) {
    engine e(machine_of("pack:1 core:1 pu:1"));
    const task_id heavy = e.add({.weight = 3072}), light = e.add({.weight = 1024});
    e.wake(heavy);
    e.wake(light);
    run(e, 8000);
    EXPECT_NEAR(share(e, heavy), 0.75, 0.01);
    EXPECT_NEAR(share(e, light), 0.25, 0.01);
}

TEST(fair, a_newborn_has_half_a_slice_and_goes_first) {
    engine e(machine_of("pack:1 core:1 pu:1"));
    const task_id guard = e.add({.how = scheduling::fifo, .priority = 1}), old = e.add({}), young = e.add({});
    e.wake(old);
    e.settle();
    e.block(old);
    for (const task_id t : {guard, old, young}) e.wake(t);
    e.settle();
    e.block(guard);
    e.settle();
    EXPECT_EQ(e.running(0), young);
}

TEST(core, real_time_goes_before_fair_core_wide) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id fair = e.add({.tag = e.cookies().create(), .cpus = {0}}), fifo = e.add({.cpus = {1}, .how = scheduling::fifo, .priority = 1});
    e.wake(fair);
    e.settle();
    EXPECT_EQ(e.running(0), fair);
    e.wake(fifo);
    e.settle();
    EXPECT_EQ(e.running(0), idle);
    EXPECT_EQ(e.running(1), fifo);
    EXPECT_TRUE(e.forced_idle(0));
    const task_id higher = e.add({.cpus = {1}, .how = scheduling::fifo, .priority = 2}), lower = e.add({.cpus = {1}, .how = scheduling::fifo, .priority = 1});
    e.wake(higher);
    e.wake(lower);
    e.settle();
    EXPECT_EQ(e.running(1), higher);
}

TEST(core, round_robin_takes_turns_among_equals_and_fifo_does_not) {
    for (const scheduling how : {scheduling::round_robin, scheduling::fifo}) {
        engine e(machine_of("pack:1 core:1 pu:1"));
        const task_id a = e.add({.how = how, .priority = 1}), b = e.add({.how = how, .priority = 1});
        e.wake(a);
        e.wake(b);
        run(e, 4000);
        EXPECT_NEAR(share(e, b), how == scheduling::fifo ? 0 : 0.5, 0.03);
    }
}

TEST(core, the_last_cookie_turns_it_off_and_a_new_one_on) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id a = e.add({.cpus = {0}}), b = e.add({.cpus = {1}});
    e.wake(a);
    e.wake(b);
    e.settle();
    const cookie c = e.cookies().create();
    e.set_cookie(a, c);
    e.cookies().put(c);  // the task holds it
    e.settle();
    EXPECT_TRUE(e.forced_idle(0) || e.forced_idle(1));
    EXPECT_EQ(e.broken(), "");
    e.set_cookie(a, no_cookie);
    e.settle();
    EXPECT_EQ(e.running(0), a);
    EXPECT_EQ(e.running(1), b);
    EXPECT_FALSE(e.cookies().enabled());
}

TEST(core, a_cpu_without_work_takes_no_task_that_its_core_would_keep_waiting) {
    for (const bool equal : {false, true}) {
        engine e(machine_of("pack:1 core:2 pu:2"));
        const cookie tag = e.cookies().create();
        const task_id here = e.add({.tag = tag, .cpus = {0}}), there = e.add({.tag = tag, .cpus = {2}}), other = e.add({.tag = equal ? tag : no_cookie, .cpus = {1, 2}}), guard = e.add({.cpus = {1}});
        for (const task_id t : {guard, other, there, here}) e.wake(t), e.settle();
        e.block(guard);
        run(e, 100);
        EXPECT_EQ(e.cpu_of(other), equal ? 1 : 2);
        EXPECT_EQ(e.running(1) == idle, !equal);
        EXPECT_FALSE(e.forced_idle(1));
    }
}

TEST(core, a_sibling_that_goes_offline_hands_its_core_and_its_tasks_over) {
    engine e(machine_of("pack:1 core:1 pu:2"));
    const task_id a = e.add({.tag = e.cookies().create()}), b = e.add({});
    e.wake(a);
    e.wake(b);
    run(e, 100);
    EXPECT_TRUE(e.set_online(0, false));
    run(e, 10'000);
    EXPECT_EQ(e.running(0), idle);
    EXPECT_EQ(e.cpu_of(a), 1);
    EXPECT_FALSE(e.set_online(1, false)) << "the last one stays";
    const auto before = e.figures(a).runtime_ns;
    EXPECT_TRUE(e.set_online(0, true));
    run(e, 1000);
    EXPECT_GT(e.figures(a).runtime_ns, before);
}

/// Random tasks, cookies, sleeps, forks, exits and hotplug: the invariants hold after every step, on every policy.
TEST(any_machine, random_steps_keep_the_invariants) {
    const char* given = std::getenv("COHORT_SEED");
    const unsigned seed = given ? static_cast<unsigned>(std::atoi(given)) : 1;
    const char* const shapes[] = {"pack:1 core:1 pu:2", "pack:1 core:2 pu:2", "pack:2 core:2 pu:4", "pack:1 core:1 pu:8", "pack:1 core:3 pu:1"};
    for (unsigned round = 0; round < 100; ++round) {
        std::mt19937 random(seed * 1000 + round);
        const auto below = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
        const machine::topology t = machine_of(shapes[round % 5]);
        engine e(t, {.rules = all_policies()[round / 5 % 5]});
        const std::size_t cpus = t.cpus.size();
        std::vector<task_id> live;
        for (int step = 0; step < 300; ++step) {
            const task_id some = live.empty() ? idle : live[below(live.size())];
            switch (below(9)) {
                case 0: {
                    task_options o{.name = "t" + std::to_string(e.tasks())};
                    if (below(2)) o.cpus = {static_cast<int>(below(cpus)), static_cast<int>(below(cpus))};
                    if (below(6) == 0) o.how = below(2) ? scheduling::fifo : scheduling::round_robin, o.priority = static_cast<int>(1 + below(3));
                    else o.weight = below(3) ? 1024 : static_cast<int>(1 + below(5000));
                    live.push_back(e.add(std::move(o)));
                    e.wake(live.back());
                    break;
                }
                case 1: if (some != idle) e.wake(some); break;
                case 2: if (some != idle) e.block(some); break;
                case 3: if (some != idle) {
                    const cookie c = e.cookies().create();
                    e.set_cookie(some, c);
                    e.cookies().put(c);
                    break;
                }
                [[fallthrough]];
                case 4: if (some != idle) e.set_cookie(some, e.cookie_of(live[below(live.size())])); break;
                case 5: if (some != idle && below(3) == 0) {
                    e.exit(some);
                    std::erase(live, some);
                }
                break;
                case 6: if (some != idle && live.size() < 40) {
                    live.push_back(e.fork(some, "child"));
                    e.wake(live.back());
                }
                break;
                case 7: if (all_policies()[round / 5 % 5].name != "nosmt") (void)e.set_online(static_cast<int>(below(cpus)), below(3) > 0); break;
                default: e.settle(); e.advance(1 + below(5'000'000)); e.tick();
            }
            e.settle();
            ASSERT_EQ(e.broken(), "") << "COHORT_SEED=" << seed << ", round " << round << ", step " << step;
        }
    }
}

}  // namespace
}  // namespace cohort::coresched
