// SPDX-License-Identifier: Apache-2.0
/// Processes that join groups through a broker: themselves, one another; what is refused, and what is put back.
#include <sys/stat.h>

#include <optional>
#include <string>

#include <cohort/sharepool/testing/broker.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::running_broker;
using testing::wait_until;

std::string of(int n) { return std::to_string(n); }

TEST(broker, a_process_joins_and_another_that_it_adds_sees_its_memory_at_the_same_address) {
    running_broker b;
    process first(b.socket()), second(b.socket());
    ASSERT_EQ(first.tell("attach"), "ok");
    ASSERT_EQ(second.tell("attach"), "ok");
    EXPECT_EQ(first.tell("add 0 7"), "ok 7");
    const std::string at = first.tell("alloc 7 100").substr(3);
    EXPECT_EQ(first.tell("put " + at + " hello"), "ok");
    EXPECT_EQ(first.tell("add " + of(second.pid()) + " 7"), "ok 7");
    EXPECT_EQ(second.tell("get " + at), "ok hello");
    EXPECT_EQ(second.tell("walk 7"), "ok " + of(first.pid()) + "w " + of(second.pid()) + "w");
    EXPECT_EQ(second.tell("ids " + of(first.pid())), "ok 7");
    b.stop();
    EXPECT_EQ(b.fault(), "");
    EXPECT_EQ(b.figures().joins, 2u);
}

/// Processes that are attached to one broker, which a test begins with.
class attached_processes : public ::testing::Test {
protected:
    process member() {
        process p(b.socket());
        EXPECT_EQ(p.tell("attach"), "ok");
        return p;
    }
    void ends_well() {
        b.stop();
        EXPECT_EQ(b.fault(), "");
    }
    broker_client client() { return must(broker_client::connect(b.socket(), std::chrono::minutes(1))); }
    static bool says(const std::string& line, const char* what) { return line.find(what) != std::string::npos; }
    running_broker b{{.patience = std::chrono::seconds(30)}};
};
/// The same, with a broker that does not wait long.
class hasty_broker : public attached_processes {
protected:
    hasty_broker() {
        b.stop();
        hasty_.emplace(broker_options{.patience = std::chrono::milliseconds(100)});
    }
    process member() {
        process p(hasty_->socket());
        wait_until("its hello in time", [&] { return p.tell("attach") == "ok"; });
        return p;
    }
    std::optional<running_broker> hasty_;
};

TEST_F(attached_processes, a_join_by_any_threads_number_is_the_processs) {
    process a = member(), c = member();
    const std::string thread = c.tell("thread").substr(3);
    EXPECT_EQ(a.tell("add " + thread + " 7"), "ok 7");
    EXPECT_EQ(c.tell("ids 0"), "ok 7");
    ends_well();
}

TEST_F(attached_processes, who_cannot_be_added) {
    process a = member(), bare(b.socket());
    EXPECT_TRUE(says(a.tell("add " + of(bare.pid()) + " 7"), "EOPNOTSUPP"));
    EXPECT_TRUE(says(a.tell("add 999999999 7"), "ESRCH"));
    EXPECT_TRUE(says(a.tell("add 0 200001"), "EINVAL"));
    EXPECT_TRUE(says(a.tell("add 0 100000"), "EINVAL"));
    EXPECT_TRUE(says(a.tell("add 2 7"), "ESRCH")) << "a kernel thread has no memory";
    EXPECT_EQ(a.tell("add 0 7"), "ok 7");
    EXPECT_TRUE(says(a.tell("add 0 7"), "EEXIST"));
    EXPECT_TRUE(says(a.tell("add 0 8 s"), "EEXIST"));
    EXPECT_EQ(a.tell("add 0 8"), "ok 8");
    EXPECT_EQ(a.tell("add 0 200000"), "ok 100000");
    EXPECT_EQ(a.tell("ids 0"), "ok 7 8 100000");
    bare.kill(SIGSTOP);  // until then it is there
    ends_well();
    EXPECT_EQ(b.figures().joins, 3u);
    EXPECT_EQ(b.figures().failed_joins, 7u);
}

TEST_F(attached_processes, the_trace_names_each_check) {
    process a = member();
    const std::string line = a.tell("add 0 7 t");
    EXPECT_TRUE(line.starts_with("ok 7|")) << line;
    EXPECT_TRUE(says(a.tell("add 0 7 t"), "=17")) << "the check that failed has EEXIST";
}

