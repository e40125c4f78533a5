// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/ops.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <limits>
#include <set>
#include <thread>
#include <vector>

#include <cohort/percpu/testing/bare_chunk.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {
namespace {

using testing::bare_chunk;

int scaled(int n) {
    const char* scale = std::getenv("COHORT_TEST_SCALE");
    return std::max(1, static_cast<int>(n * (scale ? std::atof(scale) : 1.0)));
}

/// Keeps the calling thread on one CPU, so that what it wrote is what it reads.
class on_one_cpu {
public:
    on_one_cpu() : before_(sys::thread_affinity().value()) { EXPECT_TRUE(sys::pin_thread(cpumask{before_.first()})); }
    ~on_one_cpu() { EXPECT_TRUE(sys::pin_thread(before_)); }

private:
    cpumask before_;
};

template <class T>
class ops_on : public ::testing::Test {};
using numbers = ::testing::Types<std::int8_t, std::uint8_t, std::int16_t, std::uint16_t, std::int32_t, std::uint32_t, std::int64_t, std::uint64_t>;
TYPED_TEST_SUITE(ops_on, numbers);

template <class T, by I>
void every_operation_does_what_its_name_says() {
    const on_one_cpu pinned;
    const bare_chunk chunk;
    const auto h = chunk.at<T, I>(64);
    constexpr T low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
    EXPECT_EQ(this_cpu::read(h), T{0});
    this_cpu::write(h, high);
    EXPECT_EQ(this_cpu::read(h), high);
    this_cpu::inc(h);
    EXPECT_EQ(this_cpu::read(h), low) << "wraps";
    this_cpu::dec(h);
    EXPECT_EQ(this_cpu::read(h), high);
    this_cpu::write(h, T{40});
    this_cpu::add(h, T{5});
    this_cpu::sub(h, T{3});
    EXPECT_EQ(this_cpu::read(h), T{42});
    T amount{7};
    asm volatile("" : "+r"(amount));
    this_cpu::add(h, amount);
    EXPECT_EQ(this_cpu::add_return(h, amount), T{56});
    EXPECT_EQ(this_cpu::sub_return(h, T{6}), T{50});
    this_cpu::or_(h, T{0x0d});
    EXPECT_EQ(this_cpu::read(h), T{0x3f});
    this_cpu::and_(h, T{0x2a});
    EXPECT_EQ(this_cpu::read(h), T{0x2a});
    EXPECT_EQ(this_cpu::xchg(h, T{9}), T{0x2a});
    EXPECT_EQ(this_cpu::cmpxchg(h, T{8}, T{1}), T{9});
    EXPECT_EQ(this_cpu::read(h), T{9}) << "8 was expected, 9 was there";
    EXPECT_EQ(this_cpu::cmpxchg(h, T{9}, high), T{9});
    T seen{3};
    EXPECT_FALSE(this_cpu::try_cmpxchg(h, seen, T{1}));
    EXPECT_EQ(seen, high);
    EXPECT_TRUE(this_cpu::try_cmpxchg(h, seen, T{1}));
    EXPECT_EQ(this_cpu::read(h), T{1});
    EXPECT_EQ(sum(h), T{1});
    // The neighbours were not touched.
    for (const std::size_t beside : {64 - sizeof(T), 64 + sizeof(T)}) EXPECT_EQ(sum(chunk.at<T, I>(beside)), T{0});
}

TYPED_TEST(ops_on, every_operation_does_what_its_name_says) { every_operation_does_what_its_name_says<TypeParam, by::cpu>(); }
TYPED_TEST(ops_on, every_operation_does_what_its_name_says_by_cid) { every_operation_does_what_its_name_says<TypeParam, by::cid>(); }

TEST(percpu_ops, large_constants_reach_the_word_whole) {
    const on_one_cpu pinned;
    const bare_chunk chunk;
    const auto h = chunk.at<std::uint64_t>(0);
    this_cpu::add(h, 0x1122334455667788u);
    this_cpu::add(h, 0x80000000u);
    EXPECT_EQ(this_cpu::read(h), 0x11223344d5667788u);
    this_cpu::and_(h, 0xffffffff00000000u);
    EXPECT_EQ(this_cpu::read(h), 0x1122334400000000u);
}

TEST(percpu_ops, take_pointers_and_enumerations) {
    const on_one_cpu pinned;
    const bare_chunk chunk;
    enum class state : unsigned { idle, busy };
    const auto s = chunk.at<state>(0);
    EXPECT_EQ(this_cpu::xchg(s, state::busy), state::idle);
    EXPECT_EQ(this_cpu::read(s), state::busy);
    int target = 0;
    const auto p = chunk.at<int*>(8);
    EXPECT_EQ(this_cpu::cmpxchg(p, nullptr, &target), nullptr);
    EXPECT_EQ(this_cpu::read(p), &target);
}

TEST(percpu_ops, members_and_elements_have_their_own_handles) {
    const on_one_cpu pinned;
    const bare_chunk chunk;
    struct packet_stats {
        int flows;
        std::uint64_t packets, bytes;
    };
    const auto h = chunk.at<packet_stats>(128);
    this_cpu::add(h.member(&packet_stats::bytes), 1500u);
    this_cpu::inc(h.member(&packet_stats::flows));
    EXPECT_EQ(this_cpu_ptr(h)->bytes, 1500u);
    EXPECT_EQ(this_cpu_ptr(h)->flows, 1);
    EXPECT_EQ(this_cpu_ptr(h)->packets, 0u);
    const auto array = chunk.at<long>(512);
    this_cpu::add(array + 3, 8);
    EXPECT_EQ(this_cpu::read(chunk.at<long>(512 + 24)), 8);
}

TEST(percpu_ops, copies_of_different_cpus_are_apart_and_in_different_cache_sets) {
    std::set<std::uintptr_t> addresses, sets;
    for (unsigned cpu = 0; cpu < detail::colours; ++cpu) {
        const std::uintptr_t at = detail::offset_of(detail::layout::coloured, cpu);
        addresses.insert(at);
        sets.insert(at / 64 % 64);
    }
    EXPECT_EQ(sets.size(), detail::colours);
    for (auto i = addresses.begin(), next = std::next(i); next != addresses.end(); ++i, ++next) EXPECT_GE(*next - *i, detail::unit_bytes);
    for (unsigned cpu = 0; cpu < static_cast<unsigned>(max_cpus); ++cpu) EXPECT_EQ(detail::offset_of(detail::layout::flat, cpu) % 4096, 0u);
}

TEST(percpu_ops, a_handle_cannot_be_dereferenced) {
    const bare_chunk chunk;
    const auto h = chunk.at<int>(0);
    EXPECT_DEATH({ [[maybe_unused]] const int n = *reinterpret_cast<volatile int*>(h.value()); }, "");
}

TEST(percpu_ops, per_cpu_reaches_any_copy_and_sum_counts_all) {
    const bare_chunk chunk;
    const auto h = chunk.at<int>(0);
    int expected = 0;
    for_each_possible_cpu(h, [&](unsigned cpu, int& copy) {
        copy = static_cast<int>(cpu) + 1;
        expected += copy;
    });
    EXPECT_EQ(sum(h), expected);
    EXPECT_EQ(*per_cpu(h, possible_cpus() - 1), static_cast<int>(possible_cpus()));
    unsigned seen = 0;
    for_each_present_cpu(h, [&](unsigned cpu, int& copy) {
        EXPECT_EQ(copy, static_cast<int>(cpu) + 1);
        ++seen;
    });
    EXPECT_EQ(seen, possible_cpus());
}

TEST(percpu_ops, a_cpu_beyond_the_machine_is_the_callers_bug) {
    const bare_chunk chunk;
    const auto h = chunk.at<int>(0);
    EXPECT_DEATH(per_cpu(h, possible_cpus()), "beyond the possible");
}

template <by I>
void sums_are_exact_with_many_threads() {
    const bare_chunk chunk;
    const auto a = chunk.at<long, I>(0), b = chunk.at<long, I>(8), c = chunk.at<long, I>(16);
    const auto small = chunk.at<std::uint8_t, I>(24);
    constexpr int threads = 64;
    const int rounds = scaled(200'000);
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t) {
        all.emplace_back([&] {
            for (int i = 0; i < rounds; ++i) {
                this_cpu::inc(a);
                this_cpu::add_return(b, 3);
                for (long old = this_cpu::read(c); !this_cpu::try_cmpxchg(c, old, old + 2);) {}
                this_cpu::inc(small);
            }
        });
    }
    all.clear();
    EXPECT_EQ(sum(a), long{threads} * rounds);
    EXPECT_EQ(sum(b), 3L * threads * rounds);
    EXPECT_EQ(sum(c), 2L * threads * rounds);
    EXPECT_EQ(sum(small), static_cast<std::uint8_t>(threads * rounds));
}
TEST(percpu_ops, sums_are_exact_with_64_threads) { sums_are_exact_with_many_threads<by::cpu>(); }
TEST(percpu_ops, sums_are_exact_with_64_threads_by_cid) { sums_are_exact_with_many_threads<by::cid>(); }

constinit handle<long> interrupted_counter;
constinit std::atomic<long> handler_runs{0};

TEST(percpu_ops, sums_are_exact_when_handlers_use_the_same_counter) {
    const bare_chunk chunk;
    interrupted_counter = chunk.at<long>(0);
    handler_runs = 0;
    struct sigaction act {}, before {};
    act.sa_handler = [](int) {
        this_cpu::inc(interrupted_counter);
        handler_runs.fetch_add(1, std::memory_order_relaxed);
    };
    act.sa_flags = SA_RESTART;
    ASSERT_EQ(::sigaction(SIGALRM, &act, &before), 0);
    const itimerval every{{0, 100}, {0, 100}}, never{};
    constexpr int threads = 8;
    const int rounds = scaled(5'000'000);
    sigset_t alarm, mask;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&] {
                for (int i = 0; i < rounds; ++i) this_cpu::inc(interrupted_counter);
            });
        }
        // Not to this thread, which only waits: the kernel would always choose it.
        ::pthread_sigmask(SIG_BLOCK, &alarm, &mask);
        ASSERT_EQ(::setitimer(ITIMER_REAL, &every, nullptr), 0);
    }
    ASSERT_EQ(::setitimer(ITIMER_REAL, &never, nullptr), 0);
    ::signal(SIGALRM, SIG_IGN);  // one that is still on its way would end the program
    ASSERT_EQ(::sigaction(SIGALRM, &before, nullptr), 0);
    ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    if (scaled(1000) >= 1000) { EXPECT_GT(handler_runs.load(), 0); }
    EXPECT_EQ(sum(interrupted_counter), long{threads} * rounds + handler_runs.load());
}

TEST(percpu_ops, a_forked_child_counts_for_itself) {
    const bare_chunk chunk;
    const auto h = chunk.at<long>(0);
    this_cpu::add(h, 5);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        this_cpu::add(h, 10);
        ::_exit(sum(h) == 15 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(sum(h), 5);
}

}  // namespace
}  // namespace cohort::percpu
