// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/liveness.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace cohort::sys {
namespace {

/// A child that waits to be killed.
class sleeper {
public:
    sleeper() : pid_(::fork()) {
        if (pid_ == 0) {
            for (;;) ::pause();
        }
    }
    ~sleeper() { kill_and_reap(); }
    sleeper(const sleeper&) = delete;
    void kill_only() const { ::kill(pid_, SIGKILL); }
    void kill_and_reap() {
        if (pid_ <= 0) return;
        kill_only();
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    pid_t pid() const { return pid_; }

private:
    pid_t pid_;
};

TEST(liveness, this_process_has_not_ended) {
    const process_identity me = this_process();
    EXPECT_EQ(me.pid, ::getpid());
    EXPECT_NE(me.mark, 0u);
    EXPECT_EQ(me, identify_process(::getpid()));
    EXPECT_FALSE(has_ended(me));
    EXPECT_FALSE(has_ended({me.pid, 0}));
}

TEST(liveness, one_that_was_killed_has_ended_before_and_after_it_is_waited_for) {
    sleeper child;
    const process_identity it = identify_process(child.pid());
    EXPECT_FALSE(has_ended(it));
    child.kill_only();
    siginfo_t s{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &s, WEXITED | WNOWAIT), 0);
    EXPECT_TRUE(has_ended(it));
    child.kill_and_reap();
    EXPECT_TRUE(has_ended(it));
    EXPECT_TRUE(has_ended({it.pid, 0}));
}

TEST(liveness, another_process_under_its_number_is_not_it) {
    const process_identity me = this_process();
    EXPECT_TRUE(has_ended({me.pid, me.mark + 1}));
}

TEST(liveness, a_thread_under_its_number_is_not_it) {
    std::atomic<pid_t> number{0};
    std::atomic<bool> enough{false};
    std::thread other([&] {
        number = static_cast<pid_t>(::syscall(SYS_gettid));
        enough.wait(false);
    });
    while (number == 0) std::this_thread::yield();
    EXPECT_TRUE(has_ended({number, 1}));
    EXPECT_TRUE(has_ended({number, 0}));
    enough = true;
    enough.notify_all();
    other.join();
}

TEST(liveness, a_file_is_mapped_as_long_as_it_is) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::ftruncate(fd, 4096), 0);
    EXPECT_EQ(maps_file(::getpid(), fd), false);
    void* at = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    ASSERT_NE(at, MAP_FAILED);
    EXPECT_EQ(maps_file(::getpid(), fd), true);
    ::munmap(at, 4096);
    EXPECT_EQ(maps_file(::getpid(), fd), false);
    ::close(fd);
    EXPECT_EQ(maps_file(::getpid(), fd), std::nullopt);
    EXPECT_EQ(maps_file(0, 0), std::nullopt);
}

TEST(liveness, no_process_is_not_known_to_have_ended) { EXPECT_FALSE(has_ended({0, 0})); }

}  // namespace
}  // namespace cohort::sys
