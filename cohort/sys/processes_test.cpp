// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include <cohort/sys/fake_clock.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/placement.hpp>
#include <cohort/sys/signals.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::sys {
namespace {

using testing::scratch_dir;

/// What a command prints; its status through `status`.
std::string output_of(spawn_request request, exit_status* status = nullptr, const placement& place = {}) {
    const auto ends = real().pipe().value();
    owned_fd in(real(), ends.read), out(real(), ends.write);
    request.stdout_fd = out.get();
    const auto pid = spawn_at(real(), request, place);
    if (!pid) return pid.error().line();
    (void)out.close();
    const std::string text = read_rest(real(), in.get()).value();
    const auto end = real().wait(*pid);
    if (status) *status = end.value();
    return text;
}

TEST(spawn, gives_the_child_its_standard_descriptors) {
    const scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "in", "hello"));
    const auto in = open_file(real(), dir / "in", open_read);
    EXPECT_EQ(output_of({.argv = {"tr", "a-z", "A-Z"}, .stdin_fd = in->get()}), "HELLO");
    EXPECT_EQ(output_of({.argv = {"sh", "-c", "pwd; echo $COHORT_A"}, .directory = dir.path(), .environment = {"COHORT_A=b=c"}}), dir.path() + "\nb=c\n");
}

TEST(spawn, swapped_standard_descriptors_reach_the_right_place) {
    // stderr goes where our stdout is a pipe's end, stdout where stderr was: dup2 in the wrong order would lose one.
    const auto ends = real().pipe().value();
    owned_fd in(real(), ends.read), out(real(), ends.write);
    const owned_fd keep(real(), ::dup(2));
    ASSERT_GE(::dup2(out.get(), 2), 0);
    const auto pid = real().spawn({.argv = {"sh", "-c", "echo to-out; echo to-err >&2"}, .stdout_fd = 2, .stderr_fd = 1});
    ASSERT_GE(::dup2(keep.get(), 2), 0);
    ASSERT_TRUE(pid);
    (void)out.close();
    EXPECT_EQ(read_rest(real(), in.get()).value(), "to-out\n");
    EXPECT_TRUE(real().wait(*pid)->ok());
}

TEST(spawn, inherited_descriptors_are_only_the_standard_ones_of_ours) {
    const owned_fd secret(real(), real().memfd("secret").value());
    const std::string path = "/proc/self/fd/" + std::to_string(secret.get());
    EXPECT_EQ(output_of({.argv = {"sh", "-c", "test -e " + path + " && echo there || echo gone"}}), "gone\n");
}

