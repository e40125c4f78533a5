// SPDX-License-Identifier: Apache-2.0
// Threads against trim() and against one another: no object is handed out twice, none is lost, all are zero when new.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/percpu/testing/respawn.hpp>
#include <cohort/sys/thread.hpp>

#if defined(__SANITIZE_ADDRESS__)
#define COHORT_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COHORT_TEST_ASAN 1
#endif
#endif
#if defined(COHORT_TEST_ASAN)
extern "C" int __lsan_do_recoverable_leak_check();
#endif

namespace cohort::percpu {
namespace {

using testing::scaled;

/// The owner of an object writes his mark on each present CPU; whoever gets one finds none.
class owned {
public:
    owned(std::uintptr_t value, std::size_t bytes, std::uint32_t who) : value_(value), bytes_(bytes / 4 * 4), who_(who) {}
    /// False: it was not zero, or another's.
    bool take() const {
        bool good = true;
        each_word([&](std::atomic_ref<std::uint32_t> word) { good = good && word.exchange(who_, std::memory_order_relaxed) == 0; });
        return good;
    }
    bool still_mine() const {
        bool good = true;
        each_word([&](std::atomic_ref<std::uint32_t> word) { good = good && word.load(std::memory_order_relaxed) == who_; });
        return good;
    }
    std::uintptr_t value() const { return value_; }

private:
    void each_word(auto f) const {
        // Of large ones the ends, and a word in each block.
        const std::size_t step = bytes_ > 512 ? 1024 : 4;
        for (unsigned cpu = 0; cpu < std::min(possible_cpus(), 4u); ++cpu) {
            const std::uintptr_t at = value_ + detail::offset_of(detail::layout_of(value_), cpu);
            for (std::size_t i = 0; i + 4 < bytes_; i += step) f(std::atomic_ref(*reinterpret_cast<std::uint32_t*>(at + i)));
            f(std::atomic_ref(*reinterpret_cast<std::uint32_t*>(at + bytes_ - 4)));
        }
    }
    std::uintptr_t value_;
    std::size_t bytes_;
    std::uint32_t who_;
};

void all_cpus_present() {
    for (unsigned cpu = 0; cpu < std::min(possible_cpus(), 4u); ++cpu) detail::make_present(by::cpu, cpu);
}

struct race {
    int threads, rounds;
    std::size_t most_bytes;
    bool magazines;
};

/// Threads keep some objects each and pass others on, while one gives back all it can.
void run(const race& r) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    all_cpus_present();
    const auto a = allocator::create({.name = "race", .magazines = r.magazines}).value();
    std::array<std::atomic<const owned*>, 32> passed{};
    std::atomic<int> faults{0}, running{r.threads};
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < r.threads; ++t) {
            all.emplace_back([&, t] {
                std::mt19937 random(seed + static_cast<unsigned>(t));
                std::vector<const owned*> mine;
                const auto drop = [&](const owned* o) {
                    if (!o->still_mine() || a->free(o->value()) != 0) ++faults;
                    delete o;
                };
                for (int i = 0; i < r.rounds; ++i) {
                    const std::size_t bytes = std::max<std::size_t>(random() % r.most_bytes, 8);
                    const auto v = a->alloc(bytes, std::size_t{4} << random() % 5, alloc_flags::nowarn);
                    if (!v) {
                        ++faults;
                        continue;
                    }
                    const auto* o = new owned(*v, bytes, static_cast<std::uint32_t>(t * 1'000'000 + i + 1));
                    if (!o->take()) ++faults;
                    if (random() % 2) {
                        if (const owned* old = passed[random() % passed.size()].exchange(o)) drop(old);
                    } else {
                        mine.push_back(o);
                    }
                    // All at once now and then: whole blocks become free, and their pages go.
                    if (mine.size() > 20 + random() % 200) {
                        for (const owned* m : mine) drop(m);
                        mine.clear();
                    }
                }
                for (const owned* m : mine) drop(m);
                --running;
            });
        }
        while (running > 0) {
            a->trim();
            a->balance();
            sys::yield_thread();
        }
    }
    for (auto& p : passed) {
        if (const owned* o = p.exchange(nullptr)) {
            EXPECT_TRUE(o->still_mine());
            EXPECT_EQ(a->free(o->value()), 0);
            delete o;
        }
    }
    EXPECT_EQ(faults, 0);
    a->trim();
    const allocator_stats s = a->stats();
    EXPECT_EQ(s.nr_cur_alloc, 0) << s.text();
    EXPECT_EQ(s.live_bytes, 0u);
    EXPECT_EQ(s.cached, 0);
    EXPECT_EQ(s.nr_alloc, s.nr_dealloc);
}

