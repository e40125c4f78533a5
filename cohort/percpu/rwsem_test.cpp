// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/rwsem.hpp>

#if defined(__clang__)
// Holds pass from thread to thread and through std's guards here, which the analysis does not follow.
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/percpu/testing/stress.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::in_threads;
using testing::scaled;
using namespace std::chrono_literals;

bool with_sequences() { return detail::current_mode() == detail::mode::sequences; }

struct rwsem_test : ::testing::Test {
    testing::bare_chunk chunk;
    handle<rwsem::unit> units = chunk.at<rwsem::unit>(64);
    rwsem sem{units};

    static void wait_for(const std::function<bool()>& what, const char* name) {
        const auto until = std::chrono::steady_clock::now() + 60s;
        while (!what()) {
            if (std::chrono::steady_clock::now() > until) {
                ADD_FAILURE() << "in a minute it did not come to this: " << name;
                return;
            }
            std::this_thread::yield();
        }
    }
    /// Reads until the fast way is open, which it is again after a quiet time.
    void read_until_fast() {
        wait_for(
            [&] {
                for (int i = 0; i < 1000; ++i) const std::shared_lock hold(sem);
                return sem.sync().is_idle();
            },
            "readers are fast again");
    }
    /// Long enough for a waiter to go from spinning to sleeping; nothing is wrong if it did not.
    static void give_time_to_sleep() { std::this_thread::sleep_for(20ms); }
};

TEST_F(rwsem_test, admits_many_readers_or_one_writer) {
    EXPECT_FALSE(sem.is_read_locked());
    EXPECT_FALSE(sem.is_write_locked());
    {
        std::shared_lock a(sem), b(sem);
        EXPECT_TRUE(sem.is_read_locked());
        EXPECT_FALSE(sem.is_write_locked());
        sem.assert_held();
        EXPECT_FALSE(sem.try_lock());
        EXPECT_TRUE(sem.try_lock_shared());
        sem.unlock_shared();
    }
    {
        std::unique_lock w(sem);
        EXPECT_TRUE(sem.is_write_locked());
        EXPECT_FALSE(sem.is_read_locked());
        sem.assert_held();
        EXPECT_FALSE(sem.try_lock());
        EXPECT_FALSE(sem.try_lock_shared());
        EXPECT_FALSE(sem.is_read_locked()) << "an attempt leaves nothing behind";
    }
    EXPECT_TRUE(sem.try_lock());
    sem.unlock();
    EXPECT_TRUE(sem.try_lock_shared());
    sem.unlock_shared();
    EXPECT_FALSE(sem.is_read_locked());
}

TEST_F(rwsem_test, closely_spaced_writers_pay_one_grace_period_and_readers_become_fast_again) {
    if (!with_sequences()) GTEST_SKIP() << "readers are never fast without sequences";
    EXPECT_TRUE(sem.sync().is_idle());
    sem.lock_shared();
    sem.unlock_shared();
    EXPECT_GT(sum(units.member(&rwsem::unit::fast)), 0u) << "a reader puts up the flag of its CPU";
    sem.lock();
    EXPECT_EQ(sum(units.member(&rwsem::unit::fast)), 0u);
    EXPECT_EQ(sem.sync().now(), rcu_sync::state::passed);
    sem.unlock();
    const auto grace = sem.sync().grace_ticks();
    for (int i = 0; i < 100; ++i) {
        sem.lock();
        sem.unlock();
    }
    EXPECT_EQ(sem.sync().grace_ticks(), grace);
    read_until_fast();
    // Its unit was not used while the flag was put up.
    sem.lock_shared();
    EXPECT_FALSE(sem.try_lock());
    EXPECT_TRUE(sem.sync().is_idle()) << "a try that cannot succeed costs no grace period";
    sem.unlock_shared();
}

TEST_F(rwsem_test, a_reader_that_came_fast_may_leave_slow_and_keeps_the_writer_out_until_then) {
    for (const bool sleeps : {false, true}) {
        sem.lock_shared();
        std::atomic<bool> inside{false};
        std::jthread writer([&] {
            sem.lock();
            inside = true;
            sem.unlock();
        });
        while (!sem.is_write_locked()) std::this_thread::yield();
        if (sleeps) give_time_to_sleep();
        EXPECT_FALSE(inside);
        sem.unlock_shared();
        writer.join();
        EXPECT_TRUE(inside);
    }
}