TEST(spawn, a_missing_program_is_an_error_of_spawn) {
    EXPECT_EQ(real().spawn({.argv = {"no-such-program-of-cohort"}}).error().line(), "no-such-program-of-cohort: spawn: ENOENT: No such file or directory");
    EXPECT_EQ(real().spawn({.argv = {"/etc/passwd"}}).error().code, EACCES);
    EXPECT_EQ(real().spawn({.argv = {"true"}, .directory = "/no/such/dir"}).error().code, ENOENT);
    EXPECT_EQ(real().spawn({.argv = {"true"}, .stdin_fd = 99'999}).error().code, EBADF);
    EXPECT_EQ(real().spawn({}).error().code, EINVAL);
    EXPECT_EQ(real().spawn({.argv = {"true"}, .affinity = cpumask{}}).error().code, EINVAL);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child that could not start was not reaped";
}

TEST(spawn, joins_groups_before_the_program_starts) {
    const scratch_dir dir;
    ASSERT_TRUE(write_file(real(), dir / "procs", ""));
    EXPECT_EQ(output_of({.argv = {"cat", dir / "procs"}}, nullptr, {.join = {dir / "procs"}}), "0\n") << "a process that joins by itself is 0";
    EXPECT_EQ(output_of({.argv = {"true"}}, nullptr, {.join = {dir / "procs", "/dev/full"}}), "true: join /dev/full: ENOSPC: No space left on device");
    EXPECT_EQ(spawn_at(real(), {.argv = {"true"}}, {.join = {dir / "none"}}).error().code, ENOENT);
}

TEST(spawn, sets_the_memory_policy_before_the_program_starts) {
    if (!real().get_mempolicy() || !real().stat("/proc/self/numa_maps")) GTEST_SKIP() << "this kernel has no memory policies";
    const std::string maps = output_of({.argv = {"cat", "/proc/self/numa_maps"}}, nullptr, {.memory = mempolicy{.mode = mempolicy_bind, .nodes = nodemask{0}}});
    EXPECT_THAT(maps, ::testing::HasSubstr(" bind:0 "));
    EXPECT_EQ(spawn_at(real(), {.argv = {"true"}}, {.memory = mempolicy{.mode = mempolicy_bind, .nodes = {}}}).error().code, EINVAL);
}

TEST(spawn, sets_the_affinity_before_the_program_starts) {
    const int last = real().sched_getaffinity(0)->last();
    const std::string status = output_of({.argv = {"grep", "Cpus_allowed_list", "/proc/self/status"}, .affinity = cpumask{last}});
    EXPECT_EQ(status, "Cpus_allowed_list:\t" + std::to_string(last) + "\n");
}

TEST(spawn, resets_sigpipe_and_the_signal_mask) {
    sigset_t term, before;
    ::sigemptyset(&term);
    ::sigaddset(&term, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &term, &before);
    auto* old = ::signal(SIGPIPE, SIG_IGN);
    exit_status status;
    output_of({.argv = {"sh", "-c", "kill -PIPE $$; exit 3"}}, &status);
    EXPECT_EQ(status.signal, SIGPIPE);
    output_of({.argv = {"sh", "-c", "kill -TERM $$; exit 3"}}, &status);
    EXPECT_EQ(status.text(), "killed by signal 15 (SIGTERM)");
    ::signal(SIGPIPE, old);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST(spawn, many_threads_spawn_at_once) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([t] {
            for (int i = 0; i < 10; ++i) {
                const std::string word = std::to_string(t) + "." + std::to_string(i);
                EXPECT_EQ(output_of({.argv = {"echo", word}}), word + "\n");
            }
        });
    }
    for (auto& t : threads) t.join();
}

/// Until it has ended, and was reaped by whoever it belonged to; a minute at most.
bool ends_soon(int pid) {
    const std::string place = "/proc/" + std::to_string(pid);
    const std::uint64_t until = real().now() + 60'000'000'000;
    for (;;) {
        const auto stat = read_line(real(), place + "/stat");
        if (!stat || stat->substr(stat->rfind(')')).starts_with(") Z")) return true;
        if (real().now() >= until) return false;
        real().sleep_until(real().now() + 2'000'000);
    }
}

TEST(spawn, a_child_that_ends_with_its_parent_does_and_one_that_does_not_lives_on) {
    for (const bool ends : {true, false}) {
        int pid = 0;
        // The thread that spawns is the parent.
        std::thread([&] { pid = real().spawn({.argv = {"sleep", "1000"}, .ends_with_parent = ends}).value(); }).join();
        if (ends) EXPECT_TRUE(ends_soon(pid));
        else EXPECT_FALSE(real().try_wait(pid).value());
        (void)real().kill(pid, SIGKILL);
        EXPECT_EQ(real().wait(pid)->signal, SIGKILL);
    }
}

TEST(spawn, a_session_of_its_own_has_no_more_descriptors_than_three) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);  // inheritable, as others may make them
    exit_status status;
    const std::string out = output_of({.argv = {"sh", "-c", "cut -d' ' -f5,6 /proc/$$/stat; echo $$; ls /proc/$$/fd"}, .new_session = true}, &status);
    ::close(ends[0]), ::close(ends[1]);
    const std::string pid = std::to_string(status.pid);
    EXPECT_EQ(out, pid + " " + pid + "\n" + pid + "\n0\n1\n2\n");
}

