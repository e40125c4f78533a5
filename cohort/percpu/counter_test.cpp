// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/counter.hpp>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/percpu/testing/stress.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::in_threads;
using testing::scaled;
constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max(), least = std::numeric_limits<std::int64_t>::min();

class on_one_cpu {
public:
    on_one_cpu() : before_(sys::thread_affinity().value()) { EXPECT_TRUE(sys::pin_thread(cpumask{before_.first()})); }
    ~on_one_cpu() { EXPECT_TRUE(sys::pin_thread(before_)); }
    unsigned cpu() const { return static_cast<unsigned>(before_.first()); }

private:
    cpumask before_;
};

struct counter_test : ::testing::Test {
    testing::bare_chunk chunk;
    handle<counter::unit> units = chunk.at<counter::unit>(64);
    std::int64_t unit_on(unsigned cpu) { return *per_cpu(units, cpu); }
};

TEST_F(counter_test, counts_in_the_unit_below_the_batch_and_folds_at_it) {
    const on_one_cpu here;
    counter c(units, 100, 10);
    c.add(9);
    EXPECT_EQ(c.read(), 100);
    EXPECT_EQ(unit_on(here.cpu()), 9);
    EXPECT_EQ(c.sum(), 109);
    c.inc();
    EXPECT_EQ(c.read(), 110);
    EXPECT_EQ(unit_on(here.cpu()), 0);
    c.sub(9);
    EXPECT_EQ(c.read(), 110);
    EXPECT_EQ(c.sum(), 101);
    c.dec();
    EXPECT_EQ(c.read(), 100);
    c.add(9);
    c.add(1'000'000'000'000);
    EXPECT_EQ(c.read(), 1'000'000'000'109);
    EXPECT_EQ(c.batch(), 10);
}

TEST_F(counter_test, default_batch_is_at_least_32) {
    EXPECT_EQ(default_batch(), std::max<std::int64_t>(32, 2 * std::thread::hardware_concurrency()));
    EXPECT_EQ(counter(units).batch(), default_batch());
}