TEST(percpu_race, magazines_are_emptied_while_8_threads_use_them) { run({.threads = 8, .rounds = scaled(30'000), .most_bytes = 128, .magazines = true}); }
TEST(percpu_race, magazines_are_emptied_while_64_threads_use_them) { run({.threads = 64, .rounds = scaled(3'000), .most_bytes = 64, .magazines = true}); }
TEST(percpu_race, pages_go_while_threads_allocate) { run({.threads = 8, .rounds = scaled(8'000), .most_bytes = 6000, .magazines = true}); }
TEST(percpu_race, pages_go_while_threads_allocate_from_the_maps) { run({.threads = 8, .rounds = scaled(8'000), .most_bytes = 3000, .magazines = false}); }

#if defined(__x86_64__) && defined(RSEQ_SIG)
/// Waits inside a restartable sequence until `go`: true, it came to its end; false, it was made to begin again.
[[gnu::noinline]] bool waits_in_a_sequence(std::atomic<int>* inside, const std::atomic<int>* go) {
    asm volatile goto(".pushsection __rseq_cs, \"aw\"\n\t.balign 32\n3:\n\t.long 0, 0\n\t.quad 1f, 2f - 1f, 4f\n\t.popsection\n\t"
                      "leaq 3b(%%rip), %%rax\n\tmovq %%rax, %%fs:8(%[area])\n1:\n\t"
                      "movl $1, (%[inside])\n5:\n\tpause\n\tcmpl $0, (%[go])\n\tje 5b\n\tmovl $2, (%[inside])\n2:\n\t"
                      ".pushsection .text.unlikely, \"ax\"\n\t.byte 0x0f, 0xb9, 0x3d\n\t.long 0x53053053\n4:\n\tjmp %l[again]\n\t.popsection"
                      :
                      : [area] "r"(sys::rseq_offset()), [inside] "r"(inside), [go] "r"(go)
                      : "rax", "memory", "cc"
                      : again);
    return true;
again:
    return false;
}

/// A sequence may have found its magazine just before it was taken out of the table, and stand still for however long: its machine may be a virtual one.
TEST(percpu_race, a_sequence_under_way_begins_again_before_its_magazine_is_emptied) {
    const cpumask cpus = sys::thread_affinity().value();
    if (cpus.weight() < 2) GTEST_SKIP() << "needs two CPUs";
    if (detail::current_mode() != detail::mode::sequences) GTEST_SKIP() << "there are no restartable sequences";
    const int here = cpus.first(), there = cpus.next(here + 1);
    const auto a = allocator::create({.name = "fence"}).value();
    std::atomic<int> inside{0}, go{0};
    bool ended = true;
    std::jthread other([&] {
        ASSERT_TRUE(sys::pin_thread(cpumask{there}));
        EXPECT_EQ(a->free(a->alloc(64).value()), 0);
        ended = waits_in_a_sequence(&inside, &go);
        inside = 3;
    });
    ASSERT_TRUE(sys::pin_thread(cpumask{here}));
    while (inside == 0) sys::yield_thread();
    a->trim();
    go = 1;
    other.join();
    ASSERT_TRUE(sys::pin_thread(cpus));
    EXPECT_FALSE(ended);
    EXPECT_EQ(a->stats().cached, 0);
}
#endif

TEST(percpu_race, threads_that_come_and_go_lose_no_accounted_object) {
    all_cpus_present();
    const auto a = allocator::create({.name = "accounted"}).value();
    account::local_table table(8);
    const auto group = table->create(table->root(), "all", 1 << 20).value();
    std::atomic<int> refused{0};
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < 8; ++t) {
            all.emplace_back([&] {
                const account::scope paying(group);
                std::vector<std::uintptr_t> mine;
                for (int i = 0; i < scaled(3'000); ++i) {
                    const auto v = a->alloc(static_cast<std::size_t>(100 + i % 4000), 8, alloc_flags::account | alloc_flags::nowarn);
                    if (v) mine.push_back(*v);
                    else ++refused;
                    if (!v || mine.size() > 40) {
                        for (const auto m : mine) EXPECT_EQ(a->free(m), 0);
                        mine.clear();
                    }
                }
                for (const auto m : mine) EXPECT_EQ(a->free(m), 0);
            });
        }
    }
    EXPECT_EQ(group.stats()->usage, 0u);
    EXPECT_LE(group.stats()->peak, 1u << 20);
    EXPECT_EQ(a->stats().failures, static_cast<std::uint64_t>(refused));
}

/// Each round's counters stand in pages that were given back: their first additions meet page faults between the first and the last instruction.
TEST(percpu_race, sums_are_exact_in_pages_that_come_back) {
    const auto a = allocator::create({.name = "faults", .magazines = false}).value();
    const auto first = a->alloc(4).value();
    for (int round = 0; round < scaled(20); ++round) {
        std::vector<std::uintptr_t> counters;
        for (int i = 0; i < 96; ++i) counters.push_back(a->alloc(4096).value());
        const int adds = 20;
        {
            std::vector<std::jthread> all;
            for (int t = 0; t < 4; ++t) {
                all.emplace_back([&] {
                    for (const auto c : counters) {
                        for (int i = 0; i < adds; ++i) this_cpu::inc(handle<long>(c));
                    }
                });
            }
        }
        for (const auto c : counters) {
            ASSERT_EQ(sum(handle<long>(c)), 4 * adds);
            ASSERT_EQ(a->free(c), 0);
        }
        a->trim();
        ASSERT_LE(a->stats().populated_bytes, 96u * 4096u) << "the pages of the second chunk have gone";
    }
    EXPECT_EQ(a->free(first), 0);
}

constinit std::atomic<long> segv_runs{0};

/// The counter's page cannot be written to for moments: the fault is a signal inside the sequence, whose handler waits. No addition is lost or made twice.
TEST(percpu_race, sums_are_exact_when_the_page_faults_inside_the_sequence) {
    const auto a = allocator::create({.name = "faults", .magazines = false}).value();
    all_cpus_present();
    const std::uintptr_t page = a->alloc(4096, 4096).value();
    const handle<long, by::cpu, detail::layout::flat> counter(page);
    struct sigaction act {}, before {};
    act.sa_handler = [](int) {
        segv_runs.fetch_add(1, std::memory_order_relaxed);
        ::sched_yield();
    };
    segv_runs = 0;
    ASSERT_EQ(::sigaction(SIGSEGV, &act, &before), 0);
    constexpr int threads = 3;
    std::atomic<bool> stop{false};
    std::atomic<long> added{0};
    {
        std::vector<std::jthread> all;
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&] {
                long n = 0;
                for (; !stop; ++n) this_cpu::inc(counter);
                added += n;
            });
        }
        // Till it has happened; the threads may not have begun yet.
        const auto latest = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        for (int i = 0; i < scaled(150) || (segv_runs < 20 && std::chrono::steady_clock::now() < latest); ++i) {
            for (unsigned cpu = 0; cpu < std::min(possible_cpus(), 4u); ++cpu) {
                ASSERT_EQ(::mprotect(per_cpu(counter, cpu), 4096, PROT_READ), 0);
                if (i % 8 == 0) sys::yield_thread();  // on one CPU nobody else would run in between
                ASSERT_EQ(::mprotect(per_cpu(counter, cpu), 4096, PROT_READ | PROT_WRITE), 0);
            }
            sys::yield_thread();
        }
        stop = true;
    }
    ASSERT_EQ(::sigaction(SIGSEGV, &before, nullptr), 0);
    EXPECT_EQ(sum(counter), added);
    EXPECT_GT(segv_runs.load(), 0);
    EXPECT_EQ(a->free(page), 0);
}

TEST(percpu_race, a_second_thread_that_frees_the_same_object_is_refused) {
    const auto a = allocator::create({.name = "twice"}).value();
    for (const std::size_t bytes : {8, 1000, 5000}) {
        for (int i = 0; i < 200; ++i) {
            const auto v = a->alloc(bytes).value();
            int first = -1, second = -1;
            std::thread([&] { first = a->free(v); }).join();
            std::thread([&] { second = a->free(v); }).join();
            ASSERT_EQ(first, 0);
            ASSERT_EQ(second, EINVAL);
        }
    }
    EXPECT_EQ(a->stats().nr_cur_alloc, 0);
}

#if defined(COHORT_TEST_ASAN)
TEST(percpu_leaks, what_only_a_per_cpu_object_points_to_is_no_leak_until_it_is_freed) {
    // A child for each: a leak that was found once ends the program with an error.
    const auto leaks = [](bool freed) {
        return testing::in_forked_child([freed] {
            const auto a = allocator::create({.name = "holder"}).value();
            const auto v = a->alloc(64).value();
            detail::make_present(by::cpu, 0);
            std::thread([&] {  // whose stack and registers are gone
                *per_cpu(handle<void*>(v), 0) = std::malloc(1234);
            }).join();
            if (freed && a->free(v) != 0) return 2;
            return __lsan_do_recoverable_leak_check() != 0 ? 1 : 0;
        });
    };
    EXPECT_EQ(leaks(false), 0);
    EXPECT_EQ(leaks(true), 1);
}
#endif

}  // namespace
}  // namespace cohort::percpu