TEST_F(rwsem_test, a_hold_may_begin_on_one_cpu_and_end_on_another) {
    const cpumask all = sys::thread_affinity().value();
    for (const bool writes_between : {true, false}) {
        ASSERT_TRUE(sys::pin_thread(cpumask{all.first()}));
        sem.lock_shared();
        ASSERT_TRUE(sys::pin_thread(cpumask{all.last()}));
        EXPECT_TRUE(sem.is_read_locked());
        sem.unlock_shared();
        EXPECT_FALSE(sem.is_read_locked());
        EXPECT_TRUE(sem.try_lock());
        sem.unlock();
        if (writes_between && with_sequences()) read_until_fast();
    }
    ASSERT_TRUE(sys::pin_thread(all));
}

TEST_F(rwsem_test, who_unlocks_need_not_be_who_locked) {
    sem.lock();
    std::jthread([&] { sem.unlock(); }).join();
    EXPECT_TRUE(sem.try_lock());
    std::jthread([&] { sem.unlock(); }).join();
    sem.lock_shared();
    std::jthread([&] { sem.unlock_shared(); }).join();
    EXPECT_FALSE(sem.is_read_locked());
}

/// They wait as R1 W1 R2 R3 W2 and get it in that order; R2 and R3 together.
TEST_F(rwsem_test, hands_over_in_the_order_of_arrival) {
    std::mutex order_lock;
    std::string order;
    std::atomic<int> readers_of_the_pair{0};
    sem.lock();
    std::vector<std::jthread> all;
    unsigned queued = 0;
    for (const std::string name : {"R1", "W1", "R2", "R3", "W2"}) {
        all.emplace_back([&, name] {
            const bool writes = name[0] == 'W';
            if (writes) sem.lock();
            else sem.lock_shared();
            if (name == "R2" || name == "R3") {
                ++readers_of_the_pair;
                wait_for([&] { return readers_of_the_pair == 2; }, "both readers are inside");
            }
            {
                const std::lock_guard hold(order_lock);
                order += writes ? name : "R";
            }
            if (writes) sem.unlock();
            else sem.unlock_shared();
        });
        ++queued;
        wait_for([&] { return sem.waiting() == queued; }, "it is in the queue");
    }
    sem.unlock();
    all.clear();
    EXPECT_EQ(order, "RW1RRW2");
    EXPECT_EQ(sem.waiting(), 0u);
    EXPECT_FALSE(sem.is_read_locked());
    EXPECT_FALSE(sem.is_write_locked());
}

TEST_F(rwsem_test, new_readers_do_not_pass_a_writer_that_waits) {
    sem.lock_shared();
    std::jthread writer([&] {
        sem.lock();
        sem.unlock();
    });
    while (!sem.is_write_locked()) std::this_thread::yield();
    EXPECT_FALSE(sem.try_lock_shared());
    sem.unlock_shared();
}

