// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/ref.hpp>

#include <gtest/gtest.h>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/percpu/testing/stress.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::in_threads;
using testing::scaled;

struct ref_test : ::testing::Test {
    testing::bare_chunk chunk;
    handle<ref::unit> units = chunk.at<ref::unit>(64);
    int released = 0;
    ref::function count_release = [this] { ++released; };
    std::uint64_t in_units() const { return sum(units.member(&ref::unit::count)); }
};

TEST_F(ref_test, the_last_put_after_kill_releases_once) {
    ref r(units, count_release);
    EXPECT_TRUE(r.is_percpu());
    r.get();
    r.get_many(3);
    r.put();
    EXPECT_FALSE(r.is_zero());
    EXPECT_FALSE(r.is_dying());
    r.kill();
    EXPECT_TRUE(r.is_dying());
    EXPECT_FALSE(r.is_percpu());
    EXPECT_EQ(released, 0);
    r.put_many(2);
    EXPECT_EQ(released, 0);
    EXPECT_FALSE(r.is_zero());
    r.put();
    EXPECT_EQ(released, 1);
    EXPECT_TRUE(r.is_zero());
}

TEST_F(ref_test, counts_in_units_while_it_is_percpu_and_not_afterwards) {
    ref r(units, count_release);
    r.get();
    r.get();
    r.get();
    const bool in_word_only = detail::current_mode() == detail::mode::atomics;
    EXPECT_GE(in_units(), in_word_only ? 0u : 1u) << "the first on a CPU puts up its flag";
    r.put_many(3);
    r.switch_to_atomic_sync();
    EXPECT_EQ(in_units(), 0u);
    r.get();
    EXPECT_EQ(in_units(), 0u);
    r.put();
}

TEST_F(ref_test, tries_fail_at_zero_and_live_ones_when_it_is_dying) {
    ref r(units, count_release);
    EXPECT_TRUE(r.tryget());
    EXPECT_TRUE(r.tryget_many(2));
    EXPECT_TRUE(r.tryget_live());
    r.kill();
    EXPECT_FALSE(r.tryget_live());
    EXPECT_TRUE(r.tryget());
    r.put_many(5);
    EXPECT_EQ(released, 1);
    EXPECT_FALSE(r.tryget());
    EXPECT_FALSE(r.tryget_many(2));
    EXPECT_FALSE(r.tryget_live());
    EXPECT_TRUE(r.is_zero());
}

TEST_F(ref_test, kill_confirms_when_nobody_counts_in_units_and_before_the_release) {
    ref r(units, count_release);
    r.get();
    r.put();
    bool confirmed = false;
    r.kill_and_confirm([&] {
        confirmed = true;
        EXPECT_TRUE(r.is_dying());
        EXPECT_FALSE(r.is_percpu());
        EXPECT_FALSE(r.tryget_live());
        EXPECT_EQ(released, 0);
    });
    EXPECT_TRUE(confirmed);
    EXPECT_EQ(released, 1);
}

TEST_F(ref_test, units_may_wrap) {
    const cpumask all = sys::thread_affinity().value();
    ref r(units, count_release);
    ASSERT_TRUE(sys::pin_thread(cpumask{all.last()}));
    r.get();
    r.get_many(10);
    ASSERT_TRUE(sys::pin_thread(cpumask{all.first()}));
    r.get();
    r.put_many(12);
    ASSERT_TRUE(sys::pin_thread(all));
    r.kill();
    EXPECT_EQ(released, 1);
}

TEST_F(ref_test, switches_to_atomic_and_back_keeping_its_count) {
    ref r(units, count_release, ref_flags::allow_reinit);
    r.get_many(5);
    int confirmed = 0;
    r.switch_to_atomic([&] { ++confirmed; });
    r.switch_to_atomic([&] { ++confirmed; });
    EXPECT_EQ(confirmed, 2) << "also when it is atomic already";
    EXPECT_FALSE(r.is_percpu());
    r.put_many(2);
    r.switch_to_percpu();
    r.switch_to_percpu();
    EXPECT_TRUE(r.is_percpu());
    r.put_many(3);
    r.kill();
    EXPECT_EQ(released, 1);
}

