// SPDX-License-Identifier: Apache-2.0
/// What the tests of counters, references and locks share: a seed that is printed, signals that interrupt, rounds that scale.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

namespace cohort::percpu::testing {

inline int scaled(int n) {
    const char* scale = std::getenv("COHORT_TEST_SCALE");
    return std::max(1, static_cast<int>(n * (scale ? std::atof(scale) : 1.0)));
}

/// COHORT_TEST_SEED, or a new one; printed.
inline std::uint64_t seed() {
    const char* given = std::getenv("COHORT_TEST_SEED");
    const std::uint64_t s = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::cout << "seed " << s << '\n';
    return s;
}

/// Blocks SIGALRM in the calling thread, or lets it come. Answers what was before.
inline sigset_t alarms(int how) {
    sigset_t alarm, before;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(how, &alarm, &before);
    return before;
}

/// body(number of the thread) in so many threads, which take interruptions.
inline void in_threads(int n, const std::function<void(int)>& body) {
    std::vector<std::jthread> all;
    for (int t = 0; t < n; ++t) {
        all.emplace_back([&body, t] {
            (void)alarms(SIG_UNBLOCK);
            body(t);
        });
    }
}

/// While it lives, `handler` interrupts some thread of in_threads() every 100 us of real time; not the one that made it, which the kernel would always choose,
/// and which only waits. One at a time.
class interruptions {
public:
    explicit interruptions(void (*handler)()) {
        ours = handler;
        struct sigaction act {};
        act.sa_handler = [](int) {
            ours();
            count.fetch_add(1, std::memory_order_relaxed);
        };
        act.sa_flags = SA_RESTART;
        count = 0;
        mask_ = alarms(SIG_BLOCK);
        EXPECT_EQ(::sigaction(SIGALRM, &act, &before_), 0);
        const itimerval every{{0, 100}, {0, 100}};
        EXPECT_EQ(::setitimer(ITIMER_REAL, &every, nullptr), 0);
    }
    ~interruptions() {
        const itimerval never{};
        EXPECT_EQ(::setitimer(ITIMER_REAL, &never, nullptr), 0);
        ::signal(SIGALRM, SIG_IGN);  // one that is still on its way would end the program
        EXPECT_EQ(::sigaction(SIGALRM, &before_, nullptr), 0);
        ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
    }
    interruptions(const interruptions&) = delete;
    interruptions& operator=(const interruptions&) = delete;
    /// Handlers that have ended.
    static long so_far() { return count.load(); }

private:
    using handler_type = void (*)();
    static inline constinit handler_type ours = nullptr;
    static inline constinit std::atomic<long> count{0};
    struct sigaction before_ {};
    sigset_t mask_{};
};

}  // namespace cohort::percpu::testing
