// SPDX-License-Identifier: Apache-2.0
/// Heads of streams, the watchdog, callbacks that sleep, and freeing while jobs fly.
#include <cohort/padata/shell.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <mutex>
#include <thread>

#include <cohort/sys/os.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/testing/sources.hpp>

namespace cohort::padata {
namespace {

using namespace std::chrono_literals;
using work::testing::wait_until;

struct held_job : job {
    void parallel() override { started = true; }
    void serial() override { delivered = true; }
    std::atomic<bool> started{false}, delivered{false};
};

/// Three CPUs that need not be there, so that there are workers enough everywhere.
std::unique_ptr<instance> three(instance_options options = {}) {
    options.usable = cpumask{0, 1, 2};
    return instance::create(std::move(options)).value();
}

shell stream_of(instance& inst, shell_options options) { return shell::create(inst, std::move(options)).value(); }

head_state head_of(instance& inst) {
    auto all = inst.heads();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? head_state{} : all.front();
}

/// Looks until the head is in this phase.
head_state head_in(instance& inst, head_phase phase) {
    head_state h;
    wait_until([&] {
        auto all = inst.heads();
        if (!all.empty()) h = all.front();
        return !all.empty() && h.phase == phase;
    });
    return h;
}

TEST(heads, name_each_phase_of_the_oldest_job) {
    auto inst = three({.name = "p"});
    EXPECT_TRUE(inst->heads().empty());
    auto s = stream_of(*inst, {.name = "flow 7", .inline_jobs = false});
    EXPECT_TRUE(inst->heads().empty()) << "a stream without jobs has no head";
    std::latch in_parallel(1), in_serial(1);
    held_job first;
    ASSERT_TRUE(s.do_parallel(first));
    ASSERT_TRUE(s.submit([&] { in_parallel.wait(); }, [&] { in_serial.wait(); }));
    wait_until([&] { return first.started.load(); });

    auto h = head_in(*inst, head_phase::unfinished);
    EXPECT_EQ(h.instance, "p");
    EXPECT_EQ(h.shell, "flow 7");
    EXPECT_EQ(h.seq, 0u);
    EXPECT_EQ(h.behind, 1u);
    EXPECT_EQ(h.thread, -1);
    EXPECT_TRUE(h.line().starts_with("shell \"flow 7\": job 0 has left parallel() and nobody has called do_serial for ")) << h.line();
    EXPECT_TRUE(h.line().ends_with("; 1 job behind it")) << h.line();
    do_serial(first);

    h = head_in(*inst, head_phase::running);
    EXPECT_EQ(h.seq, 1u);
    EXPECT_EQ(h.job, 1u);
    EXPECT_TRUE((cpumask{0, 1, 2}).test(h.cpu));
    EXPECT_GT(h.thread, 0);
    EXPECT_NE(h.thread, sys::thread_id());
    EXPECT_TRUE(h.line().starts_with("shell \"flow 7\": job 1 runs parallel() on cpu " + std::to_string(h.cpu) + " (thread " + std::to_string(h.thread) + ") for ")) << h.line();
    in_parallel.count_down();

    h = head_in(*inst, head_phase::delivering);
    EXPECT_EQ(h.seq, 1u);
    wait_until([&] { return head_of(*inst).thread > 0; });
    in_serial.count_down();
    ASSERT_TRUE(s.drain());
    EXPECT_TRUE(inst->heads().empty());
}

TEST(heads, a_job_that_no_worker_takes_waits) {
    auto inst = instance::create({.own_threads = false}).value();
    auto s = stream_of(*inst, {.when_full = full_policy::eagain, .inline_jobs = false});
    ASSERT_TRUE(s.submit([] {}, [] {}));
    auto h = head_of(*inst);
    EXPECT_EQ(h.phase, head_phase::waiting);
    EXPECT_EQ(h.shell, "#0");
    EXPECT_TRUE(h.line().starts_with("shell \"#0\": job 0 waits for a worker for 0 s")) << h.line();
    while (inst->poll()) {
    }
    EXPECT_TRUE(inst->heads().empty());
}

TEST(heads, a_finished_job_behind_which_its_batch_runs_names_the_one_that_runs) {
    auto inst = instance::create({.own_threads = false}).value();
    auto s = stream_of(*inst, {.when_full = full_policy::eagain, .inline_jobs = false});
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(s.submit([] {}, [] {}));
    while (inst->poll()) {  // now it knows that they are cheap
    }
    head_state seen;
    ASSERT_TRUE(s.submit([] {}, [] {}));
    ASSERT_TRUE(s.submit([&] { seen = head_of(*inst); }, [] {}));
    while (inst->poll()) {
    }
    EXPECT_EQ(seen.seq, 4u);
    EXPECT_EQ(seen.job, 5u);
    EXPECT_EQ(seen.phase, head_phase::running);
    EXPECT_EQ(seen.thread, sys::thread_id());
    EXPECT_NE(seen.line().find("job 5 runs parallel(), before job 4 of its batch is finished, on cpu"), std::string::npos) << seen.line();
}

TEST(heads, a_job_inside_do_parallel_is_seen) {
    auto inst = three({.parallel = cpumask{0, 1, 2}});
    auto s = stream_of(*inst, {.name = "outer"});
    for (int i = 0; i < 3'000'000 && s.stats().ran_inline < 10; ++i) ASSERT_TRUE(s.submit([] {}, [] {}));
    ASSERT_TRUE(s.drain());
    std::atomic<bool> inline_run{false};
    std::vector<head_state> seen;
    const auto me = std::this_thread::get_id();
    for (int i = 0; i < 1'000'000 && !inline_run; ++i) {
        ASSERT_TRUE(s.submit(
            [&] {
                inline_run = std::this_thread::get_id() == me;
                if (inline_run) seen = inst->heads();
            },
            [] {}));
        ASSERT_TRUE(s.drain());
    }
    if (!inline_run) GTEST_SKIP() << "jobs did not come to run inline on this machine";
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen[0].phase, head_phase::in_do_parallel);
    EXPECT_TRUE(sys::thread_affinity()->test(seen[0].cpu));
    EXPECT_NE(seen[0].line().find(" runs inside do_parallel on cpu " + std::to_string(seen[0].cpu) + " for 0 s"), std::string::npos) << seen[0].line();
}

TEST(heads, are_told_longest_first_and_time_begins_when_they_are_seen) {
    auto inst = three();
    auto a = stream_of(*inst, {.name = "a", .inline_jobs = false}), b = stream_of(*inst, {.name = "b", .inline_jobs = false});
    held_job ja, jb;
    ASSERT_TRUE(a.do_parallel(ja));
    EXPECT_EQ(head_of(*inst).since, 0ns);
    const auto seen = std::chrono::steady_clock::now();
    ASSERT_TRUE(b.do_parallel(jb));
    (void)inst->heads();
    wait_until([&] { return std::chrono::steady_clock::now() - seen > 3ms; });
    auto all = inst->heads();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].shell, "a");
    EXPECT_EQ(all[1].shell, "b");
    EXPECT_GE(all[0].since, 2ms);
    EXPECT_GT(all[0].since, all[1].since);
    wait_until([&] { return ja.started && jb.started; });
    do_serial(ja);
    do_serial(jb);
}

