// SPDX-License-Identifier: Apache-2.0
// Changes of a tree, what wakes a watch, and version 1 sets that come back after a hotplug.
#include <cohort/cpuset/live_watch.hpp>

#include <gmock/gmock.h>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::cpuset {
namespace {

using testing::cgroup_host;

void perform(cgroup_host& host, std::initializer_list<const char*> lines) {
    for (const char* line : lines) ASSERT_TRUE(host.perform(*parse_operation(line)).ok()) << line;
}
/// A CPU of the host goes or comes, for its kernel and for its sysfs.
void plug(cgroup_host& host, int cpu, bool on) {
    ASSERT_TRUE(host.perform({.what = verb::cpu, .number = cpu, .on = on}).ok());
    const std::string file = sys::paths::cpu + "/online";
    auto online = cpumask::parse_list(sys::read_line(host, file).value()).value();
    if (on) online.set(cpu);
    else online.clear(cpu);
    host.disk.add_file(file, online.list() + "\n");
}
snapshot look(cgroup_host& host) { return read_live(host)->what; }

TEST(live_changes, names_what_is_not_as_before) {
    cgroup_host host;
    perform(host, {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.cpus.partition root", "mkdir b"});
    const snapshot before = look(host);
    EXPECT_TRUE(changes_between(before, look(host)).empty());
    perform(host, {"rmdir b", "mkdir c", "write a cpuset.cpus 2-4"});
    plug(host, 7, false);
    std::vector<std::string> lines;
    for (const live_change& c : changes_between(before, look(host))) lines.push_back(c.line());
    EXPECT_THAT(lines, ::testing::ElementsAre(".: CPUs 0-7 online -> CPUs 0-6 online", "b: removed", ".: cpuset.cpus.effective: \"0-1,4-7\" -> \"0-1,5-6\"", "a: cpuset.cpus: \"2-3\" -> \"2-4\"",
                                              "a: cpuset.cpus.effective: \"2-3\" -> \"2-4\"", "a: cpuset.cpus.exclusive.effective: \"2-3\" -> \"2-4\"", "c: made"));
}

TEST(live_restorer, gives_back_what_a_hotplug_took_and_the_threads_it_moved) {
    cgroup_host host({.v1 = true});
    perform(host, {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.mems 0", "mkdir a/b", "write a/b cpuset.cpus 3", "write a/b cpuset.mems 0"});
    host.start(100, "a/b");
    auto tree = open_cgroup(host, find_mount(host).value()).value();
    restorer memory(look(host));
    EXPECT_TRUE(memory.steps(look(host)).empty());
    plug(host, 3, false);
    memory.learn(look(host));
    EXPECT_EQ(host.reads("a/b", "cpuset.cpus"), "");
    EXPECT_EQ(host.home(100), "a");
    EXPECT_TRUE(memory.steps(look(host)).empty()) << "there is nothing to give yet";
    plug(host, 3, true);
    memory.learn(look(host));
    EXPECT_EQ(host.reads("a", "cpuset.cpus"), "2") << "the kernel forgets";
    const apply_report r = apply_steps(*tree, memory.steps(look(host)));
    ASSERT_TRUE(r.ok()) << r.failure->line();
    EXPECT_EQ(host.reads("a", "cpuset.cpus"), "2-3");
    EXPECT_EQ(host.reads("a/b", "cpuset.cpus"), "3");
    EXPECT_EQ(host.home(100), "a/b");
    memory.learn(look(host));
    EXPECT_TRUE(memory.steps(look(host)).empty());
}

TEST(live_restorer, what_somebody_wrote_is_the_new_wish) {
    cgroup_host host({.v1 = true});
    perform(host, {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.mems 0"});
    restorer memory(look(host));
    perform(host, {"write a cpuset.cpus 2"});
    memory.learn(look(host));
    EXPECT_TRUE(memory.steps(look(host)).empty());
    plug(host, 2, false);
    memory.learn(look(host));
    perform(host, {"write a cpuset.cpus 5"});
    memory.learn(look(host));
    plug(host, 2, true);
    memory.learn(look(host));
    EXPECT_TRUE(memory.steps(look(host)).empty());
    perform(host, {"rmdir a"});
    memory.learn(look(host));
    EXPECT_TRUE(memory.steps(look(host)).empty());
    cgroup_host v2;
    perform(v2, {"mkdir a", "write a cpuset.cpus 2-3"});
    restorer none(look(v2));
    plug(v2, 3, false);
    EXPECT_TRUE(none.steps(look(v2)).empty()) << "version 2 forgets nothing";
}

TEST(live_watch, wakes_at_a_change_of_a_file_and_at_what_else_it_is_given) {
    sys::testing::scratch_dir dir;
    ASSERT_TRUE(sys::write_file(sys::real(), dir / "cpuset.cpus.partition", "root\n"));
    live_mount place{.what = live_mount::form::v2, .point = dir.path()};
    snapshot s;
    s.sets.push_back({.path = "."});
    live_watch watch(sys::real());
    watch.follow(place, s);
    ASSERT_TRUE(sys::write_file(sys::real(), dir / "cpuset.cpus.partition", "member\n"));
    EXPECT_TRUE(watch.wait(60'000'000'000).value());
    const auto ends = sys::real().pipe().value();
    sys::owned_fd out(sys::real(), ends.read), in(sys::real(), ends.write);
    ASSERT_TRUE(in.close());
    EXPECT_TRUE(watch.wait(60'000'000'000, out.get()).value());
    watch.follow(place, snapshot{});
    s.sets[0].path = "gone";
    watch.follow(place, s);  // what is not there is not watched
}

}  // namespace
}  // namespace cohort::cpuset