TEST_F(attached_processes, leaving_takes_a_group_without_areas) {
    process a = member(), c = member();
    ASSERT_EQ(a.tell("add 0 7"), "ok 7");
    ASSERT_EQ(a.tell("add " + of(c.pid()) + " 7"), "ok 7");
    const std::string at = a.tell("alloc 7 100").substr(3);
    EXPECT_TRUE(says(c.tell("del 0 7"), "EINVAL")) << "somebody uses it";
    EXPECT_EQ(c.tell("free 7 " + at), "ok");
    EXPECT_EQ(a.tell("del " + of(c.pid()) + " 7"), "ok");
    wait_until("its leaving", [&] { return c.tell("count 7") == "not in it for writing"; });
    EXPECT_TRUE(says(a.tell("del " + of(c.pid()) + " 7"), "ESRCH"));
    EXPECT_TRUE(says(a.tell("del 0 8"), "EINVAL"));
    EXPECT_EQ(a.tell("del 0 7"), "ok");
    EXPECT_TRUE(says(a.tell("del 0 7"), "EINVAL")) << "it died with its last member";
    EXPECT_EQ(a.tell("add 0 7"), "ok 7") << "and its number is free";
    ends_well();
}

TEST_F(attached_processes, what_a_killed_member_leaves_is_recovered_by_another) {
    process a = member(), c = member();
    ASSERT_EQ(a.tell("add 0 7"), "ok 7");
    ASSERT_EQ(c.tell("add 0 7"), "ok 7");
    ASSERT_TRUE(c.tell("alloc 7 100").starts_with("ok"));
    ASSERT_TRUE(c.tell("alloc 7 100 kept").starts_with("ok"));
    c.kill();
    c.wait();
    wait_until("recovery", [&] { return a.tell("count 7") == "ok owned 0 kept 1 lost 0 twice 0 members 1"; });
    EXPECT_EQ(a.tell("walk 7"), "ok " + of(a.pid()) + "w");
    ends_well();
    EXPECT_GE(b.figures().recoveries_asked, 1u);
}

TEST_F(attached_processes, a_member_that_becomes_another_program_has_left) {
    process a = member(), c = member();
    ASSERT_EQ(a.tell("add 0 7"), "ok 7");
    ASSERT_EQ(c.tell("add 0 7"), "ok 7");
    ASSERT_TRUE(c.tell("alloc 7 100").starts_with("ok"));
    c.say("exec");
    wait_until("recovery", [&] { return a.tell("count 7") == "ok owned 0 kept 0 lost 0 twice 0 members 1"; });
    EXPECT_EQ(a.tell("walk 7"), "ok " + of(a.pid()) + "w");
    EXPECT_TRUE(says(a.tell("add " + of(c.pid()) + " 7"), "EOPNOTSUPP"));
}

TEST_F(attached_processes, who_recovers_may_die_too) {
    process a = member(), c = member(), d = member();
    for (process* p : {&a, &c, &d}) ASSERT_EQ(p->tell("add 0 7"), "ok 7");
    ASSERT_TRUE(d.tell("alloc 7 100").starts_with("ok"));
    a.kill(SIGSTOP), c.kill(SIGSTOP);  // whoever is asked to recover d does not get to it
    d.kill();
    d.wait();
    wait_until("the question", [&] { return must(client().totals()).recoveries_asked >= 1; });
    a.kill();
    a.wait();
    c.kill(SIGCONT);
    wait_until("recovery", [&] { return c.tell("count 7") == "ok owned 0 kept 0 lost 0 twice 0 members 1"; });
}

TEST_F(attached_processes, a_groups_death_is_told_once_and_no_living_ones) {
    process a = member(), c = member();
    ASSERT_TRUE(a.tell("follow").starts_with("ok"));
    for (const char* id : {"7", "8"}) ASSERT_EQ(c.tell(std::string("add 0 ") + id), std::string("ok ") + id);
    ASSERT_EQ(a.tell("add 0 8"), "ok 8");
    c.kill();
    c.wait();
    wait_until("the word", [&] { return a.tell("deaths") == "ok 7"; });
    ASSERT_EQ(a.tell("del 0 8"), "ok");
    wait_until("the word", [&] { return a.tell("deaths") == "ok 7 8"; });
}

TEST_F(attached_processes, attaching_is_once_and_children_of_fork_are_not) {
    process a = member();
    EXPECT_TRUE(says(a.tell("attach"), "EEXIST"));
    EXPECT_EQ(a.tell("add 0 7"), "ok 7");
    EXPECT_EQ(a.tell("forget"), "ok");
    EXPECT_EQ(a.tell("ids 0"), "ok 7") << "the parent is";
    EXPECT_EQ(a.tell("detach"), "ok");
    EXPECT_EQ(a.tell("attach"), "ok");
    EXPECT_TRUE(says(a.tell("ids 0"), "ENODEV"));
    ends_well();
}

TEST_F(attached_processes, the_local_group_is_made_once_and_hidden) {
    process a = member(), c = member();
    EXPECT_EQ(a.tell("local"), "ok 200001");
    EXPECT_EQ(a.tell("local"), "ok 200001");
    EXPECT_EQ(c.tell("local"), "ok 200002");
    EXPECT_TRUE(a.tell("alloc 200001 100").starts_with("ok"));
    EXPECT_TRUE(says(a.tell("ids 0"), "ENODEV"));
    ends_well();
}