/// On a busy machine a worker may not come to its CPU before the watchdog comes: then it tells of a job that waits for a worker, and rightly. Runs
/// scene(watchdog) with longer and longer ones until it says that it was not disturbed.
template <class Scene>
void until_undisturbed(Scene scene) {
    for (auto watchdog = 5ms; !scene(watchdog); watchdog *= 2) ASSERT_LT(watchdog, 5s) << "never as it should be";
}

struct told_heads {
    void operator()(const head_state& h) {
        const std::lock_guard hold(lock);
        all.push_back(h);
    }
    std::size_t size() {
        const std::lock_guard hold(lock);
        return all.size();
    }
    std::mutex lock;
    std::vector<head_state> all;
};

/// False: the watchdog came before the workers did.
bool a_stuck_head_is_told_once(std::chrono::milliseconds watchdog) {
    told_heads told;
    ::testing::internal::CaptureStderr();
    {
        auto inst = three({.name = "dog", .watchdog = watchdog, .on_stuck = std::ref(told)});
        auto stuck = stream_of(*inst, {.name = "slow", .inline_jobs = false});
        auto fine = stream_of(*inst, {.name = "fine"});
        held_job head, second;
        EXPECT_TRUE(stuck.do_parallel(head));
        EXPECT_TRUE(stuck.do_parallel(second));
        wait_until([&] { return head.started && second.started; });
        wait_until([&] { return told.size() > 0; });
        for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(fine.submit([] {}, [] {}));
        EXPECT_TRUE(fine.drain());
        // Long enough for it to be told again, if it were.
        const auto at = std::chrono::steady_clock::now();
        wait_until([&] { return std::chrono::steady_clock::now() - at > 4 * watchdog; });
        do_serial(head);
        wait_until([&] { return told.size() > 1; }, "for the next one, which is stuck as well");
        do_serial(second);
        EXPECT_TRUE(stuck.drain());
    }
    const std::string text = ::testing::internal::GetCapturedStderr();
    for (const head_state& h : told.all) {
        if (h.phase != head_phase::unfinished || h.shell != "slow") return false;
    }
    EXPECT_EQ(told.all.size(), 2u);
    EXPECT_EQ(told.all[0].seq, 0u);
    EXPECT_EQ(told.all[0].instance, "dog");
    EXPECT_GE(told.all[0].since, watchdog);
    EXPECT_EQ(told.all[1].seq, 1u);
    EXPECT_TRUE(text.starts_with("cohort: padata \"dog\": stuck: shell \"slow\": job 0 has left parallel() and nobody has called do_serial for ")) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
    return true;
}

