// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/multithreaded.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include <cohort/padata/shell.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {
namespace {

struct chunk {
    std::size_t begin, end;
    bool operator<(const chunk& o) const { return begin < o.begin; }
};

/// Runs the job and returns its chunks in ascending order.
std::vector<chunk> chunks_of(instance& inst, mt_job job) {
    std::mutex lock;
    std::vector<chunk> seen;
    job.run = [&](std::size_t b, std::size_t e) {
        std::lock_guard hold(lock);
        seen.push_back({b, e});
        return 0;
    };
    auto r = do_multithreaded(inst, job);
    EXPECT_TRUE(r) << r.error().line();
    std::sort(seen.begin(), seen.end());
    return seen;
}

void expect_exact_cover(const std::vector<chunk>& chunks, std::size_t start, std::size_t size) {
    std::size_t at = start;
    for (const chunk& c : chunks) {
        ASSERT_EQ(c.begin, at);
        ASSERT_LT(c.begin, c.end);
        at = c.end;
    }
    EXPECT_EQ(at, start + size);
}

TEST(multithreaded, covers_the_range_exactly_once_for_random_shapes) {
    std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    auto inst = instance::create().value();
    for (int i = 0; i < 2'000; ++i) {
        mt_job job;
        job.start = random() % 2 ? random() % 1'000 : random() >> 1;
        job.size = random() % 5'000;
        job.align = random() % 4 ? random() % 65 : 0;
        job.min_chunk = random() % 3 ? random() % 300 : 0;
        job.max_chunk = random() % 2 ? random() % 300 : 0;
        job.max_threads = static_cast<int>(random() % 5);
        job.numa_aware = random() % 2;
        expect_exact_cover(chunks_of(*inst, job), job.start, job.size);
    }
}

TEST(multithreaded, chunks_end_on_multiples_of_the_alignment_and_keep_the_least_size) {
    auto inst = instance::create({.max_workers = 2, .usable = cpumask{0, 1, 2, 3}}).value();
    auto chunks = chunks_of(*inst, {.start = 1'003, .size = 100'000, .align = 64, .min_chunk = 1'000, .max_threads = 2});
    expect_exact_cover(chunks, 1'003, 100'000);
    for (std::size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_EQ(chunks[i].end % 64, 0u);
    for (std::size_t i = 1; i + 1 < chunks.size(); ++i) EXPECT_GE(chunks[i].end - chunks[i].begin, 1'000u);
    // The kernel's rule: a quarter of a thread's share.
    for (std::size_t i = 1; i + 1 < chunks.size(); ++i) EXPECT_EQ(chunks[i].end - chunks[i].begin, 12'544u);
}

TEST(multithreaded, max_chunk_bounds_every_chunk) {
    auto inst = instance::create().value();
    auto chunks = chunks_of(*inst, {.start = 0, .size = 10'000'000, .max_chunk = 10'000});
    EXPECT_EQ(chunks.size(), 1'000u);
    for (const chunk& c : chunks) EXPECT_EQ(c.end - c.begin, 10'000u);
}

TEST(multithreaded, size_zero_calls_nothing_and_zero_limits_count_as_one) {
    auto inst = instance::create().value();
    EXPECT_TRUE(chunks_of(*inst, {.start = 5, .size = 0}).empty());
    expect_exact_cover(chunks_of(*inst, {.start = 0, .size = 10, .align = 0, .min_chunk = 0}), 0, 10);
}

TEST(multithreaded, the_last_number_is_reached_and_one_more_overflows) {
    auto inst = instance::create().value();
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    for (std::size_t size : {std::size_t{1}, std::size_t{1'000}, most / 2}) {
        mt_job job{.start = most - size, .size = size, .align = 7, .min_chunk = size / 8};
        expect_exact_cover(chunks_of(*inst, job), job.start, size);
    }
    expect_exact_cover(chunks_of(*inst, {.start = 0, .size = most, .align = most, .min_chunk = most}), 0, most);
    mt_job job{.run = [](std::size_t, std::size_t) { return 0; }, .start = most, .size = 1};
    auto r = do_multithreaded(*inst, job);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EOVERFLOW);
}

TEST(multithreaded, refuses_a_job_without_run_and_a_negative_number_of_threads) {
    auto inst = instance::create().value();
    auto r = do_multithreaded(*inst, {.size = 1});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().line(), "padata \"padata\": do_multithreaded: EINVAL: run is empty");
    r = do_multithreaded(*inst, {.run = [](std::size_t, std::size_t) { return 0; }, .size = 1, .max_threads = -1});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EINVAL);
}

TEST(multithreaded, never_uses_more_threads_than_asked_for) {
    auto inst = instance::create({.usable = cpumask::range(0, 7)}).value();  // eight workers, wherever they run
    for (int most : {1, 2, 3}) {
        std::mutex lock;
        std::set<std::thread::id> threads;
        mt_job job{.run = [&](std::size_t, std::size_t) {
                       std::lock_guard hold(lock);
                       threads.insert(std::this_thread::get_id());
                       return 0;
                   },
                   .size = 10'000,
                   .max_chunk = 1,
                   .max_threads = most};
        ASSERT_TRUE(do_multithreaded(*inst, job));
        EXPECT_LE(threads.size(), static_cast<std::size_t>(most));
    }
}

TEST(multithreaded, helpers_join_a_long_job) {
    if (sys::thread_affinity()->weight() < 2) GTEST_SKIP() << "needs two CPUs";
    auto inst = instance::create().value();
    std::atomic<int> inside{0}, most{0};
    // Each chunk waits until another thread is inside too: only a helper can end that.
    mt_job job{.run = [&](std::size_t, std::size_t) {
                   ++inside;
                   while (most.load() < 2) {
                       int now = inside.load();
                       if (now > most.load()) most = now;
                       sys::yield_thread();
                   }
                   --inside;
                   return 0;
               },
               .size = 2,
               .max_threads = 2};
    ASSERT_TRUE(do_multithreaded(*inst, job));
    EXPECT_EQ(most.load(), 2);
}

TEST(multithreaded, the_first_error_stops_the_job_is_returned_and_what_was_done_is_undone) {
    auto inst = instance::create().value();
    for (int error : {ENOSPC, -ENOSPC}) {
        std::mutex lock;
        std::set<std::size_t> done;
        mt_job job;
        job.size = 10'000;
        job.max_chunk = 10;
        job.run = [&](std::size_t b, std::size_t e) {
            if (b == 5'000) return error;
            std::lock_guard hold(lock);
            for (; b < e; ++b) done.insert(b);
            return 0;
        };
        job.undo = [&](std::size_t b, std::size_t e) {
            for (; b < e; ++b) EXPECT_EQ(done.erase(b), 1u) << b;
        };
        auto r = do_multithreaded(*inst, job);
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, ENOSPC);
        EXPECT_TRUE(done.empty());
    }
}

TEST(multithreaded, an_exception_reaches_the_caller_after_undo) {
    auto inst = instance::create().value();
    std::atomic<std::size_t> done{0}, undone{0};
    mt_job job;
    job.size = 1'000;
    job.max_chunk = 1;
    job.run = [&](std::size_t b, std::size_t e) {
        if (b == 500) throw std::runtime_error("five hundred");
        done += e - b;
        return 0;
    };
    job.undo = [&](std::size_t b, std::size_t e) { undone += e - b; };
    EXPECT_THROW((void)do_multithreaded(*inst, job), std::runtime_error);
    EXPECT_EQ(done.load(), undone.load());
    EXPECT_LT(done.load(), 1'000u);
}

TEST(multithreaded, a_stop_request_ends_it_with_ecanceled) {
    auto inst = instance::create().value();
    std::stop_source stop;
    std::atomic<std::size_t> done{0}, undone{0};
    mt_job job;
    job.size = 100'000;
    job.max_chunk = 1;
    job.stop = stop.get_token();
    job.run = [&](std::size_t, std::size_t) {
        const std::size_t n = ++done;
        if (n == 100) stop.request_stop();
        while (n > 100 && !stop.stop_requested()) sys::yield_thread();  // whoever asks may be kept from its CPU just now
        return 0;
    };
    job.undo = [&](std::size_t b, std::size_t e) { undone += e - b; };
    auto r = do_multithreaded(*inst, job);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ECANCELED);
    EXPECT_EQ(done.load(), undone.load());
    EXPECT_LT(done.load(), 100'000u);

    std::size_t before = done.load();
    r = do_multithreaded(*inst, job);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ECANCELED);
    EXPECT_EQ(done.load(), before);
}

TEST(multithreaded, may_be_nested_and_called_from_jobs_of_a_shell) {
    auto inst = instance::create().value();
    std::atomic<std::size_t> units{0};
    mt_job inner{.run = [&](std::size_t b, std::size_t e) { units += e - b; return 0; }, .size = 1'000, .max_chunk = 10};
    mt_job outer{.run = [&](std::size_t, std::size_t) { return do_multithreaded(*inst, inner) ? 0 : EIO; }, .size = 20, .max_chunk = 1};
    ASSERT_TRUE(do_multithreaded(*inst, outer));
    EXPECT_EQ(units.load(), 20'000u);

    auto s = shell::create(*inst).value();
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(s.submit([&] { (void)do_multithreaded(*inst, inner); }, [] {}));
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(units.load(), 70'000u);
}

TEST(multithreaded, a_helper_passes_the_gate) {
    struct counting : work::gate {
        void enter(int) override { ++entered; }
        void leave(int) override { ++left; }
        std::atomic<int> entered{0}, left{0};
    } gate;
    auto inst = instance::create({.gate = &gate}).value();
    std::atomic<bool> helper{false};
    auto me = std::this_thread::get_id();
    mt_job job{.run = [&](std::size_t, std::size_t) {
                   if (std::this_thread::get_id() != me) helper = true;
                   while (!helper && inst->workers().general_workers() > 1) sys::yield_thread();
                   return 0;
               },
               .size = 2};
    ASSERT_TRUE(do_multithreaded(*inst, job));
    EXPECT_EQ(gate.entered.load(), gate.left.load());
    if (helper) {
        EXPECT_GT(gate.entered.load(), 0);
    }
}

TEST(multithreaded, works_in_an_instance_without_threads) {
    auto inst = instance::create({.own_threads = false}).value();
    expect_exact_cover(chunks_of(*inst, {.start = 3, .size = 1'000, .max_chunk = 10}), 3, 1'000);
}

}  // namespace
}  // namespace cohort::padata
