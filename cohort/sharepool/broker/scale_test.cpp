// SPDX-License-Identifier: Apache-2.0
/// Many: members of a group, groups of a process and of a broker, and a restart with all of them. How long it takes is recorded; bench/ measures it.
#include <sys/resource.h>

#include <string>

#include <cohort/sharepool/testing/raw_peer.hpp>
#include <cohort/sys/event_poll.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::raw_peer;
using testing::running_broker;
using testing::wait_until;
using wire::packet;
using wire::verb;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int members = 40, groups_of_one = 200;
#else
constexpr int members = 1000, groups_of_one = 3000;
#endif

std::uint64_t milliseconds_since(std::uint64_t begin) { return (sys::real().now() - begin) / 1'000'000; }

TEST(scale, a_thousand_members_come_back_after_a_restart) {
    (void)sys::allow_descriptors(20'000);
    const sys::testing::scratch_dir dir;
    const std::string socket = dir / "pool.sock", serve = "serve " + socket + " 30000 " + (dir / "pool.journal");
    auto broker = std::make_unique<process>("");
    ASSERT_EQ(broker->tell(serve), "ok");
    process first(socket), swarm(socket);
    ASSERT_EQ(first.tell("attach"), "ok");
    ASSERT_EQ(first.tell("add 0 7"), "ok 7");
    const std::uint64_t begin = sys::real().now();
    ASSERT_EQ(swarm.tell("swarm " + std::to_string(members - 1) + " 7"), "ok");
    RecordProperty("join_all_ms", std::to_string(milliseconds_since(begin)));
    const auto there = [&] {
        auto c = broker_client::connect(socket, std::chrono::minutes(1));
        return c ? must(c->totals()) : wire::totals_row{};
    };
    ASSERT_EQ(there().members, static_cast<std::uint64_t>(members));
    broker->kill();
    broker->wait();
    broker = std::make_unique<process>("");
    const std::uint64_t again = sys::real().now();
    ASSERT_EQ(broker->tell(serve), "ok");
    wait_until("all of them", [&] { return there().connections >= static_cast<std::uint64_t>(members) + 1; });
    RecordProperty("restart_ms", std::to_string(milliseconds_since(again)));
    EXPECT_EQ(there().members, static_cast<std::uint64_t>(members));
    EXPECT_EQ(there().groups_lost, 0u);
    // All of them end at once, and one recovers them.
    const std::uint64_t end = sys::real().now();
    swarm.kill();
    swarm.wait();
    wait_until("one member", [&] { return there().members == 1; });
    RecordProperty("end_all_ms", std::to_string(milliseconds_since(end)));
    wait_until("recovery", [&] { return first.tell("count 7") == "ok owned 0 kept 0 lost 0 twice 0 members 1"; });
}

TEST(scale, three_thousand_groups_of_a_process) {
    running_broker b({.settings = {.window = {0x550000000000, std::uint64_t{320} << 30}, .group_bytes = 6 << 20}, .patience = std::chrono::seconds(60)});
    (void)sys::allow_descriptors(20'000);
    process a(b.socket());
    ASSERT_EQ(a.tell("attach"), "ok");
    for (int i = 1; i <= groups_of_one; ++i) ASSERT_EQ(a.tell("add 0 " + std::to_string(i)), "ok " + std::to_string(i));
    if (groups_of_one == 3000) {
        EXPECT_NE(a.tell("add 0 3001").find("ENOSPC"), std::string::npos);
    }
    EXPECT_TRUE(a.tell("alloc " + std::to_string(groups_of_one) + " 100").starts_with("ok"));
    a.kill();
    a.wait();
    auto c = must(broker_client::connect(b.socket(), std::chrono::minutes(1)));
    wait_until("the end of all", [&] { return must(c.totals()).groups == 0; });
    b.stop();
    EXPECT_EQ(b.fault(), "");
}

/// A group's memory takes two descriptors: the broker raises its limit when it begins, or says that they are not enough.
TEST(scale, a_broker_without_descriptors_says_so_and_goes_on) {
    running_broker b({.patience = std::chrono::seconds(60)});
    raw_peer p(b.socket(), wire::attach);
    const auto join = [&](int id) {
        p.send(packet{.what = verb::add, .number = 1'000'000, .pid = ::getpid(), .id = id});
        packet map = p.receive();
        if (map.what != verb::map) return map.code;
        p.send(packet{.what = verb::done, .number = map.number});
        return p.answer().code;
    };
    ASSERT_EQ(join(1), 0);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{0, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const int code = join(2);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(code, EMFILE);
    EXPECT_EQ(join(2), 0);
    EXPECT_EQ(p.ask({.what = verb::look, .id = 2}).code, 0);
    b.stop();
    EXPECT_EQ(b.fault(), "");
}

}  // namespace
}  // namespace cohort::sharepool