TEST_F(ref_test, reinit_revives_what_was_released) {
    ref r(units, count_release, ref_flags::allow_reinit);
    for (int life = 1; life <= 3; ++life) {
        r.get();
        r.put();
        r.kill();
        EXPECT_EQ(released, life);
        r.reinit();
        EXPECT_FALSE(r.is_dying());
        EXPECT_TRUE(r.is_percpu());
        EXPECT_TRUE(r.tryget_live());
        r.put();
    }
    r.kill();
}

TEST_F(ref_test, resurrect_revives_what_is_still_held) {
    ref r(units, count_release, ref_flags::allow_reinit);
    r.get();
    r.kill();
    r.resurrect();
    EXPECT_FALSE(r.is_dying());
    r.put();
    EXPECT_EQ(released, 0);
    r.kill();
    EXPECT_EQ(released, 1);
}

TEST_F(ref_test, stays_atomic_over_a_revival_when_told_so) {
    ref r(units, count_release, ref_flags::init_atomic);
    EXPECT_FALSE(r.is_percpu());
    r.kill();
    r.reinit();
    EXPECT_FALSE(r.is_percpu());
    r.switch_to_percpu();
    EXPECT_TRUE(r.is_percpu());
    r.kill();
    r.switch_to_percpu();
    EXPECT_FALSE(r.is_percpu()) << "it is dead";
    r.reinit();
    EXPECT_TRUE(r.is_percpu());
    r.switch_to_atomic_sync();
    r.kill();
    EXPECT_EQ(released, 3);
    r.reinit();
    EXPECT_FALSE(r.is_percpu()) << "told so before it was killed";
}

TEST_F(ref_test, born_dead_is_revived_by_reinit) {
    ref r(units, count_release, ref_flags::init_dead);
    EXPECT_TRUE(r.is_dying());
    EXPECT_TRUE(r.is_zero());
    EXPECT_FALSE(r.tryget());
    r.reinit();
    EXPECT_TRUE(r.is_percpu());
    r.kill();
    EXPECT_EQ(released, 1);
}

TEST_F(ref_test, the_function_may_destroy_it) {
    for (const bool by_kill : {true, false}) {
        std::unique_ptr<ref> r;
        r = ref::create([&] { r.reset(); }).value();
        ref& there = *r;
        if (!by_kill) there.get();
        there.kill();
        if (!by_kill) there.put();
        EXPECT_EQ(r, nullptr);
    }
}

TEST_F(ref_test, misuse_ends_the_program) {
    ref r(units, count_release, ref_flags::allow_reinit), fixed(chunk.at<ref::unit>(128), {});
    EXPECT_DEATH({ r.get(); r.kill(); r.kill(); }, "killed twice");
    EXPECT_DEATH({ r.get(); r.kill(); r.reinit(); }, "count is not 0");
    EXPECT_DEATH(r.resurrect(), "not dying");
    EXPECT_DEATH(r.reinit(), "not dying");
    EXPECT_DEATH({ fixed.kill(); fixed.reinit(); }, "without allow_reinit");
    EXPECT_DEATH(fixed.switch_to_percpu(), "without allow_reinit");
    EXPECT_DEATH({ r.get(); r.put_many(2); r.kill(); }, "found as it became atomic");
    EXPECT_DEATH({ r.kill(); r.put(); }, "more puts than gets");
    EXPECT_DEATH({ r.kill(); r.get(); }, "count is 0");
    EXPECT_DEATH({ r.switch_to_atomic(); r.put(); r.switch_to_percpu(); }, "becomes percpu");
}