TEST_F(counter_test, local_additions_are_never_folded_and_sync_folds_them) {
    const on_one_cpu here;
    counter c(units);
    c.add_local(1'000'000);
    c.sub_local(1);
    EXPECT_EQ(c.read(), 0);
    EXPECT_EQ(c.sum(), 999'999);
    c.sync();
    EXPECT_EQ(c.read(), 999'999);
    EXPECT_EQ(c.sum(), 999'999);
}

TEST_F(counter_test, positive_readings_hide_what_is_below_0) {
    const on_one_cpu here;
    counter c(units, -5);
    EXPECT_EQ(c.read_positive(), 0);
    EXPECT_EQ(c.sum_positive(), 0);
    c.add(8);
    EXPECT_EQ(c.read_positive(), 0);
    EXPECT_EQ(c.sum_positive(), 3);
    c.sync();
    EXPECT_EQ(c.read_positive(), 3);
}

TEST_F(counter_test, compare_is_exact_also_where_read_is_not) {
    const on_one_cpu here;
    counter c(units, 0, 32);
    c.add(31);
    EXPECT_EQ(c.read(), 0);
    EXPECT_EQ(c.compare(30), 1);
    EXPECT_EQ(c.compare(31), 0);
    EXPECT_EQ(c.compare(32), -1);
    EXPECT_EQ(c.compare(most), -1);
    EXPECT_EQ(c.compare(least), 1);
    c.add_local(1'000'000);
    EXPECT_EQ(c.compare(1'000'031, counter::local_batch), 0);
    EXPECT_EQ(c.compare(1'000'030, counter::local_batch), 1);
}

TEST_F(counter_test, limited_add_keeps_the_limit_whatever_units_hold) {
    const on_one_cpu here;
    counter c(units, 0, 32);
    c.add(20);
    EXPECT_FALSE(c.limited_add(20, 1));
    EXPECT_TRUE(c.limited_add(20, 0));
    EXPECT_TRUE(c.limited_add(21, 1));
    EXPECT_EQ(c.sum(), 21);
    EXPECT_FALSE(c.limited_add(21, -1)) << "21 is the least";
    EXPECT_TRUE(c.limited_add(0, -21));
    EXPECT_FALSE(c.limited_add(0, -1));
    EXPECT_EQ(c.sum(), 0);
    EXPECT_TRUE(c.limited_add(1'000'000, 900'000)) << "far from it";
    EXPECT_FALSE(c.limited_add(1'000'000, 100'001));
    EXPECT_TRUE(c.limited_add(1'000'000, 100'000));
    EXPECT_TRUE(c.limited_add(most, 1));
    EXPECT_EQ(c.sum(), 1'000'001);
}

TEST_F(counter_test, set_makes_the_value_what_it_says) {
    counter c(units, 7, 32);
    c.add(5);
    c.set(1000);
    EXPECT_EQ(c.sum(), 1000);
    c.add(5);
    EXPECT_EQ(c.sum(), 1005);
}

TEST_F(counter_test, a_cpu_that_goes_offline_is_folded_and_may_come_back) {
    const on_one_cpu here;
    counter c(units, 0, 32), untouched(chunk.at<counter::unit>(256), 1);
    machine::synthetic_events events(cpumask::range(0, static_cast<int>(here.cpu()) + 1), nodemask{0});
    {
        const fold_on_offline folds(events, {&c, &untouched});
        c.add(20);
        ASSERT_TRUE(events.cpu_offline(static_cast<int>(here.cpu())));
        EXPECT_EQ(c.read(), 20) << "the unit shows";
        EXPECT_EQ(c.sum(), 20);
        EXPECT_EQ(untouched.sum(), 1);
        ASSERT_TRUE(events.cpu_online(static_cast<int>(here.cpu())));
        c.add(5);
        EXPECT_EQ(c.sum(), 25);
        EXPECT_EQ(c.compare(25), 0);
        c.add(10);  // 35: folds what the unit has, 20 of it for the second time
        EXPECT_EQ(c.sum(), 35);
        EXPECT_EQ(c.compare(35), 0);
        c.add(4);
        ASSERT_TRUE(events.cpu_offline(static_cast<int>(here.cpu())));
        EXPECT_EQ(c.read(), 39);
        EXPECT_EQ(c.sum(), 39);
        c.set(3);
        EXPECT_EQ(c.sum(), 3);
        ASSERT_TRUE(events.cpu_online(static_cast<int>(here.cpu())));
    }
    c.add(2);
    ASSERT_TRUE(events.cpu_offline(static_cast<int>(here.cpu())));
    EXPECT_NE(c.read(), 5) << "nobody listens any more";
    EXPECT_EQ(c.sum(), 5);
    c.fold(possible_cpus());  // never was present: nothing there
}

TEST_F(counter_test, compare_knows_how_far_folded_cpus_may_be_off) {
    counter c(units, 0, 32);
    std::int64_t n = 0;
    for_each_present_cpu(units, [&](unsigned cpu, std::int64_t& u) {
        u = 31;
        c.fold(cpu);
        u = -31;  // came back and subtracted
        ++n;
    });
    EXPECT_EQ(c.read(), 31 * n);
    EXPECT_EQ(c.sum(), -31 * n);
    EXPECT_EQ(c.compare(-30 * n), -1);
    EXPECT_EQ(c.compare(-31 * n), 0);
}

TEST_F(counter_test, a_sum_misses_nothing_that_is_being_folded) {
    counter c(units, 0, 64);
    std::atomic<std::int64_t> done{0}, missed{0};
    std::atomic<bool> stop{false};
    std::jthread adder([&] {
        for (std::int64_t i = 1; !stop; ++i) {
            c.inc();
            done.store(i, std::memory_order_release);
        }
    });
    for (int i = 0; i < scaled(300'000); ++i) {
        const std::int64_t before = done.load(std::memory_order_acquire);
        if (c.sum() < before) ++missed;
    }
    stop = true;
    adder.join();
    EXPECT_EQ(missed, 0);
    EXPECT_EQ(c.sum(), done);
}

TEST_F(counter_test, many_at_once_share_one_allocation) {
    auto set = counter_set::create(100, 7, 64);
    ASSERT_TRUE(set) << set.error().line();
    ASSERT_EQ(set->size(), 100u);
    for (std::size_t i = 0; i < 100; ++i) (*set)[i].add(static_cast<std::int64_t>(i));
    for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ((*set)[i].sum(), static_cast<std::int64_t>(i) + 7);
    auto moved = std::move(*set);
    EXPECT_EQ(moved[99].sum(), 106);
    EXPECT_FALSE(counter_set::create(0));
    EXPECT_FALSE(counter_set::create(4097));
}

TEST_F(counter_test, memory_goes_back) {
    auto c = counter::create(5);
    ASSERT_TRUE(c) << c.error().line();
    (*c)->inc();
    EXPECT_EQ((*c)->sum(), 6);
    {
        counter mine(units);
        mine.add(3);
    }
    EXPECT_EQ(percpu::sum(units), 0);
}

TEST_F(counter_test, misuse_ends_the_program) {
    EXPECT_DEATH(counter(units, 0, -1), "negative");
    EXPECT_DEATH(
        {
            counter c(units);
            c.add_batch(1, 0);
        },
        "not positive");
}

TEST_F(counter_test, read_is_off_by_less_than_a_batch_for_each_cpu_with_64_threads) {
    constexpr std::int64_t batch = 32;
    counter c(units, 0, batch);
    const int rounds = scaled(50'000);
    const std::uint64_t seed = testing::seed();
    std::atomic<std::int64_t> expected{0};
    in_threads(64, [&](int t) {
        std::mt19937_64 random(seed + static_cast<unsigned>(t));
        std::int64_t mine = 0;
        for (int i = 0; i < rounds; ++i) {
            const std::int64_t amount = static_cast<std::int64_t>(random() % 101) - 40;
            c.add(amount);
            mine += amount;
            if (random() % 4096 == 0) (void)c.sum();
            if (random() % 4096 == 0) c.sync();
            if (random() % 4096 == 0) c.fold(static_cast<unsigned>(random() % possible_cpus()));
        }
        expected += mine;
    });
    EXPECT_EQ(c.sum(), expected);
    EXPECT_EQ(c.compare(expected), 0);
    EXPECT_LT(std::abs(c.read() - expected), 2 * batch * detail::present_count(by::cpu));
    for_each_present_cpu(units, [&](unsigned, std::int64_t& u) { EXPECT_LT(std::abs(u), batch); });
}

TEST_F(counter_test, limited_adds_of_many_threads_reach_the_limit_and_not_more) {
    counter c(units, 0, 32);
    constexpr std::int64_t limit = 100'000;
    std::atomic<std::int64_t> added{0}, over{0};
    in_threads(16, [&](int t) {
        for (int i = 0; i < 20'000; ++i) {
            if (c.limited_add(limit, 1 + t % 3)) added += 1 + t % 3;
            if (i % 1024 == 0) over += c.sum() > limit;
        }
    });
    EXPECT_EQ(over, 0);
    EXPECT_LE(added, limit);
    EXPECT_GE(added, limit - 3);
    EXPECT_EQ(c.sum(), added);
}

constinit counter* interrupted = nullptr;

TEST_F(counter_test, sums_are_exact_when_handlers_add_to_the_same_counter) {
    counter c(units, 0, 2);  // folds all the time, so that handlers meet the lock
    interrupted = &c;
    std::atomic<std::int64_t> expected{0};
    {
        const testing::interruptions every([] {
            interrupted->inc();
            interrupted->add(2);
            (void)interrupted->read();
        });
        in_threads(8, [&](int t) {
            std::int64_t mine = 0;
            for (int i = 0; i < scaled(1'000'000) || (t == 0 && testing::interruptions::so_far() == 0); ++i, ++mine) c.inc();
            expected += mine;
        });
    }
    EXPECT_GT(testing::interruptions::so_far(), 0);
    EXPECT_EQ(c.sum(), expected + 3 * testing::interruptions::so_far());
}

TEST_F(counter_test, a_forked_child_counts_for_itself) {
    counter c(units, 10);
    c.add(5);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        c.add(1000);
        ::_exit(c.sum() == 1015 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(c.sum(), 15);
}

}  // namespace
}  // namespace cohort::percpu
