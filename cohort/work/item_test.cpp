// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/item.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <cohort/sys/fake_clock.hpp>
#include <cohort/sys/testing/threads.hpp>
#include <cohort/work/testing/sources.hpp>

namespace cohort::work {
namespace {

using testing::jobs;
using testing::letter;
using testing::wait_until;

std::unique_ptr<worker_set> workers(int n, gate* around = nullptr) {
    return worker_set::create({.name = "t", .general = cpumask::range(0, n - 1), .pin = false, .around = around}).value();
}

/// Stepping mode, time that stands, and what ran.
struct stepping : ::testing::Test {
    sys::fake_clock clock{sys::real()};
    queue q{clock};
    std::string ran;
    item a{[this] { ran += 'a'; }}, b{[this] { ran += 'b'; }}, c{[this] { ran += 'c'; }};
    int steps() {
        int n = 0;
        while (q.step()) ++n;
        return n;
    }
};

TEST_F(stepping, each_step_runs_one_item_in_the_order_of_queueing) {
    EXPECT_FALSE(q.step());
    EXPECT_TRUE(q.queue_work(b));
    EXPECT_TRUE(q.queue_work(a));
    EXPECT_TRUE(q.queue_work(c));
    EXPECT_EQ(ran, "");
    EXPECT_TRUE(q.step());
    EXPECT_EQ(ran, "b");
    EXPECT_EQ(steps(), 2);
    EXPECT_EQ(ran, "bac");
}

TEST_F(stepping, an_item_queued_while_pending_is_queued_once) {
    EXPECT_TRUE(q.queue_work(a));
    EXPECT_TRUE(q.pending(a));
    EXPECT_FALSE(q.queue_work(a));
    EXPECT_FALSE(q.queue_after(a, 5).value());
    EXPECT_EQ(steps(), 1);
    EXPECT_FALSE(q.pending(a));
    EXPECT_TRUE(q.queue_work(a));
    EXPECT_EQ(steps(), 1);
}

TEST_F(stepping, an_item_that_queues_itself_runs_again_behind_the_others) {
    int again = 2;
    item self([&] {
        ran += 's';
        if (again-- > 0) {
            EXPECT_TRUE(q.queue_work(self));
            EXPECT_FALSE(q.queue_work(self)) << "pending behind itself";
            EXPECT_TRUE(q.pending(self));
        }
    });
    q.queue_work(self);
    q.queue_work(a);
    EXPECT_EQ(steps(), 4);
    EXPECT_EQ(ran, "sass");
}

TEST_F(stepping, cancel_takes_a_pending_item_and_says_whether_it_was) {
    EXPECT_FALSE(q.cancel(b));
    for (item* w : {&a, &b, &c}) q.queue_work(*w);
    EXPECT_TRUE(q.cancel(b));
    EXPECT_FALSE(q.cancel(b));
    EXPECT_TRUE(q.queue_work(b));  // may be queued anew
    EXPECT_TRUE(q.cancel_sync(c));
    EXPECT_FALSE(q.cancel_sync(c));
    EXPECT_EQ(steps(), 2);
    EXPECT_EQ(ran, "ab");
}

TEST_F(stepping, an_item_may_cancel_what_it_queued_behind_itself) {
    item self([&] {
        ran += 's';
        q.queue_work(self);
        EXPECT_TRUE(q.cancel(self));
        EXPECT_FALSE(q.cancel(self));
    });
    q.queue_work(self);
    EXPECT_EQ(steps(), 1);
}

TEST_F(stepping, flush_and_drain_run_what_they_wait_for) {
    q.queue_work(a);
    q.queue_work(b);
    EXPECT_TRUE(q.flush(b));
    EXPECT_EQ(ran, "b");
    EXPECT_FALSE(q.flush(b));
    q.queue_work(c);
    EXPECT_TRUE(q.drain().has_value());
    EXPECT_EQ(ran, "bac");
}

TEST_F(stepping, flush_of_an_item_that_queues_itself_for_ever_waits_for_one_run) {
    item self([&] {
        ran += 's';
        q.queue_work(self);
    });
    q.queue_work(self);
    EXPECT_TRUE(q.flush(self));
    EXPECT_EQ(ran, "s");
    EXPECT_TRUE(q.cancel(self));
}

TEST_F(stepping, an_item_may_flush_another) {
    item outer([&] {
        EXPECT_TRUE(q.flush(b));
        ran += 'o';
    });
    q.queue_work(outer);
    q.queue_work(a);
    q.queue_work(b);
    EXPECT_TRUE(q.step());
    EXPECT_EQ(ran, "bo");
    EXPECT_EQ(steps(), 1);
}

TEST_F(stepping, a_delayed_item_runs_when_its_time_has_come) {
    EXPECT_TRUE(q.queue_after(a, 100).value());
    EXPECT_TRUE(q.pending(a));
    EXPECT_FALSE(q.queue_work(a)) << "pending with a delay is pending";
    EXPECT_FALSE(q.step());
    clock.advance(99);
    EXPECT_FALSE(q.step());
    clock.advance(1);
    EXPECT_TRUE(q.step());
    EXPECT_EQ(ran, "a");
}

TEST_F(stepping, delays_run_out_in_the_order_of_their_ends) {
    (void)q.queue_after(a, 300);
    (void)q.queue_after(b, 100);
    (void)q.queue_after(c, 100);
    clock.advance(1'000);
    EXPECT_EQ(steps(), 3);
    EXPECT_EQ(ran, "bca");
}

TEST_F(stepping, no_delay_is_no_delay) {
    EXPECT_TRUE(q.queue_after(a, 0).value());
    EXPECT_FALSE(q.modify_delay(b, 0).value());
    EXPECT_EQ(steps(), 2);
}

TEST_F(stepping, a_delay_beyond_the_end_of_time_never_comes) {
    clock.advance(1'000);
    EXPECT_TRUE(q.queue_after(a, ~std::uint64_t{0}).value());
    clock.advance(1'000'000'000);
    EXPECT_FALSE(q.step());
    EXPECT_TRUE(q.cancel(a));
}

TEST_F(stepping, modify_delay_moves_an_item_wherever_it_is) {
    EXPECT_FALSE(q.modify_delay(a, 100).value());  // nowhere: as queue_after
    EXPECT_TRUE(q.modify_delay(a, 500).value());
    clock.advance(100);
    EXPECT_FALSE(q.step());
    EXPECT_TRUE(q.modify_delay(a, 10).value());
    clock.advance(10);
    EXPECT_TRUE(q.step());
    q.queue_work(b);
    EXPECT_TRUE(q.modify_delay(b, 50).value());  // from the list back to the timer
    EXPECT_FALSE(q.step());
    EXPECT_TRUE(q.modify_delay(b, 0).value());
    EXPECT_TRUE(q.step());
    EXPECT_EQ(ran, "ab");
}

TEST_F(stepping, a_delayed_item_can_be_cancelled_and_flushed) {
    (void)q.queue_after(a, 100);
    EXPECT_TRUE(q.cancel(a));
    clock.advance(100);
    EXPECT_FALSE(q.step());
    (void)q.queue_after(b, 100);
    EXPECT_TRUE(q.flush(b));  // at once
    EXPECT_EQ(ran, "b");
    EXPECT_FALSE(q.pending(b));
}

TEST_F(stepping, drain_leaves_what_waits_for_its_delay) {
    (void)q.queue_after(a, 100);
    q.queue_work(b);
    EXPECT_TRUE(q.drain().has_value());
    EXPECT_EQ(ran, "b");
    clock.advance(100);
    EXPECT_TRUE(q.drain().has_value());
    EXPECT_EQ(ran, "ba");
}

TEST_F(stepping, a_function_that_throws_counts_as_run_and_is_told_by_drain) {
    int runs = 0;
    item thrower([&] {
        ++runs;
        throw std::runtime_error("first");
    });
    item other([] { throw std::runtime_error("second"); });
    EXPECT_EQ(q.exception(), nullptr);
    q.queue_work(thrower);
    q.queue_work(other);
    q.queue_work(a);
    EXPECT_TRUE(q.flush(thrower));
    auto r = q.drain();
    ASSERT_FALSE(r.has_value());
    EXPECT_EQ(r.error().code, EIO);
    EXPECT_EQ(ran, "a");
    EXPECT_TRUE(q.drain().has_value()) << "told once";
    try {
        std::rethrow_exception(q.exception());
    } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "first");
    }
    EXPECT_TRUE(q.queue_work(thrower));
    EXPECT_FALSE(q.drain().has_value());
    EXPECT_EQ(runs, 2);
}

TEST_F(stepping, an_item_that_is_at_rest_may_go_to_another_queue) {
    queue second(clock);
    q.queue_work(a);
    EXPECT_EQ(steps(), 1);
    EXPECT_TRUE(second.queue_work(a));
    EXPECT_FALSE(q.pending(a));
    EXPECT_TRUE(second.step());
}

TEST_F(stepping, the_destructor_of_a_queue_drains_it) {
    {
        queue second(clock);
        second.queue_work(a);
        second.queue_work(b);
    }
    EXPECT_EQ(ran, "ab");
}

// ---- on workers

TEST(queue, runs_items_on_workers_inside_the_gate) {
    struct counting final : gate {
        std::atomic<int> entered{0}, left{0};
        void enter(int) override { ++entered; }
        void leave(int) override { ++left; }
    } g;
    auto set = workers(2, &g);
    queue q(*set);
    std::atomic<int> on_worker{0};
    std::vector<std::unique_ptr<item>> items;
    for (int i = 0; i < 100; ++i) {
        items.push_back(std::make_unique<item>([&] { on_worker += set->on_worker() && g.entered > g.left; }));
        q.queue_work(*items.back());
    }
    EXPECT_TRUE(q.drain().has_value());
    EXPECT_EQ(on_worker.load(), 100);
    EXPECT_EQ(g.entered.load(), 100);
    EXPECT_EQ(g.left.load(), 100);
}

TEST(queue, an_item_never_runs_beside_itself_and_each_queueing_runs) {
    auto set = workers(3);
    queue q(*set);
    std::atomic<int> inside{0}, overlaps{0}, runs{0}, accepted{0};
    item w([&] {
        overlaps += inside.fetch_add(1) != 0;
        for (int i = 0; i < 20; ++i) sys::cpu_relax();
        --inside;
        ++runs;
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 3'000; ++i) accepted += q.queue_work(w);
        });
    }
    for (auto& t : threads) t.join();
    q.flush(w);
    EXPECT_EQ(overlaps.load(), 0);
    EXPECT_EQ(runs.load(), accepted.load());
    EXPECT_GT(runs.load(), 0);
}

TEST(queue, with_max_active_one_keeps_the_order_on_several_workers) {
    auto set = workers(3);
    queue q(*set, {.name = "ordered", .max_active = 1});
    std::vector<int> order;  // no lock: one at a time
    std::vector<std::unique_ptr<item>> items;
    for (int i = 0; i < 500; ++i) {
        items.push_back(std::make_unique<item>([&order, i] { order.push_back(i); }));
        q.queue_work(*items.back());
    }
    EXPECT_TRUE(q.drain().has_value());
    ASSERT_EQ(order.size(), 500U);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(queue, max_active_bounds_what_runs_at_once) {
    auto set = workers(4);
    queue q(*set, {.max_active = 2});
    std::atomic<int> inside{0}, too_many{0}, both{0};
    std::vector<std::unique_ptr<item>> items;
    for (int i = 0; i < 60; ++i) {
        items.push_back(std::make_unique<item>([&] {
            int n = ++inside;
            too_many += n > 2;
            both += n == 2;
            wait_until([&] { return both.load() > 0; });  // the first waits inside for the second
            for (int k = 0; k < 5'000; ++k) sys::cpu_relax();
            --inside;
        }));
        q.queue_work(*items.back());
    }
    EXPECT_TRUE(q.drain().has_value());
    EXPECT_EQ(too_many.load(), 0);
    EXPECT_GT(both.load(), 0);
}

/// An item whose function waits until it is let go.
struct held {
    explicit held(queue& q) : owner(q) {}
    void begin() {
        owner.queue_work(w);
        wait_until([&] { return inside.load(); });
    }
    queue& owner;
    std::atomic<bool> inside{false}, go{false}, left{false};
    item w{[this] {
        inside = true;
        wait_until([&] { return go.load(); });
        left = true;
    }};
};

TEST(queue, flush_waits_for_a_running_function) {
    auto set = workers(1);
    queue q(*set);
    held h(q);
    h.begin();
    std::thread releaser([&] { h.go = true; });
    (void)q.flush(h.w);  // false when the function returned before the call
    EXPECT_TRUE(h.left.load());
    EXPECT_FALSE(q.flush(h.w));
    releaser.join();
}

TEST(queue, cancel_does_not_wait_and_cancel_sync_does) {
    auto set = workers(1);
    queue q(*set);
    held h(q);
    h.begin();
    EXPECT_TRUE(q.queue_work(h.w));  // behind itself
    EXPECT_TRUE(q.cancel(h.w));
    EXPECT_FALSE(h.left.load());
    std::thread releaser([&] { h.go = true; });
    EXPECT_FALSE(q.cancel_sync(h.w));
    EXPECT_TRUE(h.left.load());
    releaser.join();
}

TEST(queue, cancel_sync_stops_an_item_that_queues_itself) {
    auto set = workers(2);
    for (int i = 0; i < 50; ++i) {
        queue q(*set);
        std::atomic<int> runs{0};
        std::atomic<bool> refused{false};
        item w([&] {
            ++runs;
            if (!q.queue_work(w)) refused = true;
        });
        q.queue_work(w);
        wait_until([&] { return runs.load() > 3; });
        q.cancel_sync(w);
        int after = runs.load();
        EXPECT_FALSE(q.pending(w));
        EXPECT_TRUE(q.drain().has_value());
        EXPECT_EQ(runs.load(), after);
    }
}

TEST(queue, a_cancelled_queueing_ends_the_flush_that_waits_for_it) {
    auto set = workers(1);
    queue q(*set);
    held h(q);
    item w([] { ADD_FAILURE() << "it was cancelled"; });
    h.begin();
    q.queue_work(w);
    std::atomic<bool> flushed{false};
    std::thread flusher([&] {
        q.flush(w);
        flushed = true;
    });
    EXPECT_TRUE(q.cancel(w));
    wait_until([&] { return flushed.load(); });
    flusher.join();
    h.go = true;
    q.flush(h.w);
}

TEST(queue, an_item_on_the_only_worker_may_flush_another) {
    auto set = workers(1);
    queue q(*set), other(*set, {.name = "other", .max_active = 1});
    std::string ran;
    item inner([&] { ran += 'i'; }), elsewhere([&] { ran += 'e'; });
    item outer([&] {
        q.queue_work(inner);
        other.queue_work(elsewhere);
        EXPECT_TRUE(q.flush(inner));
        EXPECT_TRUE(other.drain().has_value());
        ran += 'o';
    });
    q.queue_work(outer);
    q.flush(outer);
    EXPECT_EQ(ran, "ieo");
}

TEST(queue, an_item_that_waits_on_a_worker_gets_that_workers_mail) {
    auto set = workers(2);
    queue q(*set);
    letter l;
    std::atomic<int> cpu_of_holder{-1};
    item holder([&] {
        cpu_of_holder = 0;
        wait_until([&] { return l.delivered() == 1; });
    });
    std::atomic<int> waiter_cpu{-1};
    q.queue_work(holder);
    wait_until([&] { return cpu_of_holder.load() == 0; });
    jobs waiter([&](context& ctx) {
        waiter_cpu = ctx.cpu;
        q.flush(holder);  // ends only when the mail of this very worker was delivered
    });
    waiter.add(1, *set);
    wait_until([&] { return waiter_cpu.load() >= 0; });
    set->post(l, waiter_cpu.load());
    wait_until([&] { return waiter.done() == 1; });
    set->retire(waiter);
}

TEST(queue, delayed_items_run_by_themselves_and_not_too_early) {
    auto set = workers(1);
    queue q(*set);
    std::atomic<std::uint64_t> first{0}, second{0};
    item a([&] { first = sys::real().now(); }), b([&] { second = sys::real().now(); });
    std::uint64_t begin = sys::real().now();
    EXPECT_TRUE(q.queue_after(a, 20'000'000).value());
    EXPECT_TRUE(q.queue_after(b, 5'000'000).value());  // the timer waits for a already
    const bool b_is_due_first = sys::real().now() + 5'000'000 < begin + 20'000'000;  // not when this thread was kept from its CPU in between
    wait_until([&] { return first.load() != 0 && second.load() != 0; });
    EXPECT_GE(first.load() - begin, 20'000'000U);
    EXPECT_GE(second.load() - begin, 5'000'000U);
    EXPECT_TRUE(second.load() < first.load() || !b_is_due_first);
    EXPECT_TRUE(q.queue_after(a, 3'600'000'000'000).value());
    EXPECT_TRUE(q.queue_after(b, 1'000).value());  // the timer must not wait for an hour
    wait_until([&] { return !q.pending(b) && second.load() > first.load(); });
    EXPECT_TRUE(q.modify_delay(a, 1'000).value());
    wait_until([&] { return first.load() > second.load() && !q.pending(a); });
    EXPECT_TRUE(q.queue_after(a, 3'600'000'000'000).value());
    EXPECT_TRUE(q.flush(a));
    EXPECT_FALSE(q.queue_after(a, ~std::uint64_t{0}).value() == false);
    EXPECT_TRUE(q.cancel_sync(a));
}

TEST(queue, a_timer_that_never_fired_takes_no_signals_and_ends_with_its_queue) {
    auto set = workers(1);
    queue q(*set, {.name = "quiet"});
    item a([] {});
    (void)q.queue_after(a, 3'600'000'000'000);
    EXPECT_TRUE(sys::testing::blocks_signals("quiet/timer"));
    EXPECT_TRUE(q.cancel(a));
}

TEST(queue, poll_and_step_run_items_on_lent_threads) {
    auto set = worker_set::create({.name = "t", .general = cpumask{0}, .own_threads = false}).value();
    queue q(*set);
    int runs = 0;
    item a([&] { ++runs; }), b([&] { ++runs; });
    q.queue_work(a);
    q.queue_work(b);
    EXPECT_TRUE(set->poll());
    EXPECT_TRUE(q.step());
    EXPECT_FALSE(q.step());
    EXPECT_FALSE(set->poll());
    EXPECT_EQ(runs, 2);
}

TEST(queue, items_are_queued_cancelled_and_flushed_from_all_sides) {
    auto set = workers(3);
    queue q(*set, {.max_active = 2});
    constexpr int items_count = 8;
    struct one {
        std::atomic<int> inside{0}, runs{0}, accepted{0}, cancelled{0};
        std::unique_ptr<item> w;
    };
    std::vector<one> all(items_count);
    std::atomic<int> overlaps{0};
    for (one& o : all) {
        o.w = std::make_unique<item>([&o, &overlaps] {
            overlaps += o.inside.fetch_add(1) != 0;
            sys::cpu_relax();
            --o.inside;
            ++o.runs;
        });
    }
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            unsigned state = 12'345 + t;
            for (int i = 0; i < 4'000; ++i) {
                state = state * 1'664'525 + 1'013'904'223;
                one& o = all[(state >> 10) % items_count];
                switch ((state >> 20) % 8) {
                    case 0: o.cancelled += q.cancel(*o.w); break;
                    case 1: o.cancelled += q.cancel_sync(*o.w); break;
                    case 2: (void)q.flush(*o.w); break;
                    case 3: o.accepted += q.queue_after(*o.w, state % 50'000).value(); break;
                    default: o.accepted += q.queue_work(*o.w);
                }
            }
        });
    }
    for (auto& t : threads) t.join();
    for (one& o : all) {
        q.flush(*o.w);
        EXPECT_EQ(o.runs + o.cancelled, o.accepted.load());
    }
    EXPECT_EQ(overlaps.load(), 0);
}

// ---- callers' bugs

struct queue_death : ::testing::Test {
    queue_death() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
    sys::fake_clock clock{sys::real()};
};

TEST_F(queue_death, flushing_or_awaiting_itself) {
    for (int how = 0; how < 4; ++how) {
        EXPECT_DEATH(
            {
                queue q(clock);
                item w([&] {
                    if (how == 0) (void)q.flush(w);
                    if (how == 1) (void)q.cancel_sync(w);
                    if (how == 2) (void)q.drain();
                    if (how == 3) q.~queue();
                });
                q.queue_work(w);
                (void)q.step();
            },
            how == 0 ? "flushed from its own function" : how == 1 ? "cancelled, with waiting, from its own function"
            : how == 2 ? "drained from one of its own items" : "destroyed from one of its own items");
    }
}

TEST_F(queue_death, destroying_a_pending_or_delayed_item) {
    queue q(clock);
    EXPECT_DEATH({ item w([] {}); q.queue_work(w); }, "destroyed while it is pending or runs");
    EXPECT_DEATH({ item w([] {}); (void)q.queue_after(w, 1); }, "destroyed while it is pending or runs");
}

TEST_F(queue_death, destroying_a_queue_with_a_delayed_item) {
    EXPECT_DEATH(
        {
            item w([] {});
            queue q(clock);
            (void)q.queue_after(w, 1);
        },
        "destroyed while an item waits for its delay");
}

TEST_F(queue_death, using_an_item_on_two_queues) {
    EXPECT_DEATH(
        {
            queue q(clock);
            queue second(clock);
            item w([] {});
            q.queue_work(w);
            second.queue_work(w);
        },
        "on a second queue");
}

TEST_F(queue_death, flushing_inside_a_queue_that_runs_one_at_a_time) {
    const queue_options one_at_a_time{.name = "ordered", .max_active = 1};
    EXPECT_DEATH(
        {
            queue q(clock, one_at_a_time);
            item other([] {});
            item w([&] { q.flush(other); });
            q.queue_work(w);
            (void)q.step();
        },
        "runs one at a time");
}

}  // namespace
}  // namespace cohort::work