TEST_F(rwsem_test, a_failed_try_lock_lets_those_in_who_queued_behind_it) {
    std::atomic<bool> stop{false};
    std::atomic<long> reads{0}, writes{0};
    std::jthread reader([&] {
        while (!stop) {
            const std::shared_lock hold(sem);
            reads.fetch_add(1, std::memory_order_relaxed);
        }
    });
    for (int i = 0; i < scaled(20'000) || reads == 0; ++i) {
        if (!sem.try_lock()) continue;
        ++writes;
        sem.unlock();
    }
    stop = true;
    reader.join();
    EXPECT_FALSE(sem.is_write_locked());
    EXPECT_TRUE(sem.try_lock());
    sem.unlock();
}

TEST_F(rwsem_test, neither_side_starves) {
    std::atomic<bool> stop{false};
    const auto busy = [&](auto&& once) { return [&stop, once] { while (!stop) once(); }; };
    {
        std::jthread reader(busy([&] { const std::shared_lock hold(sem); }));
        std::jthread other(busy([&] { const std::shared_lock hold(sem); }));
        for (int i = 0; i < scaled(500); ++i) const std::unique_lock hold(sem);
        stop = true;
    }
    stop = false;
    {
        std::jthread writer(busy([&] { const std::unique_lock hold(sem); }));
        std::jthread other(busy([&] { const std::unique_lock hold(sem); }));
        for (int i = 0; i < scaled(500); ++i) const std::shared_lock hold(sem);
        stop = true;
    }
}

/// Writers keep two numbers equal, one of them far away; readers find them equal. Plain numbers: ThreadSanitizer sees whether the lock orders them.
void readers_find_what_writers_left_whole(rwsem& sem, int threads, int rounds, unsigned writes_in_1000) {
    struct {
        long a = 0;
        char between[256] = {};
        long b = 0;
    } data;
    const std::uint64_t seed = testing::seed();
    std::atomic<long> wrote{0}, torn{0};
    in_threads(threads, [&](int t) {
        std::mt19937_64 random(seed + static_cast<unsigned>(t));
        for (int i = 0; i < rounds; ++i) {
            const unsigned dice = static_cast<unsigned>(random() % 1000);
            if (dice < writes_in_1000) {
                if (dice % 2 == 0) sem.lock();
                else if (!sem.try_lock()) continue;
                ++data.a;
                if (dice % 8 == 0) std::this_thread::yield();
                ++data.b;
                sem.unlock();
                wrote.fetch_add(1, std::memory_order_relaxed);
            } else {
                if (dice % 4 != 0) sem.lock_shared();
                else if (!sem.try_lock_shared()) continue;
                const long a = data.a;
                if (dice == 999) std::this_thread::yield();
                if (a != data.b) ++torn;
                sem.unlock_shared();
            }
        }
    });
    EXPECT_EQ(torn, 0);
    EXPECT_EQ(data.a, wrote.load());
    EXPECT_EQ(data.b, wrote.load());
    EXPECT_FALSE(sem.is_read_locked());
    EXPECT_FALSE(sem.is_write_locked());
}

TEST_F(rwsem_test, readers_find_what_writers_left_whole_with_64_threads) { readers_find_what_writers_left_whole(sem, 64, scaled(4'000), 100); }
TEST_F(rwsem_test, readers_find_what_writers_left_whole_when_writes_are_rare) { readers_find_what_writers_left_whole(sem, 8, scaled(200'000), 1); }
TEST_F(rwsem_test, readers_find_what_writers_left_whole_when_all_write) { readers_find_what_writers_left_whole(sem, 16, scaled(5'000), 900); }

/// A reader and a writer on a CPU each, as fast as they can: fences that are missing show here.
TEST_F(rwsem_test, a_reader_and_a_writer_on_two_cpus_never_meet) {
    const cpumask all = sys::thread_affinity().value();
    std::atomic<bool> stop{false}, written{false};
    std::atomic<long> met{0};
    std::jthread reader([&] {
        EXPECT_TRUE(sys::pin_thread(cpumask{all.last()}));
        while (!stop.load(std::memory_order_relaxed)) {
            if (!sem.try_lock_shared()) continue;
            if (written.load(std::memory_order_relaxed)) ++met;
            sem.unlock_shared();
        }
    });
    EXPECT_TRUE(sys::pin_thread(cpumask{all.first()}));
    for (int i = 0; i < scaled(200'000); ++i) {
        sem.lock();
        written.store(true, std::memory_order_relaxed);
        for (int pause = i % 8; pause > 0; --pause) sys::cpu_relax();
        written.store(false, std::memory_order_relaxed);
        sem.unlock();
        for (int pause = i % 16; pause > 0; --pause) sys::cpu_relax();
    }
    stop = true;
    reader.join();
    EXPECT_TRUE(sys::pin_thread(all));
    EXPECT_EQ(met, 0);
}

/// A hold that ends about when the writer goes to sleep; nobody else comes who could wake it.
TEST_F(rwsem_test, a_writer_that_goes_to_sleep_hears_of_the_last_reader) {
    const cpumask all = sys::thread_affinity().value();
    std::mt19937_64 random(testing::seed());
    std::atomic<int> reading{0}, written{0};
    const int rounds = scaled(500);
    std::jthread writer([&] {
        EXPECT_TRUE(sys::pin_thread(cpumask{all.last()}));
        for (int i = 1; i <= rounds; ++i) {
            while (reading.load() < i) std::this_thread::yield();
            sem.lock();
            sem.unlock();
            written = i;
        }
    });
    EXPECT_TRUE(sys::pin_thread(cpumask{all.first()}));
    for (int i = 1; i <= rounds; ++i) {
        sem.lock_shared();
        reading = i;
        for (auto pause = random() % 300; pause > 0; --pause) sys::cpu_relax();
        sem.unlock_shared();
        wait_for([&] { return written == i; }, "the writer got the lock");
        if (HasFailure()) std::abort();  // it will never be joined
    }
    writer.join();
    EXPECT_TRUE(sys::pin_thread(all));
}

/// The way to fast reading and back, all the time: writers wait until readers are fast.
TEST_F(rwsem_test, the_change_of_modes_loses_no_reader) {
    long a = 0, b = 0;
    std::atomic<bool> stop{false};
    std::atomic<long> torn{0}, reads{0};
    std::vector<std::jthread> readers;
    for (int t = 0; t < 3; ++t) {
        readers.emplace_back([&] {
            while (!stop) {
                const std::shared_lock hold(sem);
                if (a != b) ++torn;
                reads.fetch_add(1, std::memory_order_relaxed);
            }
        });
    }
    int changes = 0;
    for (int i = 0; i < scaled(300); ++i) {
        if (with_sequences()) {
            wait_for([&] { return sem.sync().is_idle(); }, "readers are fast again");
            changes += sem.sync().is_idle();
        }
        const std::unique_lock hold(sem);
        ++a;
        if (i % 2) std::this_thread::yield();
        ++b;
    }
    stop = true;
    readers.clear();
    EXPECT_EQ(torn, 0);
    EXPECT_EQ(changes, with_sequences() ? scaled(300) : 0);
}

constinit rwsem* interrupted = nullptr;
constinit std::atomic<long> handler_reads{0}, handler_torn{0};
constinit long left_half = 0, right_half = 0;

/// Handlers may try to read, whatever they interrupted.
TEST_F(rwsem_test, handlers_may_try_to_read) {
    interrupted = &sem;
    handler_reads = handler_torn = 0;
    left_half = right_half = 0;
    {
        const testing::interruptions every([] {
            if (!interrupted->try_lock_shared()) return;
            if (left_half != right_half) ++handler_torn;
            handler_reads.fetch_add(1, std::memory_order_relaxed);
            interrupted->unlock_shared();
        });
        in_threads(8, [&](int t) {
            for (int i = 0; i < scaled(100'000) || (t == 0 && handler_reads == 0); ++i) {
                if ((i + t) % 64 == 0) {
                    const std::unique_lock hold(sem);
                    ++left_half;
                    ++right_half;
                } else {
                    const std::shared_lock hold(sem);
                    if (left_half != right_half) ++handler_torn;
                }
            }
        });
    }
    EXPECT_GT(handler_reads, 0);
    EXPECT_EQ(handler_torn, 0);
    EXPECT_FALSE(sem.is_read_locked());
}

TEST(rwsem_memory, comes_from_the_allocator_and_goes_back) {
    std::uintptr_t value = 0;
    {
        auto memory = make<rwsem::unit>();
        ASSERT_TRUE(memory);
        value = memory->get().value();
        struct { rwsem sem; int guarded; } as_member{rwsem(std::move(*memory)), 0};
        const std::unique_lock hold(as_member.sem);
        EXPECT_EQ(default_allocator().size_of(value), sizeof(rwsem::unit));
    }
    EXPECT_EQ(default_allocator().size_of(value), 0u);
    auto sem = rwsem::create();
    ASSERT_TRUE(sem);
    { const std::shared_lock hold(**sem); }
    EXPECT_TRUE((*sem)->try_lock());
    (*sem)->unlock();
}

TEST_F(rwsem_test, leaves_its_units_zero) {
    const auto other = chunk.at<rwsem::unit>(1024);
    {
        rwsem second(other);
        const std::shared_lock hold(second);
    }
    for_each_present_cpu(other, [](unsigned, rwsem::unit& u) {
        EXPECT_EQ(u.fast, 0u);
        EXPECT_EQ(u.in, 0u);
        EXPECT_EQ(u.out, 0u);
    });
}

TEST_F(rwsem_test, misuse_ends_the_program) {
    EXPECT_DEATH(sem.unlock(), "no writer holds");
    EXPECT_DEATH(sem.assert_held(), "nobody holds");
    EXPECT_DEATH(
        {
            rwsem other(chunk.at<rwsem::unit>(2048));
            other.lock_shared();
        },
        "somebody holds it");
}

}  // namespace
}  // namespace cohort::percpu
