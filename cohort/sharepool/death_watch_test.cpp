// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <vector>

#include <cohort/sharepool/death_watch.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

using namespace std::chrono_literals;
using testing::child;
using testing::join;

class watched : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(watched);

void holds_blocks(member& m, testing::shared<std::atomic<int>>& ready) {
    for (int i = 0; i < 10; ++i) (void)m.alloc(100);
    ready->fetch_add(1);
    ::pause();
}

TEST_P(watched, deaths_are_seen_and_recovered_one_by_one) {
    const group g = make();
    member m = join(g);
    testing::shared<std::atomic<int>> ready;
    std::vector<child> children;
    for (int i = 0; i < 3; ++i) children.emplace_back(g, [&](member& c) { holds_blocks(c, ready); });
    while (ready->load() != 3) ::usleep(100);
    auto w = death_watch::create(m).value();
    ASSERT_TRUE(w.follow_all());
    ASSERT_TRUE(w.follow_all());
    EXPECT_EQ(w.followed(), 3u);
    EXPECT_EQ(w.wait(0ns).value().blocks_freed, 0u);
    for (child& c : children) {
        c.kill();
        recovered r;
        while (r.blocks_freed == 0) r += w.wait().value();
        EXPECT_EQ(r.blocks_freed, 10u);
        c.wait();
    }
    EXPECT_EQ(w.followed(), 0u);
    EXPECT_EQ(m.processes(), std::vector<int>{::getpid()});
}

TEST_P(watched, one_that_is_dead_before_it_is_followed_is_recovered) {
    const group g = make();
    member m = join(g);
    testing::shared<std::atomic<int>> ready;
    child c(g, [&](member& x) { holds_blocks(x, ready); });
    const int pid = c.pid();
    while (ready->load() != 1) ::usleep(100);
    auto w = death_watch::create(m).value();
    c.kill();
    c.wait();
    EXPECT_EQ(w.follow(pid).error().code, ESRCH);
    EXPECT_EQ(w.wait(0ns).value().blocks_freed, 10u);
}

TEST_P(watched, exec_is_seen_by_the_socket_that_hangs_up) {
    const group g = make();
    member m = join(g);
    int ends[2] = {};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    child c(g, [&](member& x) {
        for (int i = 0; i < 10; ++i) (void)x.alloc(100);
        ::close(ends[0]);
        ::execlp("sleep", "sleep", "1000", static_cast<char*>(nullptr));
    });
    ::close(ends[1]);
    auto w = death_watch::create(m).value();
    ASSERT_TRUE(w.follow(c.pid(), ends[0]));
    recovered r;
    while (r.blocks_freed == 0) r += w.wait().value();
    EXPECT_EQ(r.blocks_freed, 10u);
    EXPECT_EQ(::kill(c.pid(), 0), 0) << "it lives";
    EXPECT_EQ(w.followed(), 0u);
    EXPECT_EQ(m.processes(), std::vector<int>{::getpid()});
    ::close(ends[0]);
}

TEST_P(watched, one_that_only_closes_its_socket_keeps_what_it_has_until_it_dies) {
    const group g = make();
    member m = join(g);
    int ends[2] = {};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    testing::shared<std::atomic<int>> ready;
    child c(g, [&](member& x) {
        ::close(ends[0]);
        ::close(ends[1]);
        holds_blocks(x, ready);
    });
    ::close(ends[1]);
    while (ready->load() != 1) ::usleep(100);
    auto w = death_watch::create(m).value();
    ASSERT_TRUE(w.follow(c.pid(), ends[0]));
    EXPECT_EQ(w.wait().value().blocks_freed, 0u);
    EXPECT_EQ(w.followed(), 1u);
    EXPECT_EQ(m.recover_process(c.pid()).blocks_freed, 0u);
    EXPECT_EQ(w.wait(0ns).value().blocks_freed, 0u) << "the hang-up is not seen again";
    c.kill();
    recovered r;
    while (r.blocks_freed == 0 && w.followed() > 0) r += w.wait().value();
    EXPECT_EQ(r.blocks_freed, 10u);
    EXPECT_EQ(w.followed(), 0u);
    ::close(ends[0]);
}

}  // namespace
}  // namespace cohort::sharepool
