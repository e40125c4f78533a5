// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/executor.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <cohort/padata/shell.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::padata {
namespace {

std::unique_ptr<instance> make_instance(instance_options options = {}) { return instance::create(std::move(options)).value(); }

/// A loop with a thread of its own, as an event loop has it.
class loop {
public:
    loop() : thread_([this] { main(); }) {}
    ~loop() {
        {
            std::lock_guard hold(lock_);
            stop_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    void add(turn& t) {
        std::lock_guard hold(lock_);
        queue_.push_back(&t);
        ++posts_;
        changed_.notify_all();
    }
    std::thread::id id() const { return thread_.get_id(); }
    int posts() {
        std::lock_guard hold(lock_);
        return posts_;
    }

private:
    void main() {
        std::unique_lock hold(lock_);
        for (;;) {
            changed_.wait(hold, [this] { return stop_ || !queue_.empty(); });
            if (queue_.empty()) return;
            turn* t = queue_.front();
            queue_.pop_front();
            hold.unlock();
            t->run();
            hold.lock();
        }
    }
    std::mutex lock_;
    std::condition_variable changed_;
    std::deque<turn*> queue_;
    bool stop_ = false;
    int posts_ = 0;
    std::thread thread_;
};

struct checker {
    std::atomic<int> inside{0};
    std::uint64_t next = 0;  // guarded by the order itself
    std::atomic<int> bad{0}, elsewhere{0};
    void serial(std::uint64_t number, std::thread::id where) {
        if (inside.fetch_add(1) != 0 || number != next) ++bad;
        if (std::this_thread::get_id() != where) ++elsewhere;
        ++next;
        inside.fetch_sub(1);
    }
};

TEST(executor, runs_every_serial_on_its_thread_in_order) {
    auto inst = make_instance();
    loop strand;
    executor_of on_strand([&](turn& t) { strand.add(t); });
    checker out;
    {
        auto s = shell::create(*inst, {.window = 256, .serial = &on_strand}).value();
        for (std::uint64_t i = 0; i < 20'000; ++i) ASSERT_TRUE(s.submit([] {}, [&out, &strand, i] { out.serial(i, strand.id()); }));
        ASSERT_TRUE(s.drain());
        EXPECT_EQ(s.stats().ran_inline, 0u);
    }
    EXPECT_EQ(out.next, 20'000u);
    EXPECT_EQ(out.bad.load(), 0);
    EXPECT_EQ(out.elsewhere.load(), 0);
    EXPECT_GE(strand.posts(), 20'000 / 256) << "a run is 64 completions and what finished meanwhile, no more than the window";
}

TEST(executor, one_serves_many_streams_each_in_its_order) {
    auto inst = make_instance();
    loop strand;
    executor_of on_strand([&](turn& t) { strand.add(t); });
    std::deque<checker> outs;
    std::vector<shell> shells;
    for (int i = 0; i < 50; ++i) {
        outs.emplace_back();
        shells.push_back(shell::create(*inst, {.window = 16, .serial = &on_strand}).value());
    }
    for (std::uint64_t n = 0; n < 200; ++n) {
        for (std::size_t i = 0; i < shells.size(); ++i) {
            ASSERT_TRUE(shells[i].submit([] {}, [&out = outs[i], &strand, n] { out.serial(n, strand.id()); }));
        }
    }
    for (std::size_t i = 0; i < shells.size(); ++i) {
        ASSERT_TRUE(shells[i].drain());
        EXPECT_EQ(outs[i].next, 200u);
        EXPECT_EQ(outs[i].bad.load() + outs[i].elsewhere.load(), 0);
    }
}

TEST(executor, a_run_is_bounded_and_posts_itself_again) {
    auto inst = make_instance();
    std::mutex lock;
    turn* posted = nullptr;
    executor_of by_hand([&](turn& t) {
        std::lock_guard hold(lock);
        EXPECT_EQ(posted, nullptr) << "a turn is posted while it is posted";
        posted = &t;
    });
    auto take_posted = [&] {
        std::lock_guard hold(lock);
        return std::exchange(posted, nullptr);
    };
    auto s = shell::create(*inst, {.window = 512, .serial = &by_hand}).value();
    int delivered = 0;
    std::atomic<int> ran{0};
    for (int i = 0; i < 300; ++i) ASSERT_TRUE(s.submit([&] { ++ran; }, [&] { ++delivered; }));
    while (ran.load() != 300) sys::yield_thread();
    int runs = 0;
    while (delivered < 300) {
        turn* t = take_posted();
        if (!t) {
            sys::yield_thread();
            continue;
        }
        int before = delivered;
        t->run();
        ++runs;
        EXPECT_LE(delivered - before, 64);
    }
    EXPECT_GE(runs, 5);
    ASSERT_TRUE(s.drain());
}

TEST(polling, serial_runs_in_shell_poll_alone) {
    auto inst = make_instance();
    auto s = shell::create(*inst, {.window = 64, .when_full = full_policy::eagain, .serial = by_polling()}).value();
    checker out;
    const auto me = std::this_thread::get_id();
    std::uint64_t submitted = 0;
    while (submitted < 5'000) {
        const std::uint64_t before = out.next;
        const bool taken = s.submit([] {}, [&, n = submitted] { out.serial(n, me); }).has_value();
        EXPECT_EQ(out.next, before) << "serial() ran in do_parallel";
        submitted += taken;
        if (!taken) s.poll();
    }
    EXPECT_LT(out.next, 5'000u);
    while (out.next < 5'000) s.poll();
    EXPECT_FALSE(s.poll());
    EXPECT_EQ(out.bad.load() + out.elsewhere.load(), 0);
}

TEST(polling, instance_poll_serves_all_its_streams_from_one_thread) {
    auto inst = make_instance();
    std::deque<checker> outs;
    std::vector<shell> shells;
    std::atomic<bool> stop{false};
    std::thread poller([&] {
        while (!stop.load()) {
            if (!inst->poll()) sys::yield_thread();
        }
    });
    const auto where = poller.get_id();
    for (int i = 0; i < 20; ++i) {
        outs.emplace_back();
        shells.push_back(shell::create(*inst, {.window = 16, .when_full = i % 2 ? full_policy::help : full_policy::block, .serial = by_polling()}).value());
    }
    for (std::uint64_t n = 0; n < 500; ++n) {
        for (std::size_t i = 0; i < shells.size(); ++i) {
            ASSERT_TRUE(shells[i].submit([] {}, [&out = outs[i], where, n] { out.serial(n, where); }));  // waits for the poller where it is full
        }
    }
    for (std::size_t i = 0; i < shells.size(); ++i) {
        while (shells[i].stats().delivered < 500) sys::yield_thread();
        EXPECT_EQ(outs[i].bad.load() + outs[i].elsewhere.load(), 0);
    }
    stop = true;
    poller.join();
}

TEST(polling, drain_polls_and_destruction_too) {
    auto inst = make_instance();
    std::uint64_t delivered = 0;
    {
        auto s = shell::create(*inst, {.serial = by_polling()}).value();
        for (int i = 0; i < 500; ++i) ASSERT_TRUE(s.submit([] {}, [&] { ++delivered; }));
        ASSERT_TRUE(s.drain());
        EXPECT_EQ(delivered, 500u);
        for (int i = 0; i < 500; ++i) ASSERT_TRUE(s.submit([] {}, [&] { ++delivered; }));
    }
    EXPECT_EQ(delivered, 1'000u);
}

/// One drains while another polls: whoever gets the turn runs it, and the other is woken at the end.
TEST(polling, drain_beside_a_poller_ends) {
    auto inst = make_instance();
    std::atomic<bool> stop{false};
    std::thread poller([&] {
        while (!stop.load()) {
            if (!inst->poll()) sys::yield_thread();
        }
    });
    for (int round = 0; round < 300; ++round) {
        auto s = shell::create(*inst, {.window = 32, .serial = by_polling()}).value();
        checker out;
        for (std::uint64_t i = 0; i < 100; ++i) ASSERT_TRUE(s.submit([] {}, [&out, i] { out.serial(i, std::this_thread::get_id()); }));
        ASSERT_TRUE(s.drain());
        EXPECT_EQ(out.next, 100u);
        EXPECT_EQ(out.bad.load(), 0);
    }
    stop = true;
    poller.join();
}

TEST(polling, without_threads_a_stream_is_worked_by_its_own_poll) {
    auto inst = make_instance({.own_threads = false});
    auto s = shell::create(*inst, {.window = 16, .when_full = full_policy::eagain, .serial = by_polling()}).value();
    checker out;
    const auto me = std::this_thread::get_id();
    for (std::uint64_t n = 0; n < 300;) {
        if (s.submit([] {}, [&out, me, n] { out.serial(n, me); })) ++n;
        else EXPECT_TRUE(s.poll());
    }
    while (s.poll()) {
    }
    EXPECT_EQ(out.next, 300u);
    EXPECT_EQ(out.bad.load(), 0);
}

using executor_death = ::testing::Test;

TEST(executor_death, a_turn_inside_post_or_run_twice_is_a_callers_bug) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            auto inst = make_instance();
            executor_of at_once([](turn& t) { t.run(); });
            auto s = shell::create(*inst, {.serial = &at_once}).value();
            (void)s.submit([] {}, [] {});
            (void)s.drain();
        },
        "inside post");
    EXPECT_DEATH(
        {
            auto inst = make_instance();
            std::atomic<turn*> posted{nullptr};
            executor_of by_hand([&](turn& t) { posted = &t; });
            auto s = shell::create(*inst, {.serial = &by_hand}).value();
            (void)s.submit([] {}, [] {});
            while (!posted.load()) sys::yield_thread();
            posted.load()->run();
            posted.load()->run();
        },
        "second time");
}

}  // namespace
}  // namespace cohort::padata