TEST_F(attached_processes, a_group_that_is_destroyed_is_unmapped) {
    process a = member();
    auto c = client();
    ASSERT_EQ(must(c.create({.id = 9, .bytes = 8 << 20, .name = "nine"})), 9);
    ASSERT_EQ(a.tell("add 0 9"), "ok 9");
    EXPECT_EQ(c.destroy(9, false).error().code, EBUSY);
    EXPECT_TRUE(c.destroy(9, true));
    wait_until("unmapping", [&] { return a.tell("count 9") == "not in it for writing"; });
    EXPECT_EQ(c.look(9).error().code, ENODEV);
    ends_well();
}

TEST_F(hasty_broker, a_join_that_nobody_answers_is_put_back) {
    process a = member(), c = member();
    c.kill(SIGSTOP);
    EXPECT_TRUE(says(a.tell("add " + of(c.pid()) + " 7"), "ETIMEDOUT"));
    EXPECT_TRUE(says(a.tell("walk 7"), "ENODEV")) << "the group went with the join";
    c.kill(SIGCONT);
    wait_until("what was mapped late is unmapped", [&] { return c.tell("count 7") == "not in it for writing"; });
    wait_until("an answer in time", [&] { return a.tell("add " + of(c.pid()) + " 7") == "ok 7"; });
    hasty_->stop();
    EXPECT_EQ(hasty_->fault(), "");
}

TEST_F(attached_processes, a_target_or_a_requester_that_dies_in_the_middle_puts_the_join_back) {
    process a = member(), c = member(), d = member();
    c.kill(SIGSTOP);
    a.say("add " + of(c.pid()) + " 7");
    auto look = client();
    wait_until("the join", [&] { return look.look(7).has_value(); });
    c.kill();
    EXPECT_TRUE(says(a.hear(), "ESRCH"));
    EXPECT_EQ(look.look(7).error().code, ENODEV);
    d.kill(SIGSTOP);
    a.say("add " + of(d.pid()) + " 8");
    wait_until("the join", [&] { return look.look(8).has_value(); });
    a.kill();
    a.wait();
    d.kill(SIGCONT);
    wait_until("the group's end", [&] { return !look.look(8); });
    EXPECT_TRUE(says(d.tell("ids 0"), "ENODEV"));
    EXPECT_EQ(d.tell("count 8"), "not in it for writing");
    ends_well();
}

TEST_F(attached_processes, programs_join_when_they_are_loaded_if_the_environment_says_so) {
    ::setenv("COHORT_POOL_JOIN", "7,9", 1);
    process a(b.socket());
    ::unsetenv("COHORT_POOL_JOIN");
    EXPECT_EQ(a.tell("current"), "ok 7 9");
    ::setenv("COHORT_POOL_JOIN", "7,x", 1);
    process wrong(b.socket());
    EXPECT_EQ(wrong.tell("current"), "none");
    ::setenv("COHORT_POOL_REQUIRE", "1", 1);
    process none("/nowhere/pool.sock", false);
    ::unsetenv("COHORT_POOL_JOIN");
    ::unsetenv("COHORT_POOL_REQUIRE");
    EXPECT_EQ(WEXITSTATUS(none.wait()), 5);
}

TEST_F(attached_processes, who_may_do_what) {
    if (::getuid() != 0) GTEST_SKIP() << "only root can be two users";
    ASSERT_EQ(::chmod(b.path("").c_str(), 0755), 0);
    process a = member(), other(b.socket());
    ASSERT_EQ(other.tell("user 65534"), "ok");
    ASSERT_EQ(other.tell("attach"), "ok");
    auto c = client();
    ASSERT_EQ(must(c.create({.id = 5, .bytes = 8 << 20, .name = "", .mode = 0644})), 5);
    ASSERT_EQ(must(c.create({.id = 6, .bytes = 8 << 20, .name = "", .mode = 0600})), 6);
    EXPECT_TRUE(says(other.tell("add 0 5"), "EACCES"));
    EXPECT_TRUE(says(other.tell("add 0 6 r"), "EACCES"));
    EXPECT_TRUE(says(other.tell("add " + of(a.pid()) + " 5 r"), "EPERM")) << "it may not signal that one";
    ASSERT_EQ(a.tell("add 0 5"), "ok 5");
    const std::string at = a.tell("alloc 5 100000 kept").substr(3);
    ASSERT_EQ(a.tell("put " + at + " look"), "ok");
    ASSERT_EQ(other.tell("add 0 5 r"), "ok 5");
    EXPECT_EQ(other.tell("get " + at), "ok look");
    EXPECT_EQ(other.tell("alloc 5 100"), "not in it for writing");
    // Whatever it tries with what it was given.
    EXPECT_EQ(other.tell("break 5"), "ok: open EACCES EACCES, map EACCES EACCES, protect EACCES, write EBADF EBADF, punch EBADF EBADF, cut EINVAL EINVAL");
    EXPECT_EQ(other.tell("get " + at), "ok look");
}

}  // namespace
}  // namespace cohort::sharepool