/// 64 threads take and put; the owner ends it in between. Nobody takes after the confirmation; the release comes once, after the last put.
TEST_F(ref_test, is_released_after_the_last_put_of_64_threads) {
    for (int round = 0; round < scaled(10); ++round) {
        std::atomic<bool> confirmed{false};
        std::atomic<long> held{0}, wrong{0};
        std::atomic<int> releases{0};
        long written[64] = {};
        long seen_by_release = -1, expected = 0;
        auto made = ref::create([&] {
            ++releases;
            if (held != 0) ++wrong;
            seen_by_release = 0;
            for (const long w : written) seen_by_release += w;
        });
        ASSERT_TRUE(made);
        ref& r = **made;
        std::atomic<int> started{0};
        std::jthread owner([&] {
            while (started < 64) std::this_thread::yield();
            for (int i = 0; i < 20; ++i) std::this_thread::yield();
            r.kill_and_confirm([&] { confirmed = true; });
        });
        in_threads(64, [&](int t) {
            ++started;
            for (int i = 0;; ++i) {
                const bool late = confirmed;
                if (!r.tryget_live()) break;
                if (late) ++wrong;
                ++held;
                if (i % 16 == 0) std::this_thread::yield();
                ++written[t];
                --held;
                r.put();
            }
        });
        owner.join();
        for (const long w : written) expected += w;
        EXPECT_EQ(releases, 1);
        EXPECT_EQ(wrong, 0);
        EXPECT_EQ(seen_by_release, expected);
    }
}

/// Modes change all the time under threads that count; the count is what it was.
TEST_F(ref_test, keeps_its_count_while_modes_change) {
    ref r(units, count_release, ref_flags::allow_reinit);
    std::mt19937_64 random(testing::seed());
    std::atomic<int> left{8};
    r.get();  // for the switcher: kill puts the owner's, which resurrect takes again
    std::jthread switcher([&] {
        while (left > 0) {
            switch (random() % 3) {
                case 0: r.switch_to_atomic(); break;
                case 1: r.switch_to_percpu(); break;
                default: r.kill(), r.resurrect();
            }
        }
    });
    in_threads(8, [&](int) {
        for (int i = 0; i < scaled(200'000); ++i) {
            r.get_many(2);
            r.put();
            if (r.tryget()) r.put();
            r.put();
        }
        --left;
    });
    switcher.join();
    EXPECT_EQ(released, 0);
    r.kill();
    EXPECT_EQ(released, 0);
    r.put();
    EXPECT_EQ(released, 1);
}

/// One thread uses it on a CPU of its own, as fast as it can; each switch must meet it between its look at the flag and its count sooner or later.
TEST_F(ref_test, a_switch_misses_nothing_that_is_under_way) {
    const cpumask all = sys::thread_affinity().value();
    ref r(units, count_release, ref_flags::allow_reinit);
    std::atomic<bool> stop{false};
    std::jthread user([&] {
        EXPECT_TRUE(sys::pin_thread(cpumask{all.last()}));
        while (!stop.load(std::memory_order_relaxed)) {
            r.get();
            r.put();
        }
    });
    EXPECT_TRUE(sys::pin_thread(cpumask{all.first()}));
    for (int i = 0; i < scaled(20'000); ++i) {
        r.switch_to_atomic();
        r.switch_to_percpu();
        for (int pause = i % 64; pause > 0; --pause) sys::cpu_relax();  // the user is fast meanwhile
    }
    stop = true;
    user.join();
    EXPECT_TRUE(sys::pin_thread(all));
    r.kill();
    EXPECT_EQ(released, 1) << "a count was lost in a unit";
}

constinit ref* interrupted = nullptr;

TEST_F(ref_test, handlers_may_take_and_put) {
    ref r(units, count_release, ref_flags::allow_reinit);
    interrupted = &r;
    {
        const testing::interruptions every([] {
            interrupted->get();
            if (interrupted->tryget()) interrupted->put();
            interrupted->put();
        });
        in_threads(4, [&](int t) {
            for (int i = 0; i < scaled(300'000) || (t == 0 && testing::interruptions::so_far() == 0); ++i) {
                r.get();
                if (t == 0 && i % 1000 == 0) r.switch_to_atomic();
                if (t == 0 && i % 1000 == 500) r.switch_to_percpu();
                r.put();
            }
        });
    }
    EXPECT_GT(testing::interruptions::so_far(), 0);
    EXPECT_EQ(released, 0);
    r.kill();
    EXPECT_EQ(released, 1);
}

}  // namespace
}  // namespace cohort::percpu
