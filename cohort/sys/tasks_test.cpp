// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/sys/failing.hpp>
#include <cohort/sys/recorded.hpp>
#include <cohort/sys/tasks.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sys {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

TEST(tasks, this_process_is_among_all_and_its_threads_are_listed) {
    EXPECT_THAT(all_processes(real()).value(), Contains(::getpid()));
    int inner = 0;
    std::vector<int> seen;
    task_entry entry;
    ASSERT_TRUE(real().in_new_thread([&] {
        name_thread("a b) c");
        inner = real().gettid();
        seen = threads_of_process(real(), ::getpid()).value();
        entry = task_at(real(), inner).value();
    }));
    EXPECT_THAT(seen, Contains(inner));
    EXPECT_THAT(seen, Contains(real().gettid()));
    EXPECT_NE(inner, real().gettid());
    EXPECT_EQ(entry.id, inner);
    EXPECT_EQ(entry.pid, ::getpid());
    EXPECT_EQ(entry.group, ::getpgrp());
    EXPECT_EQ(entry.name, "a b) c");
}

TEST(tasks, one_that_has_ended_is_esrch) {
    const int child = real().spawn({.argv = {"true"}}).value();
    ASSERT_TRUE(real().wait(child));
    EXPECT_EQ(threads_of_process(real(), child).error().code, ESRCH);
    EXPECT_EQ(task_at(real(), child).error().code, ESRCH);
    EXPECT_EQ(task_at(real(), child).error().line(), "thread " + std::to_string(child) + ": look at it: ESRCH: there is no such thread");
}

TEST(tasks, are_read_from_a_recorded_machine_and_what_is_broken_is_told) {
    recorded host;
    host.add_file("/proc/7/stat", "7 (x) S 1 5 5 0\n");
    host.add_file("/proc/7/status", "Name:\tx\nTgid:\t6\nPid:\t7\n");
    host.add_dir("/proc/7/task/7");
    host.add_dir("/proc/7/task/8");
    host.add_file("/proc/uptime", "1 1\n");
    host.add_file("/proc/9/stat", "9 x\n");
    host.add_file("/proc/9/status", "Tgid:\t9\n");
    EXPECT_THAT(all_processes(host).value(), ElementsAre(7, 9));
    EXPECT_THAT(threads_of_process(host, 7).value(), ElementsAre(7, 8));
    const auto t = task_at(host, 7).value();
    EXPECT_EQ(t.pid, 6);
    EXPECT_EQ(t.group, 5);
    EXPECT_EQ(task_at(host, 9).error().code, EIO);
    for (int nth = 1;; ++nth) {
        failing os(host, {.nth = nth, .code = EACCES});
        const auto r = task_at(os, 7);
        const auto l = threads_of_process(os, 7);
        const auto a = all_processes(os);
        if (os.failures() == 0) break;
        EXPECT_TRUE(!r || !l || !a || os.calls("close") > 0) << nth;
    }
}

TEST(tasks, a_stat_is_read_behind_a_name_that_holds_anything) {
    recorded host;
    host.add_file("/proc/7/stat", "7 (x) R 9 (y) S 3 5 5 0 -1 2097152 0 0 12 0 100 20 7 3 20 0 1 0 4711 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 6 0 0\n");
    host.add_file("/proc/7/task/8/stat", "8 (y) Z 3\n");
    host.add_file("/proc/9/stat", "9 x\n");
    const auto s = stat_of(host, 7).value();
    const std::uint64_t tick = 1'000'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
    EXPECT_EQ(s.name, "x) R 9 (y");
    EXPECT_EQ(s.state, 'S');
    EXPECT_FALSE(s.over());
    EXPECT_EQ(s.parent, 3);
    EXPECT_EQ(s.group, 5);
    EXPECT_TRUE(s.kernel_thread);
    EXPECT_EQ(s.major_faults, 12u);
    EXPECT_EQ(s.cpu_ns, 120 * tick);
    EXPECT_EQ(s.waited_ns, 10 * tick);
    EXPECT_EQ(s.start, "4711");
    EXPECT_EQ(s.cpu, 6);
    const auto thread = stat_of(host, "7/task/8").value();
    EXPECT_TRUE(thread.over());
    EXPECT_EQ(thread.cpu, -1) << "what is not there is not guessed";
    EXPECT_EQ(stat_of(host, 9).error().code, EIO);
    EXPECT_EQ(stat_of(host, 10).error().line(), "process 10: look at it: ESRCH: there is no such process");
}

TEST(tasks, this_process_runs_where_it_may_and_its_time_grows) {
    const auto before = stat_of(real(), ::getpid()).value();
    const std::uint64_t until = thread_cpu_ns() + 30'000'000;
    while (thread_cpu_ns() < until) {}
    const auto after = stat_of(real(), "self").value();
    EXPECT_GE(after.cpu_ns, before.cpu_ns + 10'000'000);
    EXPECT_EQ(after.start, before.start);
    EXPECT_EQ(after.parent, ::getppid());
    EXPECT_GE(after.cpu, 0);
}

TEST(tasks, numbers_are_found_whatever_stands_between_them) {
    EXPECT_THAT(numbers_in("0 1 22\n333x4"), ElementsAre(0, 1, 22, 333, 4));
    EXPECT_TRUE(numbers_in("").empty());
    EXPECT_TRUE(numbers_in("x \n-").empty());
    EXPECT_THAT(ids_in("12\n3\n12\n"), ElementsAre(3, 12));
}

TEST(core_scheduling_call, real_recorded_and_failing_answer_as_kernels_do) {
    const auto here = real().sched_core(core_command::get, 0, 0);
    const int code = here ? 0 : here.error().code;
    EXPECT_THAT(code, ::testing::AnyOf(0, EINVAL, ENODEV, EPERM));
    EXPECT_EQ(real().sched_core(core_command::get, -1, 0).error().code, code == 0 ? EINVAL : code);
    recorded host;
    EXPECT_EQ(host.sched_core(core_command::create, 0, 0).error().code, EINVAL) << "a kernel without it";
    failing os(host, {.call = "sched_core", .code = EPERM});
    EXPECT_EQ(os.sched_core(core_command::share_to, 12, 1).error().line(), "thread 12: sched_core: EPERM: Operation not permitted (injected)");
    int ran = 0;
    EXPECT_TRUE(host.in_new_thread([&] { ++ran; }));
    failing none(host, {.call = "in_new_thread", .code = EAGAIN});
    EXPECT_EQ(none.in_new_thread([&] { ++ran; }).error().code, EAGAIN);
    EXPECT_EQ(ran, 1);
}

TEST(exec, what_cannot_be_executed_is_told_and_the_caller_lives_on) {
    EXPECT_EQ(real().exec({}).error().code, EINVAL);
    EXPECT_EQ(real().exec({"/nowhere/at/all"}).error().line(), "/nowhere/at/all: exec: ENOENT: No such file or directory");
    recorded host;
    EXPECT_EQ(host.exec({"true"}).error().code, ENOSYS);
}

}  // namespace
}  // namespace cohort::sys
