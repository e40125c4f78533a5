// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/rcu_sync.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/percpu/testing/stress.hpp>

namespace cohort::percpu {
namespace {

using state = rcu_sync::state;

/// What happens while a grace period runs; and how many there were.
constinit std::function<void()>* meanwhile = nullptr;
constinit std::atomic<int> grace_periods{0};

void fake_grace_period() noexcept {
    ++grace_periods;
    if (meanwhile) std::exchange(meanwhile, nullptr)->operator()();
    sys::restart_sequences();
}

struct rcu_sync_test : ::testing::Test {
    void SetUp() override {
        if (detail::current_mode() == detail::mode::atomics) GTEST_SKIP() << "no sequences here: readers are always slow, see with_atomics_readers_are_never_fast";
        grace_periods = 0;
        meanwhile = nullptr;
        per_cpu(fast, 0);
    }
    bool any_up() const {
        bool up = false;
        for_each_present_cpu(fast, [&](unsigned, std::uint32_t& f) { up |= std::atomic_ref<std::uint32_t>(f).load() != 0; });
        return up;
    }
    bool all_up() const {
        bool up = true;
        for_each_present_cpu(fast, [&](unsigned, std::uint32_t& f) { up &= std::atomic_ref<std::uint32_t>(f).load() == 1; });
        return up;
    }
    void while_it_runs(std::function<void()> f) {
        hook = std::move(f);
        meanwhile = &hook;
    }

