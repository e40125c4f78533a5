// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/completion.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <stdexcept>
#include <thread>
#include <vector>

#include <cohort/padata/shell.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::padata {
namespace {

static_assert(!std::is_copy_constructible_v<completion> && !std::is_copy_assignable_v<completion>);
static_assert(std::is_nothrow_move_constructible_v<completion> && std::is_nothrow_move_assignable_v<completion>);

std::unique_ptr<instance> make_instance() { return instance::create({.name = "completions"}).value(); }

/// What serial() saw of each job, in order.
struct seen {
    std::vector<int> infos;
    void operator()(const job& j) { infos.push_back(j.info); }
};

TEST(completion, finished_in_parallel_is_as_do_serial) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    seen out;
    for (int i = 0; i < 1'000; ++i) ASSERT_TRUE(s.submit([i](completion done) { done.finish(i % 3); }, [&out](const job& j) { out(j); }));
    ASSERT_TRUE(s.drain());
    ASSERT_EQ(out.infos.size(), 1'000u);
    for (int i = 0; i < 1'000; ++i) EXPECT_EQ(out.infos[static_cast<std::size_t>(i)], i % 3);
}

TEST(completion, dropped_completes_the_job_as_failed_and_the_stream_goes_on) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    seen out;
    bool had_error = false;
    for (int i = 0; i < 9; ++i) {
        ASSERT_TRUE(s.submit(
            [i](completion done) {
                if (i % 3 != 1) done.finish();
            },
            [&](const job& j) {
                out(j);
                had_error |= j.error() != nullptr;
            }));
    }
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(out.infos, (std::vector<int>{0, -EIO, 0, 0, -EIO, 0, 0, -EIO, 0}));
    EXPECT_EQ(completion::dropped, -EIO);
    EXPECT_FALSE(had_error) << "an error() would say that parallel() threw";
    EXPECT_EQ(s.stats().failed, 3u);
}

TEST(completion, finished_late_and_in_any_order_on_another_thread_keeps_the_order) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    constexpr int jobs = 200;
    std::vector<completion> held(jobs);
    std::atomic<int> taken{0};
    std::vector<int> order;
    for (int i = 0; i < jobs; ++i) {
        ASSERT_TRUE(s.submit(
            [&, i](completion done) {
                held[static_cast<std::size_t>(i)] = std::move(done);
                ++taken;
            },
            [&order, i] { order.push_back(i); }));
    }
    while (taken.load() != jobs) sys::yield_thread();
    EXPECT_TRUE(order.empty());
    EXPECT_EQ(s.stats().delivered, 0u);
    std::thread other([&] {
        for (int i = jobs - 1; i > 0; --i) held[static_cast<std::size_t>(i)].finish();
    });
    other.join();
    EXPECT_EQ(s.stats().delivered, 0u) << "the first is not finished";
    held[0].finish();
    ASSERT_TRUE(s.drain());
    ASSERT_EQ(order.size(), static_cast<std::size_t>(jobs));
    for (int i = 0; i < jobs; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(completion, moves_own_one_job_and_assignment_drops_what_was_owned) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    seen out;
    completion a, b;
    std::atomic<int> taken{0};
    auto keep_in = [&](completion& where) {
        return [&where, &taken](completion done) {
            where = std::move(done);
            ++taken;
        };
    };
    ASSERT_TRUE(s.submit(keep_in(a), [&out](const job& j) { out(j); }));
    ASSERT_TRUE(s.submit(keep_in(b), [&out](const job& j) { out(j); }));
    while (taken.load() != 2) sys::yield_thread();
    EXPECT_TRUE(a && b);
    EXPECT_EQ(b->seq(), 1u);
    a = std::move(b);  // the first job is dropped
    EXPECT_TRUE(a);
    EXPECT_FALSE(b);  // NOLINT(bugprone-use-after-move): that is what is tested
    completion c(std::move(a));
    (*c).info = 7;
    c.finish(5);
    ASSERT_TRUE(s.drain());
    EXPECT_FALSE(c);
    EXPECT_EQ(out.infos, (std::vector<int>{completion::dropped, 5}));
}

TEST(completion, what_parallel_throws_with_its_handle_belongs_to_the_job_and_without_it_to_drain) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    completion elsewhere;
    std::atomic<bool> taken{false};
    int with_error = 0;
    ASSERT_TRUE(s.submit([](completion) { throw std::runtime_error("mine"); }, [&](const job& j) { with_error += j.error() && j.info == -EIO; }));
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(with_error, 1);
    ASSERT_TRUE(s.submit(
        [&](completion done) {
            elsewhere = std::move(done);
            taken = true;
            throw std::runtime_error("not mine any more");
        },
        [&](const job& j) { with_error += j.error() != nullptr || j.info != 0; }));
    while (!taken.load()) sys::yield_thread();
    elsewhere.finish();
    // The exception is kept after the handle was moved: it may come a moment later than the job.
    result<void> r = s.drain();
    while (r) r = s.drain();
    EXPECT_EQ(r.error().code, EIO);
    EXPECT_THROW(std::rethrow_exception(s.exception()), std::runtime_error);
    EXPECT_EQ(with_error, 1);
}

TEST(completion, a_cancelled_job_has_no_handle_and_a_taken_one_is_told) {
    auto inst = make_instance();
    auto s = shell::create(*inst, {.inline_jobs = false}).value();
    completion held;
    std::atomic<bool> taken{false};
    seen out;
    ASSERT_TRUE(s.submit(
        [&](completion done) {
            held = std::move(done);
            taken = true;
        },
        [&out](const job& j) { out(j); }));
    while (!taken.load()) sys::yield_thread();
    s.cancel();
    EXPECT_TRUE(held->stop_requested());
    held.finish(-ECANCELED);
    ASSERT_TRUE(s.drain());
    EXPECT_EQ(out.infos, (std::vector<int>{-ECANCELED}));
}

using completion_death = ::testing::Test;

struct free_job : job {
    void parallel() override { body(*this); }
    void serial() override {}
    std::function<void(job&)> body;
};

void run_one(std::function<void(job&)> body) {
    auto inst = make_instance();
    auto s = shell::create(*inst).value();
    free_job j;
    j.body = std::move(body);
    (void)s.do_parallel(j);
    (void)s.drain();
}

TEST(completion_death, using_a_handle_twice_is_a_callers_bug) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(completion().finish(), "owns no job");
    EXPECT_DEATH(run_one([](job& j) {
                     completion c = take(j);
                     c.finish();
                     c.finish();
                 }),
                 "owns no job");
    EXPECT_DEATH(run_one([](job& j) {
                     completion c = take(j), d = take(j);
                 }),
                 "taken once");
    EXPECT_DEATH(run_one([](job& j) {
                     completion c = take(j);
                     do_serial(j);
                 }),
                 "completion was taken");
    EXPECT_DEATH(run_one([](job& j) {
                     do_serial(j);
                     completion c = take(j);
                 }),
                 "taken once");
    EXPECT_DEATH(
        {
            free_job j;
            completion c = take(j);
        },
        "inside parallel");
}

}  // namespace
}  // namespace cohort::padata
