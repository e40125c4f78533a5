// SPDX-License-Identifier: Apache-2.0
/// A broker that is killed and started again: what stays, what comes back, what is gone.
#include <string>

#include <cohort/sharepool/testing/broker.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::wait_until;

std::string of(int n) { return std::to_string(n); }

/// A broker in a process of its own, which is killed and started again.
class restart : public ::testing::Test {
protected:
    restart() { start(); }
    void start() {
        broker_.emplace("");
        ASSERT_EQ(broker_->tell("serve " + socket() + " " + of(patience_ms_) + " " + journal_), "ok");
    }
    void kill() {
        broker_->kill();
        broker_->wait();
        broker_.reset();
    }
    std::string socket() const { return dir_ / "pool.sock"; }
    process member() const {
        process p(socket());
        EXPECT_EQ(p.tell("attach"), "ok");
        return p;
    }
    /// Until p has found the new broker.
    void back(process& p, const std::string& ids) const {
        wait_until("a member", [&] { return p.tell("ids 0") == ids; });
    }
    /// What a new connection is told.
    wire::totals_row totals() const { return must(client().totals()); }
    broker_client client() const { return must(broker_client::connect(socket(), std::chrono::minutes(1))); }

    sys::testing::scratch_dir dir_;
    std::string journal_ = dir_ / "pool.journal";
    int patience_ms_ = 30'000;  // members may be slow on a machine on which much else runs
    std::optional<process> broker_;
};

TEST_F(restart, members_come_back_and_others_join_the_same_memory) {
    process first = member(), second = member();
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    const std::string at = first.tell("alloc 7 100").substr(3);
    ASSERT_EQ(first.tell("put " + at + " before"), "ok");
    kill();
    EXPECT_NE(second.tell("add 0 7").find("ECONNRESET"), std::string::npos);
    EXPECT_EQ(first.tell("get " + at), "ok before") << "memory goes on";
    EXPECT_TRUE(first.tell("alloc 7 100").starts_with("ok"));
    start();
    back(first, "ok 7");
    wait_until("the second", [&] { return second.tell("add 0 7") == "ok 7"; });
    EXPECT_EQ(second.tell("get " + at), "ok before");
    EXPECT_EQ(totals().groups_again, 1u);
    EXPECT_EQ(totals().members, 2u);
}

TEST_F(restart, a_member_that_ended_meanwhile_is_taken_out_and_recovered) {
    process first = member(), second = member();
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    ASSERT_EQ(second.tell("add 0 7"), "ok 7");
    ASSERT_TRUE(second.tell("alloc 7 100").starts_with("ok"));
    kill();
    second.kill();
    second.wait();
    start();
    back(first, "ok 7");
    EXPECT_EQ(first.tell("walk 7"), "ok " + of(first.pid()) + "w");
    wait_until("recovery", [&] { return first.tell("count 7") == "ok owned 0 kept 0 lost 0 twice 0 members 1"; });
}

TEST_F(restart, a_group_whose_members_are_all_gone_is_gone_unless_it_was_created) {
    process first = member();
    auto c = client();
    ASSERT_EQ(must(c.create({.id = 8, .bytes = 8 << 20, .name = "kept"})), 8);
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    ASSERT_EQ(first.tell("add 0 8"), "ok 8");
    kill();
    first.kill();
    first.wait();
    start();
    auto again = client();
    const auto groups = must(again.groups());
    ASSERT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups[0].id, 8);
    EXPECT_EQ(groups[0].members, 0u);
    EXPECT_EQ(again.totals()->groups_lost, 1u);
    process next = member();
    EXPECT_EQ(next.tell("add 0 8"), "ok 8") << "made anew, empty";
    EXPECT_EQ(next.tell("count 8"), "ok owned 0 kept 0 lost 0 twice 0 members 1");
}

TEST_F(restart, who_asks_for_a_group_before_its_members_are_back_waits_for_them) {
    process first = member();
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    const std::string at = first.tell("alloc 7 100").substr(3);
    ASSERT_EQ(first.tell("put " + at + " here"), "ok");
    first.kill(SIGSTOP);
    kill();
    start();
    process second = member();
    second.say("add 0 7");
    // The broker has its question before the first comes back.
    wait_until("the question", [&] { return totals().requests > 3; });
    first.kill(SIGCONT);
    EXPECT_EQ(second.hear(), "ok 7");
    EXPECT_EQ(second.tell("get " + at), "ok here");
}

TEST_F(restart, a_member_that_became_another_program_is_taken_out) {
    process first = member(), second = member();
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    ASSERT_EQ(second.tell("add 0 7"), "ok 7");
    kill();
    first.say("exec");
    wait_until("exec", [&] { return must(sys::read_line(sys::real(), "/proc/" + of(first.pid()) + "/comm")) == "sleep"; });
    patience_ms_ = 2000;
    start();
    back(second, "ok 7");
    wait_until("the end of waiting", [&] { return second.tell("walk 7") == "ok " + of(second.pid()) + "w"; });
    wait_until("recovery", [&] { return second.tell("count 7") == "ok owned 0 kept 0 lost 0 twice 0 members 1"; });
}

TEST_F(restart, read_only_members_bring_a_group_back_too) {
    process first = member(), second = member();
    auto c = client();
    ASSERT_EQ(must(c.create({.id = 9, .bytes = 8 << 20, .name = "", .mode = 0666})), 9);
    ASSERT_EQ(first.tell("add 0 9"), "ok 9");
    const std::string at = first.tell("alloc 9 100 kept").substr(3);
    ASSERT_EQ(first.tell("put " + at + " stays"), "ok");
    ASSERT_EQ(second.tell("add 0 9 r"), "ok 9");
    kill();
    first.kill();
    first.wait();
    start();
    back(second, "ok 9");
    process third = member();
    ASSERT_EQ(third.tell("add 0 9"), "ok 9");
    EXPECT_EQ(third.tell("get " + at), "ok stays");
}

TEST_F(restart, without_a_journal_groups_end_and_unused_ones_make_room) {
    kill();
    journal_.clear();
    start();
    process first = member();
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    kill();
    start();
    wait_until("the member", [&] { return first.tell("ids 0").find("ENODEV") != std::string::npos; });
    EXPECT_TRUE(first.tell("count 7").starts_with("ok")) << "its memory is there";
    EXPECT_EQ(first.tell("add 0 7"), "ok 7") << "at the same addresses, but other memory";
}

TEST_F(restart, two_brokers_do_not_share_a_socket) {
    process other("");
    EXPECT_NE(other.tell("serve " + socket() + " " + journal_).find("EADDRINUSE"), std::string::npos);
}

}  // namespace
}  // namespace cohort::sharepool