TEST(wait, tells_how_the_child_ended) {
    exit_status status;
    output_of({.argv = {"sh", "-c", "exit 7"}}, &status);
    EXPECT_EQ(status.text(), "exit 7");
    EXPECT_FALSE(status.ok());
    output_of({.argv = {"sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"}}, &status);
    EXPECT_TRUE(status.ok());
    EXPECT_GT(status.user_ns + status.system_ns, 0u);
    EXPECT_GT(status.max_rss_bytes, 100'000u);
    EXPECT_EQ(real().wait(status.pid).error().line(), "process " + std::to_string(status.pid) + ": wait: ECHILD: No child processes");
    EXPECT_EQ(real().try_wait(status.pid).error().code, ECHILD);
}

TEST(wait, try_wait_and_pidfd_do_not_block) {
    const int pid = real().spawn({.argv = {"sleep", "100"}, .new_group = true}).value();
    EXPECT_EQ(real().try_wait(pid).value(), std::nullopt);
    const owned_fd fd(real(), real().pidfd(pid).value());
    poll_item item{.fd = fd.get(), .want_read = true};
    EXPECT_EQ(real().poll(std::span(&item, 1), 0).value(), 0);
    EXPECT_TRUE(real().kill(-pid, SIGKILL)) << "the child leads its own group";
    EXPECT_EQ(real().poll(std::span(&item, 1), std::nullopt).value(), 1);
    EXPECT_EQ(real().wait(pid)->signal, SIGKILL);
    EXPECT_EQ(real().kill(pid, 0).error().code, ESRCH);
    EXPECT_EQ(real().pidfd(-5).error().code, EINVAL);
}

TEST(facts, of_the_real_system) {
    const auto before = real().sched_getaffinity(0).value();
    EXPECT_FALSE(before.empty());
    EXPECT_TRUE(before.test(real().getcpu().cpu));
    ASSERT_TRUE(real().sched_setaffinity(0, cpumask{before.first()}));
    EXPECT_EQ(real().getcpu().cpu, before.first());
    EXPECT_EQ(real().sched_setaffinity(0, {}).error().line(), "this thread: sched_setaffinity \"\": EINVAL: Invalid argument");
    EXPECT_EQ(real().sched_getaffinity(0x3fffffff).error().code, ESRCH);
    ASSERT_TRUE(real().sched_setaffinity(0, before));
    const auto now = real().now();
    real().sleep_until(now + 1'000'000);
    EXPECT_GE(real().now(), now + 1'000'000);
    EXPECT_EQ(real().getpid(), ::getpid());
    EXPECT_TRUE(real().getenv("PATH"));
    EXPECT_FALSE(real().getenv("COHORT_NO_SUCH_VARIABLE"));
}

TEST(fake_clock, wakes_sleepers_when_it_is_moved) {
    fake_clock clock(real());
    std::thread sleeper([&] { clock.sleep_until(1000); });
    clock.wait_for_sleepers(1);
    clock.advance(999);
    EXPECT_EQ(clock.now(), 999u);
    clock.advance(1);
    sleeper.join();
    fake_clock alone(real(), fake_clock::mode::jump, 5);
    alone.sleep_until(70);
    EXPECT_EQ(alone.now(), 70u);
    alone.sleep_until(3);
    EXPECT_EQ(alone.now(), 70u);
}

TEST(signals, first_one_requests_stop_and_polls_readable) {
    {
        auto caught = signal_catcher::create();
        ASSERT_TRUE(caught);
        EXPECT_EQ(signal_catcher::create().error().code, EBUSY);
        EXPECT_EQ(caught->signal(), 0);
        EXPECT_FALSE(caught->token().stop_requested());
        ::raise(SIGTERM);
        EXPECT_EQ(caught->signal(), SIGTERM);
        EXPECT_EQ(caught->exit_code(), 128 + SIGTERM);
        poll_item item{.fd = caught->fd(), .want_read = true};
        EXPECT_EQ(real().poll(std::span(&item, 1), std::nullopt).value(), 1);
        while (!caught->token().stop_requested()) std::this_thread::yield();
        ::raise(SIGINT);  // of another kind: caught too; the first one is what counts
        EXPECT_EQ(caught->signal(), SIGTERM);
    }
    auto again = signal_catcher::create();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->signal(), 0) << "a new catcher starts afresh";
}

TEST(signals, sigpipe_becomes_epipe_and_old_actions_come_back) {
    for (int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(s, SIG_DFL);  // what runs in the background of a script ignores some
    {
        auto caught = signal_catcher::create();
        auto ends = real().pipe().value();
        ASSERT_TRUE(real().close(ends.read));
        const owned_fd out(real(), ends.write);
        EXPECT_EQ(write_all(real(), out.get(), "x").error().code, EPIPE);
    }
    struct sigaction now {};
    for (int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
        ::sigaction(s, nullptr, &now);
        EXPECT_EQ(now.sa_handler, SIG_DFL) << s;
    }
}

TEST(signals, what_was_ignored_stays_ignored) {
    ::signal(SIGHUP, SIG_IGN);
    {
        auto caught = signal_catcher::create();
        ::raise(SIGHUP);
        EXPECT_EQ(caught->signal(), 0);
    }
    ::signal(SIGHUP, SIG_DFL);
}

TEST(signals_death, a_second_signal_of_the_same_kind_ends_the_program) {
    ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
    EXPECT_EXIT(
        {
            ::signal(SIGINT, SIG_DFL);
            auto caught = signal_catcher::create();
            ::raise(SIGINT);
            ::raise(SIGINT);
        },
        ::testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace cohort::sys