TEST(watchdog, names_a_stuck_head_once_on_stderr_and_to_its_callback) { until_undisturbed(a_stuck_head_is_told_once); }

/// False: the watchdog came before the worker did.
bool a_long_job_is_told_with_its_cpu_and_thread(std::chrono::milliseconds watchdog) {
    told_heads told;
    std::latch go(1);
    std::atomic<int> thread{0};
    ::testing::internal::CaptureStderr();
    {
        auto inst = three({.watchdog = watchdog, .on_stuck = std::ref(told)});
        auto s = stream_of(*inst, {.inline_jobs = false});
        EXPECT_TRUE(s.submit(
            [&] {
                thread = sys::thread_id();
                go.wait();
            },
            [] {}));
        wait_until([&] { return told.size() > 0; });
        go.count_down();
        EXPECT_TRUE(s.drain());
    }
    (void)::testing::internal::GetCapturedStderr();
    if (told.all[0].phase != head_phase::running) return false;
    EXPECT_EQ(told.all[0].thread, thread.load());
    EXPECT_TRUE((cpumask{0, 1, 2}).test(told.all[0].cpu));
    return true;
}

TEST(watchdog, names_the_cpu_and_thread_of_a_job_that_runs_too_long) { until_undisturbed(a_long_job_is_told_with_its_cpu_and_thread); }

TEST(sleepers, are_reported_with_their_callback_and_seq_and_nobody_else) {
    ::testing::internal::CaptureStderr();
    {
        auto inst = three({.name = "lazy", .report_sleepers = true});
        auto s = stream_of(*inst, {.name = "bed", .inline_jobs = false});
        const auto nap = [] { sys::real().sleep_until(sys::real().now() + 1'000'000); };
        ASSERT_TRUE(s.submit([] {}, [] {}));
        ASSERT_TRUE(s.submit(nap, [] {}));
        ASSERT_TRUE(s.submit([] {}, nap));
        ASSERT_TRUE(s.submit([] {}, [] {}));
        ASSERT_TRUE(s.drain());
    }
    std::string text = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(text, "cohort: padata \"lazy\": shell \"bed\": parallel() of job 1 slept (1 time)\n"
                    "cohort: padata \"lazy\": shell \"bed\": serial() of job 2 slept (1 time)\n");
}

TEST(sleepers, are_not_looked_for_unless_asked) {
    ::testing::internal::CaptureStderr();
    {
        auto inst = three();
        auto s = stream_of(*inst, {.inline_jobs = false});
        ASSERT_TRUE(s.submit([] { sys::real().sleep_until(sys::real().now() + 1'000'000); }, [] {}));
        ASSERT_TRUE(s.drain());
    }
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

// ---- free while jobs fly

TEST(freeing, a_shell_waits_for_jobs_that_somebody_else_still_has) {
    auto inst = three();
    std::thread device;
    held_job jobs[3];
    {
        auto s = stream_of(*inst, {.inline_jobs = false});
        for (auto& j : jobs) ASSERT_TRUE(s.do_parallel(j));
        device = std::thread([&] {
            for (auto& j : jobs) wait_until([&] { return j.started.load(); });
            for (int i = 2; i >= 0; --i) do_serial(jobs[i]);
        });
    }
    for (auto& j : jobs) EXPECT_TRUE(j.delivered.load()) << "its destructor returned before";
    device.join();
}

TEST(freeing, a_shell_of_a_stopped_instance_is_freed_with_its_jobs_delivered) {
    auto inst = three({.parallel = cpumask{0, 1}});
    std::atomic<int> delivered{0};
    held_job head;
    {
        auto s = stream_of(*inst, {.inline_jobs = false});
        ASSERT_TRUE(s.do_parallel(head));
        for (int i = 0; i < 200; ++i) ASSERT_TRUE(s.submit([] {}, [&] { ++delivered; }));
        auto gap = instance::create({.usable = cpumask{0, 2}}).value();
        auto of_gap = stream_of(*gap, {.inline_jobs = false});
        for (int i = 0; i < 200; ++i) ASSERT_TRUE(of_gap.submit([] {}, [&] { ++delivered; }));
        ASSERT_TRUE(gap->set_cpumask(mask_kind::parallel, cpumask{1}));
        EXPECT_TRUE(gap->stopped());
        { const shell goes = std::move(of_gap); }
        wait_until([&] { return head.started.load(); });
        do_serial(head);
    }
    EXPECT_EQ(delivered.load(), 400);
}

TEST(freeing_death, an_instance_that_has_shells_must_not_go) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            auto inst = three();
            auto s = stream_of(*inst, {});
            inst.reset();
        },
        "an instance is destroyed while it has shells");
}

TEST(freeing_death, a_shell_must_not_go_from_its_own_callback) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            auto inst = three();
            auto s = std::make_unique<shell>(stream_of(*inst, {}));
            (void)s->submit([] {}, [&] { s.reset(); });
            (void)s->drain();
        },
        "a shell is destroyed from one of its own callbacks");
}

}  // namespace
}  // namespace cohort::padata
