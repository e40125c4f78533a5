// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/worker_set.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include <cohort/sys/futex.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/work/testing/sources.hpp>

namespace cohort::work {
namespace {

using testing::jobs;
using testing::letter;
using testing::wait_until;

/// CPUs that need not exist: threads are not bound.
std::unique_ptr<worker_set> unbound(worker_set_options o) {
    o.pin = false;
    return worker_set::create(std::move(o)).value();
}
std::unique_ptr<worker_set> two_workers() { return unbound({.name = "t", .general = cpumask{0, 1}}); }
cpumask usable() { return sys::thread_affinity().value(); }
std::size_t threads_of_this_process() { return sys::real().list_dir("/proc/self/task").value().size(); }

// ---- creating and ending

TEST(worker_set, without_a_cpu_answers_einval) {
    auto r = worker_set::create({.name = "none", .general = cpumask{}});
    ASSERT_FALSE(r.has_value());
    EXPECT_EQ(r.error().code, EINVAL);
    EXPECT_EQ(r.error().object, "worker set \"none\"");
}

TEST(worker_set, that_cannot_bind_a_worker_leaves_no_thread_behind) {
    std::size_t before = threads_of_this_process();
    auto r = worker_set::create({.name = "far", .general = cpumask{usable().first(), 8'000}});
    ASSERT_FALSE(r.has_value());
    EXPECT_EQ(r.error().code, EINVAL);
    EXPECT_NE(r.error().act.find("8000"), std::string::npos) << r.error().act;
    EXPECT_TRUE(wait_until([&] { return threads_of_this_process() == before; }));  // a joined thread may still be listed for a moment
}

TEST(worker_set, new_masks_that_fail_leave_the_old_ones) {
    auto set = unbound({.name = "t", .general = cpumask{1}, .possible_cpus = 4});
    for (const cpumask& bad : {cpumask{}, cpumask{4}, cpumask{1, 9}}) {
        auto r = set->set_cpus(bad, {});
        ASSERT_FALSE(r.has_value());
        EXPECT_EQ(r.error().code, EINVAL);
    }
    ASSERT_FALSE(set->set_cpus(cpumask{1}, cpumask{7}).has_value());
    EXPECT_EQ(set->general_cpus(), cpumask{1});
    std::atomic<int> elsewhere{0};
    jobs j([&](context& ctx) { elsewhere += ctx.cpu != 1; });
    j.add(10, *set);
    wait_until([&] { return j.done() == 10; });
    EXPECT_EQ(elsewhere.load(), 0);
    set->retire(j);
}

TEST(worker_set, that_cannot_bind_a_new_worker_keeps_its_masks) {
    int here = usable().first();
    auto set = worker_set::create({.name = "t", .general = cpumask{here}, .possible_cpus = 8'192}).value();
    ASSERT_FALSE(set->set_cpus(cpumask{8'000}, {}).has_value());
    EXPECT_EQ(set->general_cpus(), cpumask{here});
    jobs j;
    j.add(1, *set);
    wait_until([&] { return j.done() == 1; });
    set->retire(j);
}

TEST(worker_set, ends_its_threads_parked_or_searching) {
    std::size_t before = threads_of_this_process();
    for (std::uint32_t spin_ns : {0U, 100'000'000U}) {
        auto set = unbound({.name = "t", .general = cpumask{0, 1, 2}, .bound = cpumask{3}, .spin_ns = spin_ns});
        if (spin_ns == 0) wait_until([&] { return set->idle_workers().parked == 3; });
        set.reset();
        EXPECT_TRUE(wait_until([&] { return threads_of_this_process() == before; }));
    }
}

TEST(worker_set, drops_mail_that_nobody_took) {
    letter l;
    {
        auto set = unbound({.name = "t", .general = cpumask{0}, .own_threads = false});
        set->post(l, 0);
    }
    EXPECT_EQ(l.delivered(), 0);
}

TEST(worker_set_death, ends_the_program_when_destroyed_with_something_published) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            auto set = unbound({.name = "t", .general = cpumask{0}, .own_threads = false});
            jobs j;
            j.add(1, *set);
            set.reset();
        },
        "destroyed while something is published");
}

TEST(worker_set, may_be_destroyed_as_soon_as_its_mail_has_come) {
    // The poster may still be on its way out of post(): it must not touch the set any more. (AddressSanitizer watches.)
    for (int i = 0; i < 300; ++i) {
        auto set = unbound({.name = "t", .general = cpumask{0}, .spin_ns = static_cast<std::uint32_t>(i % 3) * 5'000});
        letter l;
        std::thread poster([&l, s = set.get()] { s->post(l, 0); });
        wait_until([&] { return l.delivered() == 1; });
        set.reset();
        poster.join();
    }
}

// ---- runnables

TEST(worker_set, publishing_wakes_a_parked_worker) {
    auto set = two_workers();
    jobs j;
    for (int i = 1; i <= 20; ++i) {
        wait_until([&] { return set->idle_workers().parked == 2; });
        EXPECT_EQ(set->idle_workers().searching, 0U);
        j.add(1, *set);
        wait_until([&] { return j.done() == i; });
    }
    set->retire(j);
}

TEST(worker_set, runs_one_runnable_on_several_workers_at_once) {
    auto set = unbound({.name = "t", .general = cpumask{0, 1, 2}});
    wait_until([&] { return set->idle_workers().parked == 3; });
    std::atomic<int> inside{0};
    jobs j([&](context&) {
        ++inside;
        wait_until([&] { return inside.load() == 3; });  // each waits for the others: found() must have woken them
    });
    j.add(3, *set);
    wait_until([&] { return j.done() == 3; });
    set->retire(j);
}

TEST(worker_set, a_second_runnable_is_not_held_up_by_a_long_job) {
    auto set = two_workers();
    jobs second;
    jobs first([&](context&) { wait_until([&] { return second.done() == 1; }); });
    wait_until([&] { return set->idle_workers().parked == 2; });
    first.add(1, *set);
    second.add(1, *set);
    wait_until([&] { return first.done() == 1; });
    set->retire(first);
    set->retire(second);
}

TEST(worker_set, several_runnables_take_turns) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    std::atomic<bool> go{false};
    jobs gate([&](context&) { wait_until([&] { return go.load(); }); });
    gate.add(1, *set);
    std::vector<int> order;  // one worker: no lock
    jobs a([&](context&) { order.push_back(0); }), b([&](context&) { order.push_back(1); });
    a.add(50, *set);
    b.add(50, *set);
    go = true;
    wait_until([&] { return a.done() + b.done() == 100; });
    for (jobs* j : {&gate, &a, &b}) set->retire(*j);
    int longest = 0, run = 0;
    for (std::size_t i = 1; i < order.size(); ++i) {
        run = order[i] == order[i - 1] ? run + 1 : 0;
        if (i < 90) longest = std::max(longest, run);
    }
    EXPECT_LT(longest, 5) << "one runnable was served while the other waited";
}

TEST(worker_set, retire_waits_for_the_worker_inside) {
    auto set = two_workers();
    std::atomic<bool> inside{false}, go{false}, left{false};
    auto j = std::make_unique<jobs>([&](context&) {
        inside = true;
        wait_until([&] { return go.load(); });
        for (int i = 0; i < 1'000; ++i) sys::cpu_relax();
        left = true;
    });
    j->add(1, *set);
    wait_until([&] { return inside.load(); });
    std::thread releaser([&] { go = true; });
    set->retire(*j);
    EXPECT_TRUE(left.load());
    j.reset();
    releaser.join();
}

TEST(worker_set, what_is_published_after_retiring_is_not_run) {
    auto set = unbound({.name = "t", .general = cpumask{0}, .own_threads = false});
    jobs j;
    set->retire(j);
    j.add(1, *set);
    EXPECT_FALSE(set->poll());
    EXPECT_EQ(j.done(), 0);
}

TEST(worker_set, wakes_the_workers_that_publish_on_names) {
    auto set = unbound({.name = "t", .general = cpumask{0, 1, 2}});
    wait_until([&] { return set->idle_workers().parked == 3; });
    std::atomic<int> inside{0};
    std::atomic<unsigned> cpus{0};
    jobs j([&](context& ctx) {
        cpus |= 1U << ctx.cpu;
        ++inside;
        wait_until([&] { return inside.load() >= 2; });
    });
    j.add_silently(2);
    set->publish_on(j, cpumask{0, 2, 77});  // a CPU without a worker is passed over
    wait_until([&] { return j.done() == 2; });
    EXPECT_EQ(cpus.load() & 0b101U, cpus.load() & 0b111U) << "another worker than those named was needed";
    set->retire(j);
}

TEST(worker_set, has_at_most_max_workers) {
    auto set = unbound({.name = "t", .general = cpumask{0, 1, 2, 3}, .max_workers = 2});
    EXPECT_EQ(set->general_workers(), 2);
    EXPECT_EQ(set->general_cpus().weight(), 2);
    EXPECT_TRUE(set->general_cpus().subset_of(cpumask{0, 1, 2, 3}));
    std::atomic<int> inside{0}, most{0};
    jobs j([&](context&) {
        int n = ++inside;
        for (int m = most.load(); m < n && !most.compare_exchange_weak(m, n);) {
        }
        for (int i = 0; i < 2'000; ++i) sys::cpu_relax();
        --inside;
    });
    j.add(200, *set);
    wait_until([&] { return j.done() == 200; });
    EXPECT_LE(most.load(), 2);
    set->retire(j);
}

// ---- mail

TEST(worker_set, mail_reaches_the_worker_of_its_cpu) {
    cpumask cpus = usable();
    auto set = worker_set::create({.name = "t", .general = cpumask{cpus.first()}, .bound = cpus}).value();
    for (int cpu : cpus) {
        for (int i = 0; i < 20; ++i) {
            int ran_on = -1, told = -1;
            letter l([&](context& ctx) {
                ran_on = sys::current_cpu();
                told = ctx.cpu;
            });
            set->post(l, cpu);
            wait_until([&] { return l.delivered() == 1; });
            EXPECT_EQ(ran_on, cpu);
            EXPECT_EQ(told, cpu);
        }
    }
}

TEST(worker_set, a_worker_for_mail_alone_runs_no_runnables) {
    auto set = unbound({.name = "t", .general = cpumask{0}, .bound = cpumask{1}});
    std::atomic<int> elsewhere{0};
    jobs j([&](context& ctx) { elsewhere += ctx.cpu != 0; });
    std::vector<std::unique_ptr<letter>> letters;
    for (int i = 0; i < 100; ++i) {
        j.add(1, *set);
        letters.push_back(std::make_unique<letter>([&](context& ctx) { elsewhere += ctx.cpu != 1; }));
        set->post(*letters.back(), 1);
    }
    wait_until([&] { return j.done() == 100 && letters.back()->delivered() == 1; });
    EXPECT_EQ(elsewhere.load(), 0);
    set->retire(j);
}

TEST(worker_set, mail_comes_in_the_order_it_was_posted) {
    auto set = two_workers();
    std::vector<int> order;
    std::vector<std::unique_ptr<letter>> letters;
    for (int i = 0; i < 200; ++i) {
        letters.push_back(std::make_unique<letter>([&order, i](context&) { order.push_back(i); }));
        set->post(*letters.back(), 1);
    }
    wait_until([&] { return letters.back()->delivered() == 1; });
    ASSERT_EQ(order.size(), 200U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(worker_set, mail_for_a_cpu_without_a_worker_goes_to_the_first_one) {
    auto set = unbound({.name = "t", .general = cpumask{2, 3}, .possible_cpus = 8});
    for (int cpu : {0, 7, 500, -1}) {
        int cpu_of_it = -1;
        letter l([&](context& ctx) { cpu_of_it = ctx.cpu; });
        set->post(l, cpu);
        wait_until([&] { return l.delivered() == 1; });
        EXPECT_EQ(cpu_of_it, 2);
    }
}

TEST(worker_set, mail_of_a_cpu_that_left_the_masks_is_still_delivered) {
    auto set = two_workers();
    ASSERT_TRUE(set->set_cpus(cpumask{0}, {}).has_value());
    letter l;
    set->post(l, 1);
    wait_until([&] { return l.delivered() == 1; });
}

TEST(worker_set, a_mail_that_waits_for_a_later_one_of_the_same_worker_gets_it) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    std::atomic<bool> both_posted{false};
    letter second;
    letter first([&](context&) {
        wait_until([&] { return both_posted.load(); });
        wait_until([&] { return set->deliver_own_mail() || second.delivered() == 1; });
    });
    letter hold([&](context&) { wait_until([&] { return both_posted.load(); }); });
    set->post(hold, 0);
    set->post(first, 0);
    set->post(second, 0);
    both_posted = true;
    wait_until([&] { return first.delivered() == 1; });
    EXPECT_EQ(second.delivered(), 1);
}

TEST(worker_set, waiting_inside_a_job_ends_when_mail_comes) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    for (int i = 0; i < 50; ++i) {
        std::atomic<std::uint32_t> word{0};
        std::atomic<bool> waits{false};
        letter l;
        jobs j([&](context&) {
            EXPECT_TRUE(set->on_worker());
            while (l.delivered() == 0) {
                std::uint32_t seen = word.load();
                waits = true;
                if (!set->deliver_own_mail()) set->wait_on(word, seen);
            }
        });
        j.add(1, *set);
        wait_until([&] { return waits.load(); });
        set->post(l, 0);
        wait_until([&] { return j.done() == 1; });
        set->retire(j);
    }
    EXPECT_FALSE(set->on_worker());
    EXPECT_FALSE(set->deliver_own_mail());
    std::atomic<std::uint32_t> word{1};
    set->wait_on(word, 0);  // not a worker: as futex_wait
}

// ---- masks that change

TEST(worker_set, after_set_cpus_returns_no_worker_outside_claims) {
    auto set = two_workers();
    std::atomic<int> only{-1};
    std::atomic<int> outside{0};
    jobs j([](context&) {},
           [&](context& ctx) {
               int cpu = only.load();
               outside += cpu >= 0 && ctx.cpu != cpu;
           });
    j.add(1'000'000'000, *set);
    for (int i = 0; i < 300; ++i) {
        only = -1;
        ASSERT_TRUE(set->set_cpus(cpumask{i % 2}, {}).has_value());
        only = i % 2;
        int before = j.done();
        wait_until([&] { return j.done() > before; }, "for a batch under the new mask");
    }
    EXPECT_EQ(outside.load(), 0);
    set->retire(j);
}

TEST(worker_set, grows_and_shrinks_while_work_runs) {
    auto set = unbound({.name = "t", .general = cpumask{0}, .possible_cpus = 6});
    jobs j;
    j.add(1'000'000'000, *set);
    std::size_t before = threads_of_this_process();
    for (int i = 0; i < 60; ++i) {
        cpumask m;
        for (int cpu = 0; cpu <= i % 6; ++cpu) m.set((cpu + i) % 6);
        ASSERT_TRUE(set->set_cpus(m, {}).has_value());
        EXPECT_EQ(set->general_workers(), m.weight());
    }
    EXPECT_EQ(threads_of_this_process(), before + 5) << "threads are kept, and made once";
    set->retire(j);
}

TEST(worker_set, a_callback_may_change_the_masks) {
    auto set = two_workers();
    jobs j([&](context& ctx) { EXPECT_TRUE(set->set_cpus(cpumask{1 - ctx.cpu}, {}).has_value()); });
    for (int i = 1; i <= 50; ++i) {
        j.add(1, *set);
        wait_until([&] { return j.done() == i; });
    }
    set->retire(j);
}

// ---- lent threads

TEST(worker_set, without_threads_only_poll_runs_anything) {
    auto set = unbound({.name = "t", .general = cpumask{0}, .own_threads = false});
    EXPECT_EQ(set->general_workers(), 0);
    EXPECT_FALSE(set->poll());
    jobs a, b;
    letter l, m;
    a.add(2, *set);
    b.add(1, *set);
    set->post(l, 0);
    set->post(m, 5);
    int polls = 0;
    while (set->poll()) ++polls;
    EXPECT_EQ(polls, 5);
    EXPECT_EQ(a.done(), 2);
    EXPECT_EQ(b.done(), 1);
    EXPECT_EQ(l.delivered() + m.delivered(), 2);
    set->retire(a);
    set->retire(b);
}

TEST(worker_set, poll_helps_while_the_workers_are_busy) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    std::atomic<bool> inside{false}, go{false};
    jobs busy([&](context&) {
        inside = true;
        wait_until([&] { return go.load(); });
    });
    busy.add(1, *set);
    wait_until([&] { return inside.load(); });
    jobs j([](context& ctx) { EXPECT_EQ(ctx.own, nullptr); });
    j.add(1, *set);
    EXPECT_TRUE(set->poll());
    EXPECT_EQ(j.done(), 1);
    EXPECT_FALSE(set->poll());
    go = true;
    set->retire(busy);
    set->retire(j);
}

TEST(worker_set, a_worker_stands_back_while_its_cpu_is_lent_and_comes_when_the_lender_is_silent) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    jobs j;
    int stood_back = 0;
    for (int i = 1; i <= 50 || (stood_back == 0 && i <= 20'000); ++i) {
        wait_until([&] { return set->idle_workers().parked == 1 && set->idle_workers().searching == 0; });
        j.add(1, *set, {0});
        auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (std::chrono::steady_clock::now() < end) set->lend({0});
        stood_back += j.done() < i;  // not always: this thread may have been preempted for longer than a lender's word holds
        wait_until([&] { return j.done() == i; });
    }
    EXPECT_GT(stood_back, 0);
    set->retire(j);
}

TEST(worker_set, a_lender_holds_up_nobody_elses_work) {
    auto set = unbound({.name = "t", .general = cpumask{0}});
    int came = 0;  // while the lender was never silent for long; it may be preempted, so one such round of many is enough
    for (int i = 0; i < 20'000 && came == 0; ++i) {
        jobs mine, others;
        wait_until([&] { return set->idle_workers().parked == 1; });
        auto last = std::chrono::steady_clock::now();
        bool silent = false;
        auto lend = [&] {
            set->lend({0});
            auto now = std::chrono::steady_clock::now();
            silent = silent || now - last > std::chrono::microseconds(100);
            last = now;
        };
        mine.add(1'000'000, *set, {0});
        lend();
        others.add(1, *set);
        while (others.done() == 0) lend();
        lend();  // the last silence counts too
        came += !silent;
        set->retire(mine);
        set->retire(others);
    }
    EXPECT_GT(came, 0);
}

TEST(worker_set, a_worker_stands_back_from_all_that_is_listed_for_a_lender_that_runs_all) {
    const lender me{0, true};
    auto set = unbound({.name = "t", .general = cpumask{0}});
    jobs one, other;
    int stood_back = 0;
    for (int i = 1; i <= 50 || (stood_back == 0 && i <= 20'000); ++i) {
        wait_until([&] { return set->idle_workers().parked == 1 && set->idle_workers().searching == 0; });
        one.add(1, *set, me);
        other.add(1, *set, me);
        auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (std::chrono::steady_clock::now() < end) set->lend(me);
        stood_back += one.done() < i && other.done() < i;  // not always, as above
        while (set->poll(true)) set->lend(me);
        wait_until([&] { return one.done() == i && other.done() == i; });
    }
    EXPECT_GT(stood_back, 0);
    set->retire(one);
    set->retire(other);
}

TEST(worker_set, carries_its_gate_and_its_name) {
    struct nothing final : gate {
        void enter(int) override { ADD_FAILURE(); }
        void leave(int) override { ADD_FAILURE(); }
    } g;
    auto set = unbound({.name = "carrier", .general = cpumask{0}, .around = &g});
    EXPECT_EQ(set->around(), &g);
    EXPECT_EQ(set->name(), "carrier");
    EXPECT_TRUE(g.admits_inline(0));
    jobs j;  // whoever runs jobs inside a batch calls the gate; the set does not
    j.add(1, *set);
    wait_until([&] { return j.done() == 1; });
    set->retire(j);
}

}  // namespace
}  // namespace cohort::work
