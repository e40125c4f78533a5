// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/events.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include <cohort/sys/failing.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::machine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Writes down what it hears.
struct witness {
    explicit witness(events& source) : from(source) { EXPECT_TRUE(from.chain().add(block)); }
    ~witness() { EXPECT_TRUE(from.chain().remove(block)); }
    events& from;
    std::vector<std::string> heard;
    notifier::block block{[this](unsigned long event, void* data) {
        const auto& c = *static_cast<change*>(data);
        if (event == cpus_changed) heard.push_back("cpus " + c.online.list() + " +" + c.came.list() + " -" + c.went.list());
        else heard.push_back("nodes " + c.nodes.list() + " +" + c.nodes_came.list() + " -" + c.nodes_went.list());
        EXPECT_EQ(from.online(), c.online) << "what is told is already so";
        return notifier::ok;
    }};
};

TEST(synthetic_events, tell_what_came_and_what_went) {
    synthetic_events events(cpumask::range(0, 3), nodemask{0, 1});
    witness w(events);
    EXPECT_TRUE(events.cpu_offline(3).value());
    EXPECT_FALSE(events.cpu_offline(3).value()) << "no change, no call";
    EXPECT_TRUE(events.cpu_online(7).value());
    EXPECT_TRUE(events.node_offline(1).value());
    EXPECT_TRUE(events.node_online(5).value());
    EXPECT_THAT(w.heard, ElementsAre("cpus 0-2 + -3", "cpus 0-2,7 +7 -", "nodes 0 + -1", "nodes 0,5 +5 -"));
    EXPECT_EQ(events.nodes().list(), "0,5");
}

TEST(synthetic_events, memory_comes_before_its_cpus_and_goes_after_them) {
    synthetic_events events(cpumask{0}, nodemask{0});
    witness w(events);
    EXPECT_TRUE(events.set(cpumask{0, 1}, nodemask{0, 1}).value());
    EXPECT_TRUE(events.set(cpumask{0}, nodemask{0}).value());
    EXPECT_THAT(w.heard, ElementsAre("nodes 0-1 +1 -", "cpus 0-1 +1 -", "cpus 0 + -1", "nodes 0 + -1"));
}

TEST(synthetic_events, last_cpu_does_not_go) {
    synthetic_events events(cpumask{2}, nodemask{0});
    witness w(events);
    EXPECT_EQ(events.cpu_offline(2).error().line(), "machine: change what is online: EINVAL: no CPU would be left");
    EXPECT_EQ(events.online().list(), "2");
    EXPECT_THAT(w.heard, IsEmpty());
}

TEST(synthetic_events, change_from_a_callback_is_refused) {
    synthetic_events events(cpumask{0, 1}, nodemask{0}), other(cpumask{0, 1}, nodemask{0});
    int code = 0;
    notifier::block b([&](unsigned long, void*) {
        code = events.cpu_offline(0).error().code;
        EXPECT_TRUE(other.cpu_offline(0)) << "another machine may change";
        return notifier::ok;
    });
    int code_of_other = 0;
    notifier::block back([&](unsigned long, void*) {
        code_of_other = events.cpu_offline(0).error().code;  // through the other one's callback it would wait for itself just as well
        return notifier::ok;
    });
    ASSERT_TRUE(events.chain().add(b));
    ASSERT_TRUE(other.chain().add(back));
    EXPECT_TRUE(events.cpu_offline(1).value());
    EXPECT_EQ(code, EDEADLK);
    EXPECT_EQ(code_of_other, EDEADLK);
    EXPECT_EQ(events.online().list(), "0");
    ASSERT_TRUE(other.chain().remove(back));
    ASSERT_TRUE(events.chain().remove(b));
}

TEST(synthetic_events, changes_of_many_threads_are_told_one_at_a_time_and_none_is_lost) {
    synthetic_events events(cpumask{0}, nodemask{0});
    cpumask told{0};
    notifier::block b([&](unsigned long, void* data) {
        const auto& c = *static_cast<change*>(data);
        const cpumask before = told;
        std::this_thread::yield();  // room for another one to step in
        EXPECT_EQ((before | c.came) - c.went, c.online);
        told = c.online;  // unguarded: the sanitizers see two at once
        return notifier::ok;
    });
    ASSERT_TRUE(events.chain().add(b));
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 1; i <= 100; ++i) EXPECT_TRUE(events.cpu_online(t * 100 + i).value());
        });
    }
    for (auto& t : threads) t.join();
    EXPECT_EQ(told.list(), "0-400");
    ASSERT_TRUE(events.chain().remove(b));
}

TEST(live_events, check_delivers_what_changed_since_the_last_time) {
    sys::recorded host;
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    host.add_file(sys::paths::node + "/online", "0\n");
    auto events = live_events::create(host).value();
    witness w(*events);
    EXPECT_FALSE(events->check().value());
    host.add_file(sys::paths::cpu + "/online", "0,2-3\n");
    EXPECT_TRUE(events->check().value());
    host.add_file(sys::paths::node + "/online", "0-1\n");
    host.add_file(sys::paths::cpu + "/online", "0-5\n");
    EXPECT_TRUE(events->check().value());
    EXPECT_THAT(w.heard, ElementsAre("cpus 0,2-3 + -1", "nodes 0-1 +1 -", "cpus 0-5 +1,4-5 -"));
}

TEST(live_events, unreadable_files_change_nothing) {
    sys::recorded host;
    EXPECT_EQ(live_events::create(host).error().code, ENOENT);
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    auto events = live_events::create(host).value();
    EXPECT_EQ(events->nodes().list(), "0");
    witness w(*events);
    host.add_file(sys::paths::cpu + "/online", "x\n");
    EXPECT_EQ(events->check().error().code, EINVAL);
    host.add_file(sys::paths::cpu + "/online", "\n");
    EXPECT_EQ(events->check().error().reason, "no CPU would be left");
    host.add_file(sys::paths::cpu + "/online", "0-3\n");
    host.add_file(sys::paths::node + "/online", "x\n");
    EXPECT_EQ(events->check().error().code, EINVAL);
    EXPECT_EQ(events->online().list(), "0-3");
    EXPECT_THAT(w.heard, IsEmpty());
}

TEST(live_events, of_this_machine) {
    auto events = live_events::create(sys::real());
    ASSERT_TRUE(events) << events.error().line();
    EXPECT_FALSE((*events)->online().empty());
    EXPECT_TRUE((*events)->check());
}

}  // namespace
}  // namespace cohort::machine
