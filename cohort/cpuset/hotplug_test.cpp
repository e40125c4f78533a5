// SPDX-License-Identifier: Apache-2.0
// CPUs and nodes that come and go, and suspend; version 2 on the profile 6.12.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(hotplug, a_member_loses_a_cpu_and_gets_it_back) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 2-3\nwrite a/b cpuset.cpus 3\nattach a/b t\ncpu 3 offline");
    EXPECT_EQ(m.cpus("a"), "2");
    EXPECT_EQ(m.cpus("a/b"), "2") << "nothing left: the parent's";
    EXPECT_EQ(m.says("task t"), "2");
    EXPECT_EQ(m.cpus("."), "0-2,4-7");
    m.run("cpu 3 online");
    EXPECT_EQ(m.cpus("a/b"), "3");
    EXPECT_EQ(m.says("task t"), "3");
}

TEST(hotplug, a_partition_without_tasks_may_run_empty) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 3\nwrite a cpuset.cpus.partition root\ncpu 3 offline");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.cpus("a"), "");
    EXPECT_EQ(m.says("read a cpuset.cpus.exclusive.effective"), "3");
    EXPECT_EQ(m.says("attach a t"), "ENOSPC");
    m.run("cpu 3 online");
    EXPECT_EQ(m.cpus("a"), "3");
}

TEST(hotplug, a_partition_with_tasks_falls_when_its_last_cpu_goes_and_rises_when_it_comes) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 3\nwrite a cpuset.cpus.partition root\nattach a t\ncpu 3 offline");
    EXPECT_EQ(m.partition("a"), "root invalid");
    EXPECT_EQ(m.says("task t"), "0-2,4-7");
    m.run("cpu 3 online");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.says("task t"), "3");
    EXPECT_EQ(m.cpus("."), "0-2,4-7");
}

TEST(hotplug, a_remote_partition_that_fell_stays_down) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus.exclusive 3\nwrite a/b cpuset.cpus.exclusive 3\nwrite a/b cpuset.cpus.partition root\nattach a/b t");
    m.run("cpu 3 offline");
    EXPECT_EQ(m.partition("a/b"), "root invalid (No cpu available due to hotplug)");
    EXPECT_EQ(m.says("task t"), "0-2,4-7");
    m.run("cpu 3 online");
    EXPECT_EQ(m.partition("a/b").substr(0, 12), "root invalid");
    m.run("write a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root");
    EXPECT_EQ(m.says("task t"), "3");
}

TEST(hotplug, an_empty_parent_falls_with_the_child_whose_tasks_it_gets) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 5\nwrite a cpuset.cpus.partition root\nwrite a/b cpuset.cpus 5");
    m.run("attach a/b t\nexit t\nwrite a/b cpuset.cpus.partition root\nattach a/b t\ncpu 5 offline");
    EXPECT_EQ(m.partition("a").substr(0, 12), "root invalid");
    EXPECT_EQ(m.partition("a/b").substr(0, 12), "root invalid");
    EXPECT_EQ(m.says("task t"), "0-4,6-7");
    m.run("cpu 5 online");
    EXPECT_EQ(m.partition("a/b"), "root");
    EXPECT_EQ(m.says("task t"), "5");
}

TEST(hotplug, partitions_that_hold_all_that_is_left_lose_it) {
    script m;
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus 0-3\nwrite a cpuset.cpus.partition root\nwrite b cpuset.cpus 4-6\nwrite b cpuset.cpus.partition root\ncpu 7 offline");
    EXPECT_EQ(m.cpus("."), "0-6");
    EXPECT_EQ(m.partition("a"), "root invalid");
    EXPECT_EQ(m.partition("b"), "root invalid");
    m.run("cpu 7 online");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.cpus("."), "7");
}

TEST(hotplug, tasks_of_the_root_keep_cpus_that_are_offline) {
    script m;
    m.run("attach . t\ncpu 3 offline");
    EXPECT_EQ(m.says("task t"), "0-7");
    m.run("affinity t 3-4");
    EXPECT_EQ(m.says("task t"), "3-4");
    EXPECT_EQ(m.says("affinity t 3"), "EINVAL");
}

TEST(hotplug, a_node_that_goes_takes_policies_with_it) {
    script m;
    m.run("mkdir a\nwrite a cpuset.mems 1\nattach a t\nmempolicy t bind 1\nnode 1 offline");
    EXPECT_EQ(m.says("read a cpuset.mems"), "1");
    EXPECT_EQ(m.says("read a cpuset.mems.effective"), "0");
    EXPECT_EQ(m.perform("task t").mems, "0");
    EXPECT_EQ(m.perform("task t").policy, "bind:0");
    m.run("node 1 online");
    EXPECT_EQ(m.perform("task t").mems, "1");
    EXPECT_EQ(m.perform("task t").policy, "bind:1");
}

TEST(hotplug, the_last_cpu_and_the_last_node_stay_and_absent_ones_are_enoent) {
    script m({}, testing::synthetic("pu:2"));
    m.run("cpu 0 offline");
    EXPECT_EQ(m.says("cpu 1 offline"), "EBUSY");
    EXPECT_EQ(m.says("node 0 offline"), "EBUSY");
    EXPECT_EQ(m.says("cpu 2 online"), "ENOENT");
    EXPECT_EQ(m.says("node 9 online"), "ENOENT");
    EXPECT_EQ(m.says("cpu 20000 online"), "ENOENT");
    m.run("cpu 0 offline\ncpu 0 online\nnode 0 online");
}

TEST(hotplug, suspend_leaves_the_sets_alone_and_makes_one_domain) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nsuspend");
    EXPECT_EQ(m.says("domains"), "0");
    EXPECT_EQ(m.cpus("a"), "2-3");
    EXPECT_EQ(m.says("mkdir b"), "EBUSY");
    m.run("resume");
    EXPECT_EQ(m.says("domains"), "0-1,4-7 2-3");
    EXPECT_EQ(m.says("resume"), "EINVAL");
}

}  // namespace
}  // namespace cohort::cpuset
