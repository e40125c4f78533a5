// SPDX-License-Identifier: Apache-2.0
// Handlers that allocate and free whatever they interrupt, and fork: no deadlock, no object lost, exact counts.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/detail/core.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/percpu/testing/failing_address_space.hpp>
#include <cohort/percpu/testing/respawn.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::failing_address_space;
using testing::memory_call;
using testing::scaled;

/// Ends the program, with a word, when a test hangs.
class watchdog {
public:
    explicit watchdog(int seconds) {
        ::signal(SIGUSR2, [](int) {
            static constexpr char text[] = "watchdog: the test does not end\n";
            (void)!::write(2, text, sizeof text - 1);
            ::_exit(99);
        });
        sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGUSR2;
        EXPECT_EQ(::timer_create(CLOCK_MONOTONIC, &event, &timer_), 0);
        const itimerspec at{{}, {seconds * (std::getenv("COHORT_TEST_PATIENCE") ? 10 : 1), 0}};
        EXPECT_EQ(::timer_settime(timer_, 0, &at, nullptr), 0);
    }
    ~watchdog() { ::timer_delete(timer_); }

private:
    timer_t timer_;
};

/// A handler of a signal for as long as it lives.
class handler {
public:
    handler(int signal, void (*f)(int)) : signal_(signal) {
        struct sigaction act {};
        act.sa_handler = f;
        act.sa_flags = SA_RESTART;
        ::sigaction(signal, &act, &before_);
    }
    ~handler() {
        ::signal(signal_, SIG_IGN);  // one that is still on its way would end the program
        ::sigaction(signal_, &before_, nullptr);
    }

private:
    int signal_;
    struct sigaction before_ {};
};
/// Sends SIGALRM every 100 us to some thread, but not to the calling one, which only waits: the kernel would always choose it.
class every_100_us {
public:
    every_100_us() {
        sigset_t alarm;
        ::sigemptyset(&alarm);
        ::sigaddset(&alarm, SIGALRM);
        ::pthread_sigmask(SIG_BLOCK, &alarm, &before_);
        const itimerval every{{0, 100}, {0, 100}};
        ::setitimer(ITIMER_REAL, &every, nullptr);
    }
    ~every_100_us() {
        const itimerval never{};
        ::setitimer(ITIMER_REAL, &never, nullptr);
        // One that is still pending runs here.
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t before_;
};

constinit allocator* subject = nullptr;

/// Objects that pass from threads to handlers and back; each holds its own handle in its first copy.
constinit std::array<std::atomic<std::uintptr_t>, 256> passed{};
constinit std::atomic<long> faults{0}, handler_allocs{0}, handler_frees{0}, handler_busy{0};
constinit thread_local std::uint32_t dice = 1;

std::uint32_t roll() { return dice = dice * 1664525u + 1013904223u, dice >> 8; }
std::atomic_ref<std::uintptr_t> mark_of(std::uintptr_t value) {
    return std::atomic_ref(*reinterpret_cast<std::uintptr_t*>(value + detail::offset_of(detail::layout_of(value), 0)));
}
/// Who gets an object finds it zero, and puts his mark there; a mark that is there is another owner's.
void own(std::uintptr_t value) {
    if (mark_of(value).exchange(value) != 0) ++faults;
}
void disown(std::uintptr_t value) {
    if (mark_of(value).load() != value) ++faults;
    if (subject->free(value) != 0) ++faults;
}

void allocate_and_free(int) {
    const int saved = errno;
    for (int i = 0; i < 3; ++i) {
        const std::uint32_t n = roll();
        const std::size_t size = n % 4 == 0 ? 1100 + n % 3000 : 8 + n % 200;
        if (const attempt got = subject->alloc_atomic(size, 8, alloc_flags::nowarn)) {
            own(got.value);
            handler_allocs.fetch_add(1, std::memory_order_relaxed);
            if (const std::uintptr_t old = passed[n % passed.size()].exchange(got.value)) {
                handler_frees.fetch_add(1, std::memory_order_relaxed);
                disown(old);
            }
        } else if (got.why == refusal::busy) {
            handler_busy.fetch_add(1, std::memory_order_relaxed);
        }
        if (const std::uintptr_t old = passed[n / 7 % passed.size()].exchange(0)) {
            handler_frees.fetch_add(1, std::memory_order_relaxed);
            disown(old);
        }
    }
    errno = saved;
}

void empty_passed() {
    for (auto& p : passed) {
        if (const std::uintptr_t v = p.exchange(0)) disown(v);
    }
}

/// What threads do: all sizes, through the magazines and past them.
void work(int rounds, unsigned seed, bool balance) {
    dice = seed;
    std::mt19937 random(seed);
    for (int i = 0; i < rounds; ++i) {
        const std::size_t size = random() % 4 == 0 ? 1025 + random() % 8000 : 8 + random() % 500;
        const auto v = subject->alloc(size, std::size_t{8} << random() % 7, alloc_flags::nowarn);
        if (!v) {
            ++faults;
            continue;
        }
        own(*v);
        if (const std::uintptr_t old = passed[random() % passed.size()].exchange(*v)) disown(old);
        if (balance && i % 512 == 0) subject->balance();
        if (balance && i % 2048 == 0) subject->trim();
    }
}

void expect_all_back() {
    empty_passed();
    subject->trim();
    const allocator_stats s = subject->stats();
    EXPECT_EQ(faults, 0);
    EXPECT_EQ(s.nr_cur_alloc, 0) << s.text();
    EXPECT_EQ(s.cached, 0);
    EXPECT_EQ(s.nr_alloc, s.nr_dealloc);
    EXPECT_EQ(s.live_bytes, 0u);
}

void reset(allocator& a) {
    detail::make_present(by::cpu, 0);  // where marks are written
    subject = &a;
    faults = handler_allocs = handler_frees = handler_busy = 0;
}

TEST(percpu_signals, handlers_allocate_and_free_while_threads_do) {
    const watchdog dog(240);
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::uint64_t deferred = 0;
    for (const bool magazines : {true, false}) {
        const auto a = allocator::create({.name = "signals", .magazines = magazines}).value();
        reset(*a);
        const handler on(SIGALRM, allocate_and_free);
        {
            std::vector<std::jthread> all;
            for (unsigned t = 0; t < 6; ++t) all.emplace_back([=] { work(scaled(30'000), seed + t, t == 0); });
            const every_100_us ticking;
            all.clear();
        }
        EXPECT_GT(handler_frees.load(), 0);
        deferred += a->internals().frees_deferred();
        expect_all_back();
    }
    // Some thousands at the full length.
    if (scaled(1000) >= 1000) { EXPECT_GT(deferred, 0u); }
}

TEST(percpu_signals, threads_that_are_hammered_by_another_one_lose_nothing) {
    const watchdog dog(240);
    const auto a = allocator::create({.name = "hammered", .magazines = false}).value();
    reset(*a);
    const handler on(SIGUSR1, allocate_and_free);
    std::atomic<int> left{4};
    std::vector<std::jthread> all;
    const int rounds = scaled(10'000);
    for (unsigned t = 0; t < 4; ++t) {
        all.emplace_back([&, t] {
            // Till it has happened: the hammer may be kept from its CPU.
            do {
                work(rounds, t + 1, false);
            } while (t == 0 && handler_frees == 0);
            --left;
            while (left > 0) sys::yield_thread();  // pthread_kill wants a thread that is there
        });
    }
    std::size_t n = 0;
    while (left > 0) {
        (void)::pthread_kill(all[n++ % all.size()].native_handle(), SIGUSR1);
        if (n % 4 == 0) sys::yield_thread();
    }
    all.clear();
    expect_all_back();
    EXPECT_GT(handler_frees.load(), 0);
}

constinit std::atomic<int> in_calls{0};

TEST(percpu_signals, a_handler_inside_a_call_for_memory_allocates_and_frees) {
    const watchdog dog(240);
    failing_address_space memory;
    const auto a = allocator::create({.name = "inside", .memory = &memory}).value();
    reset(*a);
    in_calls = 0;
    const handler on(SIGUSR1, allocate_and_free);
    memory.on_call([](memory_call) {
        ++in_calls;
        ::raise(SIGUSR1);
    });
    for (int round = 0; round < 3; ++round) {
        std::vector<std::uintptr_t> all;
        for (int i = 0; i < 100; ++i) {
            all.push_back(a->alloc(i % 3 ? 8000 : 64).value());
            own(all.back());
            if (i % 4 == 0) {
                if (const std::uintptr_t old = passed[static_cast<std::size_t>(i)].exchange(all.back())) disown(old);
                all.pop_back();
            }
        }
        a->balance();
        for (const auto v : all) disown(v);
        a->trim();
    }
    memory.on_call(nullptr);
    EXPECT_GT(in_calls.load(), 20);
    EXPECT_GT(handler_allocs.load(), 0);
    expect_all_back();
}

/// The lock is held by this very thread, as after a signal in the middle: everything a handler may call must return, and its frees are made up for.
TEST(percpu_signals, frees_of_a_handler_over_a_held_lock_are_finished_by_the_holder) {
    const watchdog dog(60);
    for (const bool magazines : {true, false}) {
        const auto a = allocator::create({.name = "held", .magazines = magazines}).value();
        reset(*a);
        account::local_table table(4);
        const auto payer = table->create(table->root(), "payer").value();
        const account::scope paying(payer);
        std::vector<std::uintptr_t> all;
        for (int i = 0; i < 300; ++i) all.push_back(a->alloc(i % 2 ? 2000 : 100, 8, i % 5 ? alloc_flags::none : alloc_flags::account).value());
        const std::uintptr_t reserved = a->alloc_reserved(64).value();
        for (const auto v : all) mark_of(v) = v;
        // All shards at once is what fork() does; it is the deepest that a handler can meet.
        ASSERT_TRUE(a->internals().try_lock_for_fork());
        std::size_t refused = 0;
        for (int i = 0; i < 1000; ++i) refused += a->alloc_atomic(2000, 8, alloc_flags::nowarn).why == refusal::busy;
        EXPECT_EQ(refused, 1000u);
        for (const auto v : all) EXPECT_EQ(a->free(v), 0);
        EXPECT_EQ(a->free(reserved), 0);
        for (const auto v : all) EXPECT_EQ(a->free(v), EINVAL) << "twice, before the first is finished";
        EXPECT_EQ(a->size_of(all[1]), 0u);
        EXPECT_GT(a->internals().frees_deferred(), 100u);
        a->internals().unlock_after_fork();
        for (const auto v : all) EXPECT_EQ(a->free(v), EINVAL) << "twice";
        EXPECT_EQ(payer.stats()->usage, 0u);
        EXPECT_EQ(a->stats().nr_cur_alloc, 0);
        for (int i = 0; i < 300; ++i) {
            const auto v = a->alloc(i % 2 ? 2000 : 100).value();
            EXPECT_EQ(mark_of(v).load(), 0u) << "cleared";
            EXPECT_EQ(a->free(v), 0);
        }
        a->trim();
        EXPECT_EQ(a->stats().live_bytes, 0u);
    }
}

/// Another thread holds the lock and this one is a handler over a lock of its own: to wait could be for ever.
TEST(percpu_signals, a_handler_over_one_lock_does_not_wait_for_another_threads) {
    const watchdog dog(60);
    const auto mine = allocator::create({.name = "mine", .magazines = false}).value(), others = allocator::create({.name = "others", .magazines = false}).value();
    const std::uintptr_t v = others->alloc(4000).value(), w = others->alloc(40).value();
    std::atomic<int> stage{0};
    std::jthread holder([&] {
        EXPECT_TRUE(others->internals().try_lock_for_fork());
        stage = 1;
        while (stage != 2) sys::yield_thread();
        others->internals().unlock_after_fork();
    });
    while (stage != 1) sys::yield_thread();
    ASSERT_TRUE(mine->internals().try_lock_for_fork());
    EXPECT_EQ(others->free(v), 0);
    EXPECT_EQ(others->free(w), 0);
    EXPECT_EQ(others->alloc_atomic(4000, 8, alloc_flags::nowarn).why, refusal::busy);
    EXPECT_EQ(others->internals().frees_deferred(), 2u);
    mine->internals().unlock_after_fork();
    stage = 2;
    holder.join();
    EXPECT_EQ(others->free(v), EINVAL);
    EXPECT_EQ(others->stats().nr_cur_alloc, 0) << "the holder has finished them";
}

/// fork() takes malloc()'s locks after ours, and a handler may have interrupted malloc(): it must not wait for ours.
TEST(percpu_fork, nobody_who_may_be_a_handler_waits_for_it) {
    const watchdog dog(60);
    const auto a = allocator::create({.name = "forking", .magazines = false}).value();
    const std::uintptr_t v = a->alloc(4000).value();
    ASSERT_TRUE(a->internals().try_lock_for_fork());
    detail::shard_lock::set_forking(true);
    std::jthread([&] {  // its own thread: it holds no lock and so may wait
        EXPECT_EQ(a->alloc_atomic(4000, 8, alloc_flags::nowarn).why, refusal::busy);
        EXPECT_EQ(a->free(v), 0);
    }).join();
    EXPECT_EQ(a->internals().frees_deferred(), 1u);
    detail::shard_lock::set_forking(false);
    a->internals().unlock_after_fork();
    EXPECT_EQ(a->stats().nr_cur_alloc, 0) << "the fork has finished it";
}

TEST(percpu_fork, every_cpu_of_the_forking_thread_is_present_before) {
    const auto a = allocator::create({.name = "the first asks to be told of forks"}).value();
    EXPECT_EQ(testing::in_forked_child([] { return 0; }), 0);
    const auto mask = sys::thread_affinity().value();
    for (const int cpu : mask) EXPECT_TRUE(detail::is_present(by::cpu, static_cast<unsigned>(cpu))) << cpu;
    EXPECT_GE(detail::present_count(by::cid), static_cast<unsigned>(mask.weight()));
}

TEST(percpu_fork, children_and_parent_go_on_while_threads_allocate) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "gcc 12's AddressSanitizer leaves malloc() locked in a child, where another thread was in it";
#endif
    const watchdog dog(120);
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto a = allocator::create({.name = "fork"}).value();
    reset(*a);
    const handler on(SIGALRM, allocate_and_free);
    std::atomic<bool> stop{false};
    std::vector<std::jthread> all;
    for (unsigned t = 0; t < 4; ++t) {
        all.emplace_back([&, t] {
            for (unsigned i = 0; !stop; ++i) work(200, seed + t + i, t == 0);
        });
    }
    all.emplace_back([&] {  // arenas come and go, too
        while (!stop) {
            const auto own_one = allocator::create({.name = "short"}).value();
            (void)own_one->free(own_one->alloc(8).value());
        }
    });
    std::optional<every_100_us> ticking(std::in_place);
    for (int i = 0; i < scaled(40); ++i) {
        const int answer = testing::in_forked_child([&] {
            ::signal(SIGALRM, SIG_DFL);
            ::alarm(30);
            // Only this thread is here; the others' objects stay as they were, those of `passed` can be freed.
            for (auto& p : passed) {
                if (const std::uintptr_t v = p.exchange(0); v && subject->free(v) != 0) return 2;
            }
            const auto before = subject->stats().nr_cur_alloc;
            std::vector<std::uintptr_t> mine;
            for (std::size_t n = 0; n < 2000; ++n) {
                const auto v = subject->alloc(8 + n % 3000, 8, alloc_flags::nowarn);
                if (!v || mark_of(*v).exchange(*v) != 0) return 3;
                mine.push_back(*v);
            }
            for (const auto v : mine) {
                if (mark_of(v).load() != v || subject->free(v) != 0) return 4;
            }
            subject->trim();
            const auto other = allocator::create({.name = "in the child"});
            if (!other || (*other)->free((*other)->alloc(100).value()) != 0) return 5;
            return subject->stats().nr_cur_alloc == before ? 0 : 6;
        });
        ASSERT_EQ(answer, 0) << "child " << i;
    }
    stop = true;
    all.clear();
    ticking.reset();
    expect_all_back();
}

}  // namespace
}  // namespace cohort::percpu
