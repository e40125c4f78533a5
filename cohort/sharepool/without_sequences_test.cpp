// SPDX-License-Identifier: Apache-2.0
/// Processes and threads without restartable sequences, where groups use them.
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>
#include <vector>

#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

using testing::join;

/// The calling thread has none any more, as all have under glibc.pthread.rseq=0, valgrind or gVisor. False: it cannot be done.
bool give_up_sequences() {
#if defined(RSEQ_SIG)
    constexpr unsigned registered_bytes = 32;
    char* area = static_cast<char*>(__builtin_thread_pointer()) + sys::rseq_offset();
    return ::syscall(SYS_rseq, area, registered_bytes, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG) == 0 && !sys::rseq_registered();
#else
    return false;
#endif
}

class without_sequences : public ::testing::Test {
protected:
    void SetUp() override {
        if (!testing::sequences_are_seen || !sys::sequences_work()) GTEST_SKIP() << "no restartable sequences here";
        auto made = group::create({.name = "test", .bytes = 64 << 20, .mode = testing::mode::sequences});
        ASSERT_TRUE(made) << made.error().line();
        g_.emplace(std::move(*made));
        bool can = false;
        std::thread([&] { can = give_up_sequences(); }).join();
        if (!can) GTEST_SKIP() << "a thread's registration cannot be taken back here";
    }
    std::optional<group> g_;
};

TEST_F(without_sequences, a_process_is_refused_and_nothing_changes) {
    member m = join(*g_);
    testing::shared<std::atomic<int>> code;
    const int child = ::fork();
    if (child == 0) {
        (void)give_up_sequences();
        const auto other = member::join(g_->data_fd(), g_->metadata_fd());
        *code = other ? -1 : other.error().code;
        const bool made = group::create({.name = "no", .mode = testing::mode::sequences}).has_value();
        const auto plain = group::create({.name = "yes"});
        const bool joins = plain && member::join(plain->data_fd(), plain->metadata_fd()).has_value();
        ::_exit(made ? 2 : joins ? 0 : 3);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(*code, ENOTSUP);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(m.processes(), std::vector<int>{::getpid()});
}

TEST_F(without_sequences, a_thread_of_a_member_goes_to_the_superblocks) {
    member m = join(*g_);
    std::vector<void*> held;
    std::thread([&] {
        ASSERT_TRUE(give_up_sequences());
        for (int i = 0; i < 500; ++i) held.push_back(m.alloc(100));
        for (int i = 0; i < 250; ++i) m.free(held[static_cast<std::size_t>(i)]);
    }).join();
    EXPECT_EQ(std::count(held.begin(), held.end(), nullptr), 0);
    EXPECT_EQ(m.count().in_magazines, 0u);
    EXPECT_EQ(m.count().owned, 250u);
    for (std::size_t i = 250; i < held.size(); ++i) m.free(held[i]);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

}  // namespace
}  // namespace cohort::sharepool
