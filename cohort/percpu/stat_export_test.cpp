// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/stat_export.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>
#include <vector>

#include <cohort/percpu/stats.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/testing/threads.hpp>

namespace cohort::percpu {
namespace {

using testing::HasSubstr;

/// A child that does what it is told and is there until the end of the test.
struct child {
    explicit child(void (*body)() = nullptr) {
        int ends[2];
        if (::pipe(ends) != 0) return;
        pid = ::fork();
        if (pid == 0) {
            if (body) body();
            char ready = 1;
            if (::write(ends[1], &ready, 1) != 1) ::_exit(1);
            for (;;) ::pause();
        }
        char ready;
        there = ::read(ends[0], &ready, 1) == 1;
        ::close(ends[0]);
        ::close(ends[1]);
    }
    ~child() {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    pid_t pid = -1;
    bool there = false;
};

TEST(stat_export, answers_what_the_allocators_hold_while_they_are_used) {
    ASSERT_TRUE(export_stats());
    ASSERT_TRUE(export_stats());  // nothing more to do
    EXPECT_TRUE(sys::testing::blocks_signals("percpu-stat"));
    auto a = allocator::create({.name = "asked"}).value();
    std::vector<std::uintptr_t> held;
    for (int i = 0; i < 123; ++i) held.push_back(a->alloc(2000).value());
    std::thread busy([] {
        for (int i = 0; i < 20'000; ++i) (void)make<long>();
    });
    for (int i = 0; i < 20; ++i) {
        const auto json = ask_stats(::getpid(), true);
        ASSERT_TRUE(json) << json.error().line();
        EXPECT_THAT(*json, HasSubstr("{\"schema_version\": 1, \"pid\": " + std::to_string(::getpid()) + ", \"allocators\": ["));
        EXPECT_THAT(*json, HasSubstr("\"name\": \"asked\""));
        EXPECT_THAT(*json, HasSubstr("\"nr_cur_alloc\": 123"));
    }
    busy.join();
    const auto text = ask_stats(::getpid(), false);
    ASSERT_TRUE(text);
    EXPECT_THAT(*text, HasSubstr("allocator \"asked\""));
    for (const auto v : held) a->free(v);
    a.reset();
    EXPECT_EQ(ask_stats(::getpid(), true)->find("\"asked\""), std::string::npos);
}

TEST(stat_export, a_process_that_is_not_there_is_esrch_and_one_that_does_not_answer_is_told_how_to) {
    pid_t gone = ::fork();
    if (gone == 0) ::_exit(0);
    ::waitpid(gone, nullptr, 0);
    EXPECT_EQ(ask_stats(gone, true).error().code, ESRCH);
    const child silent;
    ASSERT_TRUE(silent.there);
    const auto r = ask_stats(silent.pid, true);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EOPNOTSUPP);
    EXPECT_THAT(r.error().line(), HasSubstr("COHORT_PERCPU_STAT=1"));
}

TEST(stat_export, a_forked_child_answers_for_itself_once_it_says_so) {
    ASSERT_TRUE(export_stats());
    const child mute;
    const child speaks([] {
        if (!export_stats()) ::_exit(1);
    });
    ASSERT_TRUE(mute.there && speaks.there);
    EXPECT_EQ(ask_stats(mute.pid, true).error().code, EOPNOTSUPP);
    const auto r = ask_stats(speaks.pid, true);
    ASSERT_TRUE(r) << r.error().line();
    EXPECT_THAT(*r, HasSubstr("\"pid\": " + std::to_string(speaks.pid)));
    EXPECT_TRUE(ask_stats(::getpid(), true));  // the parent's way is its own still
}

TEST(stat_export, nobody_answers_in_anothers_place) {
    const child other;
    ASSERT_TRUE(other.there);
    const auto listener = sys::listen_local("cohort-percpu-" + std::to_string(other.pid));
    ASSERT_TRUE(listener);
    const auto r = ask_stats(other.pid, true);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EPROTO);
    EXPECT_THAT(r.error().line(), HasSubstr("answers in its place"));
    ASSERT_TRUE(sys::real().close(*listener));
}

TEST(stat_export, another_user_is_refused) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
    ASSERT_TRUE(export_stats());
    const pid_t parent = ::getpid(), pid = ::fork();
    if (pid == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(100);
        const auto r = ask_stats(parent, true);
        ::_exit(r ? 101 : r.error().code);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(WEXITSTATUS(status), EACCES);
    EXPECT_TRUE(ask_stats(parent, true));
}

TEST(stat_export, who_asks_nothing_or_nonsense_gets_no_answer_and_stops_nobody) {
    ASSERT_TRUE(export_stats());
    const std::string name = "cohort-percpu-" + std::to_string(::getpid());
    for (const std::string_view word : {"", "js", "jso"}) {
        const auto peer = sys::connect_local(name);
        ASSERT_TRUE(peer);
        const sys::owned_fd fd(sys::real(), peer->fd);
        ASSERT_TRUE(sys::write_all(sys::real(), fd.get(), word));
    }
    EXPECT_TRUE(ask_stats(::getpid(), false));
}

TEST(stat_export, who_goes_away_before_the_answer_kills_nobody) {
    ASSERT_TRUE(export_stats());
    ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
    for (int i = 0; i < 50; ++i) {
        const auto peer = sys::connect_local("cohort-percpu-" + std::to_string(::getpid()));
        ASSERT_TRUE(peer);
        ASSERT_TRUE(sys::send_local(peer->fd, "json\n"));
        ASSERT_TRUE(sys::real().close(peer->fd));
    }
    EXPECT_TRUE(ask_stats(::getpid(), false));
}

}  // namespace
}  // namespace cohort::percpu