    testing::bare_chunk chunk;
    handle<std::uint32_t> fast = chunk.at<std::uint32_t>(0);
    rcu_sync sync{fast, fake_grace_period};
    std::function<void()> hook;
};

TEST_F(rcu_sync_test, begins_idle_with_flags_down_that_readers_put_up) {
    EXPECT_TRUE(sync.is_idle());
    EXPECT_FALSE(any_up());
    sync.allow_here();
    EXPECT_TRUE(any_up());
    EXPECT_EQ(grace_periods, 0);
}

TEST_F(rcu_sync_test, the_first_writer_lowers_the_flags_before_its_grace_period) {
    sync.allow_here();
    while_it_runs([&] {
        EXPECT_EQ(sync.now(), state::enter);
        EXPECT_FALSE(any_up());
        sync.allow_here();
        EXPECT_FALSE(any_up()) << "not idle";
    });
    sync.enter();
    EXPECT_EQ(meanwhile, nullptr) << "there was one";
    EXPECT_EQ(sync.now(), state::passed);
    EXPECT_EQ(sync.writers(), 1u);
    EXPECT_GT(sync.grace_ticks(), 0u);
    sync.exit();
}

TEST_F(rcu_sync_test, writers_that_follow_closely_pass_without_a_grace_period) {
    for (int i = 0; i < 3; ++i) {
        sync.enter();
        sync.enter();
        sync.exit();
        sync.exit();
        EXPECT_EQ(sync.now(), state::passed);
        EXPECT_EQ(sync.writers(), 0u);
    }
    EXPECT_EQ(grace_periods, 1);
}

TEST_F(rcu_sync_test, settles_after_a_grace_period_and_not_before_the_last_writer_has_gone) {
    EXPECT_FALSE(sync.settle()) << "it is idle";
    sync.enter();
    sync.enter();
    sync.exit();
    EXPECT_FALSE(sync.settle()) << "one is inside";
    EXPECT_EQ(grace_periods, 1);
    sync.exit();
    while_it_runs([&] {
        EXPECT_EQ(sync.now(), state::exit);
        EXPECT_FALSE(any_up());
        EXPECT_FALSE(sync.settle()) << "one is under way";
    });
    EXPECT_TRUE(sync.settle());
    EXPECT_EQ(grace_periods, 2);
    EXPECT_TRUE(sync.is_idle());
    EXPECT_TRUE(all_up());
}

TEST_F(rcu_sync_test, a_writer_that_comes_during_exit_keeps_readers_slow) {
    sync.enter();
    sync.exit();
    while_it_runs([&] {
        sync.enter();
        EXPECT_EQ(sync.now(), state::exit);
    });
    EXPECT_FALSE(sync.settle());
    EXPECT_EQ(grace_periods, 2) << "its enter() passed without one";
    EXPECT_EQ(sync.now(), state::passed);
    EXPECT_EQ(sync.writers(), 1u);
    EXPECT_FALSE(any_up());
    sync.exit();
    EXPECT_TRUE(sync.settle());
}

TEST_F(rcu_sync_test, a_writer_that_comes_and_goes_during_exit_makes_it_replay) {
    sync.enter();
    sync.exit();
    while_it_runs([&] {
        sync.enter();
        sync.exit();
        EXPECT_EQ(sync.now(), state::replay);
        sync.enter();
        sync.exit();
        EXPECT_EQ(sync.now(), state::replay);
    });
    EXPECT_FALSE(sync.settle()) << "that grace period proves nothing about the last writer";
    EXPECT_EQ(sync.now(), state::passed);
    EXPECT_FALSE(any_up());
    EXPECT_TRUE(sync.settle());
    EXPECT_EQ(grace_periods, 3);
    EXPECT_TRUE(all_up());
}

TEST_F(rcu_sync_test, a_second_writer_waits_for_the_first_ones_grace_period) {
    std::atomic<bool> inside{false};
    std::jthread second;
    while_it_runs([&] {
        second = std::jthread([&] {
            sync.enter();
            EXPECT_EQ(sync.now(), state::passed);
            inside = true;
            sync.exit();
        });
        while (sync.writers() < 2) std::this_thread::yield();
        for (int i = 0; i < 100; ++i) {
            EXPECT_FALSE(inside);
            std::this_thread::yield();
        }
    });
    sync.enter();
    second.join();
    EXPECT_TRUE(inside);
    EXPECT_EQ(grace_periods, 1);
    sync.exit();
}

TEST_F(rcu_sync_test, leaves_its_flags_down) {
    {
        rcu_sync other(fast);
        other.allow_here();
        EXPECT_TRUE(any_up());
    }
    EXPECT_FALSE(any_up());
}

TEST_F(rcu_sync_test, misuse_ends_the_program) {
    EXPECT_DEATH(sync.exit(), "without enter");
    EXPECT_DEATH(
        {
            sync.enter();
            sync.exit();
            sync.exit();
        },
        "without enter");
    EXPECT_DEATH(
        {
            rcu_sync other(fast);
            other.enter();
        },
        "writer inside");
}

/// Readers count by sequences; writers sum and see that nothing moves. Settled again and again.
TEST_F(rcu_sync_test, no_reader_is_fast_while_a_writer_is_inside) {
    struct unit {
        std::uint32_t up;
        std::uint64_t n;
    };
    const auto h = chunk.at<unit>(256);
    rcu_sync real(h.member(&unit::up));
    std::atomic<bool> stop{false};
    std::atomic<long> fast_reads{0}, slow_reads{0};
    std::vector<std::jthread> readers;
    for (int t = 0; t < 4; ++t) {
        readers.emplace_back([&] {
            while (!stop) {
                if (detail::sequence::add_if_set<by::cpu, handle<unit>::layout, -8>(h.value() + 8, std::uint64_t{1})) fast_reads.fetch_add(1, std::memory_order_relaxed);
                else real.allow_here(), slow_reads.fetch_add(1, std::memory_order_relaxed);
            }
        });
    }
    const int rounds = testing::scaled(1'000);
    testing::in_threads(2, [&](int t) {
        for (int i = 0; i < rounds; ++i) {
            real.enter();
            const std::uint64_t before = sum(h.member(&unit::n));
            if (t == 0) std::this_thread::yield();
            EXPECT_EQ(sum(h.member(&unit::n)), before);
            real.exit();
            if (i % 4 == t) real.settle();
        }
    });
    stop = true;
    readers.clear();
    EXPECT_GT(fast_reads, 0);
    EXPECT_GT(slow_reads, 0);
    EXPECT_EQ(sum(h.member(&unit::n)), static_cast<std::uint64_t>(fast_reads.load()));
}

TEST(rcu_sync_without_sequences, readers_are_never_fast) {
    if (detail::current_mode() != detail::mode::atomics) GTEST_SKIP() << "sequences work here; GLIBC_TUNABLES=glibc.pthread.rseq=0 runs this";
    const testing::bare_chunk chunk;
    const auto fast = chunk.at<std::uint32_t>(0);
    rcu_sync sync(fast, fake_grace_period);
    grace_periods = 0;
    EXPECT_FALSE(sync.is_idle());
    sync.allow_here();
    sync.enter();
    EXPECT_EQ(sync.writers(), 1u);
    sync.exit();
    EXPECT_FALSE(sync.settle());
    EXPECT_EQ(sum(fast), 0u);
    EXPECT_EQ(grace_periods, 0);
}

}  // namespace
}  // namespace cohort::percpu
