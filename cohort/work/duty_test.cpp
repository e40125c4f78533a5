// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/duty.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <thread>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/threads.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/follow.hpp>
#include <cohort/work/testing/sources.hpp>

namespace cohort::work {
namespace {

using testing::wait_until;
constexpr std::uint64_t never_ns = 3'600'000'000'000;

TEST(duty, runs_at_once_and_again_after_its_time) {
    std::atomic<int> ran{0};
    auto d = duty::start({.every_ns = 100'000, .run = [&] { ++ran; }}).value();
    wait_until([&] { return ran.load() >= 3; });
    d.reset();
    const int at_end = ran.load();
    auto other = duty::start({.every_ns = never_ns, .run = [] {}}).value();
    other->run_now();
    other->run_now();
    EXPECT_EQ(ran.load(), at_end) << "it ran after its end";
}

TEST(duty, does_not_run_before_its_time_unless_hurried) {
    std::atomic<int> ran{0};
    auto d = duty::start({.every_ns = never_ns, .run = [&] { ++ran; }}).value();
    d->run_now();  // the first run has ended, and perhaps a second
    const int before = ran.load();
    auto ticker = duty::start({.every_ns = never_ns, .run = [] {}}).value();
    for (int i = 0; i < 10; ++i) ticker->run_now();  // the thread goes round and round
    EXPECT_EQ(ran.load(), before);
    d->hurry();
    wait_until([&] { return ran.load() == before + 1; });
    d->run_now();
    EXPECT_EQ(ran.load(), before + 2);
}

TEST(duty, a_readable_descriptor_calls_for_it) {
    auto ends = sys::real().pipe().value();
    const sys::owned_fd out(sys::real(), ends.read), in(sys::real(), ends.write);
    ASSERT_TRUE(sys::real().set_nonblocking(out.get(), true));
    std::atomic<int> got{0};
    auto d = duty::start({.every_ns = never_ns, .fd = [&] { return out.get(); }, .run = [&] {
                              std::byte b;
                              while (sys::real().read(out.get(), std::span(&b, 1))) ++got;
                          }})
                 .value();
    d->run_now();
    EXPECT_EQ(got.load(), 0);
    ASSERT_TRUE(sys::write_all(sys::real(), in.get(), "ab"));
    wait_until([&] { return got.load() == 2; });
}

TEST(duty, all_share_a_thread_that_ends_with_the_last) {
    std::atomic<int> first{0}, second{0};
    auto a = duty::start({.every_ns = never_ns, .run = [&] { first = sys::thread_id(); }}).value();
    auto b = duty::start({.every_ns = never_ns, .run = [&] { second = sys::thread_id(); }}).value();
    a->run_now();
    b->run_now();
    EXPECT_EQ(first.load(), second.load());
    EXPECT_NE(first.load(), sys::thread_id());
    const std::string stat = "/proc/self/task/" + std::to_string(first.load()) + "/comm";
    EXPECT_EQ(sys::read_line(sys::real(), stat).value(), "cohort/duty");
    EXPECT_TRUE(sys::testing::blocks_signals("cohort/duty"));
    a.reset();
    EXPECT_TRUE(sys::real().stat(stat));
    b.reset();
    // A thread that is joined stays in /proc until the kernel has reaped it.
    EXPECT_TRUE(wait_until([&] { return !sys::real().stat(stat); }, "for the end of the thread"));
}

TEST(duty, its_end_waits_for_a_run_under_way) {
    std::latch inside(1), go(1);
    std::atomic<bool> ended{false};
    auto d = duty::start({.every_ns = never_ns, .run = [&] {
                              inside.count_down();
                              go.wait();
                              ended = true;
                          }})
                 .value();
    inside.wait();
    std::atomic<bool> gone{false};
    std::thread ender([&] {
        d.reset();
        EXPECT_TRUE(ended.load());
        gone = true;
    });
    for (int i = 0; i < 100; ++i) sys::yield_thread();
    EXPECT_FALSE(gone.load());
    go.count_down();
    ender.join();
}

TEST(duty, one_may_end_another_from_its_function) {
    auto victim = duty::start({.every_ns = 50'000, .run = [] {}}).value();
    std::atomic<bool> done{false};
    auto d = duty::start({.every_ns = never_ns, .run = [&] {
                              victim.reset();
                              done = true;
                          }})
                 .value();
    wait_until([&] { return done.load(); });
}

TEST(duty_death, its_own_function_must_not_end_it) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            std::unique_ptr<duty> d;
            std::latch set(1);
            d = duty::start({.every_ns = never_ns, .run = [&] {
                                 set.wait();
                                 d.reset();
                             }})
                    .value();
            set.count_down();
            std::this_thread::sleep_for(std::chrono::seconds(30));
        },
        "a duty is destroyed from its own function");
}

TEST(follow_machine, is_one_for_the_process_and_knows_what_may_be_used) {
    auto first = follow_machine().value(), second = follow_machine().value();
    EXPECT_EQ(first.get(), second.get());
    EXPECT_EQ(first->now().cpus, machine::usable(sys::real()).value().cpus);
}

TEST(follow_machine, hears_of_an_affinity_that_is_changed_from_outside_for_all_threads) {
    auto here = sys::thread_affinity().value();
    if (here.weight() < 2) GTEST_SKIP() << "needs two CPUs, has " << here.list();
    auto live = follow_machine().value();
    ASSERT_EQ(live->now().affinity, here);
    // The thread that watches: what taskset -a does to it.
    int watcher = 0;
    auto asks = duty::start({.every_ns = never_ns, .run = [&] { watcher = sys::thread_id(); }}).value();
    asks->run_now();
    std::atomic<int> told{0};
    notifier::block b([&](unsigned long, void*) {
        ++told;
        return notifier::ok;
    });
    ASSERT_TRUE(live->chain().add(b));
    ASSERT_TRUE(sys::real().sched_setaffinity(watcher, cpumask{here.last()}));
    wait_until([&] { return told.load() == 1; });
    EXPECT_EQ(live->now().cpus, cpumask{here.last()});
    ASSERT_TRUE(sys::real().sched_setaffinity(watcher, here));
    wait_until([&] { return told.load() == 2; });
    EXPECT_EQ(live->now().cpus, here);
    ASSERT_TRUE(live->chain().remove(b));
}

}  // namespace
}  // namespace cohort::work
