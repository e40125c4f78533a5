// SPDX-License-Identifier: Apache-2.0
// CPUs and nodes that come and go, and suspend; version 2 on the profile 6.12.
#include <gmock/gmock.h>

#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(hotplug, a_member_loses_a_cpu_and_gets_it_back) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 2-3; write a/b cpuset.cpus 3; attach a/b t; cpu 3 offline
        cpus a -> 2
        cpus a/b -> 2  # nothing left: the parent's
        task t -> 2
        cpus . -> 0-2,4-7
        cpu 3 online
        cpus a/b -> 3
        task t -> 3
    )");
}

TEST(hotplug, a_partition_without_tasks_may_run_empty) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 3; write a cpuset.cpus.partition root; cpu 3 offline
        partition a -> root
        cpus a -> ""
        read a cpuset.cpus.exclusive.effective -> 3
        attach a t -> ENOSPC
        cpu 3 online
        cpus a -> 3
    )");
}

TEST(hotplug, a_partition_with_tasks_falls_when_its_last_cpu_goes_and_rises_when_it_comes) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 3; write a cpuset.cpus.partition root; attach a t; cpu 3 offline
        partition a -> root invalid
        task t -> 0-2,4-7
        cpu 3 online
        partition a -> root
        task t -> 3
        cpus . -> 0-2,4-7
    )");
}

TEST(hotplug, a_remote_partition_that_fell_stays_down) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus.exclusive 3; write a/b cpuset.cpus.exclusive 3; write a/b cpuset.cpus.partition root
        attach a/b t
        cpu 3 offline
        partition a/b -> root invalid (No cpu available due to hotplug)
        task t -> 0-2,4-7
        cpu 3 online
        partition a/b -> root invalid...
        write a/b cpuset.cpus.partition root
        partition a/b -> root
        task t -> 3
    )");
}

TEST(hotplug, an_empty_parent_stays_when_the_child_falls_whose_tasks_it_gets) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 5; write a cpuset.cpus.partition root; write a/b cpuset.cpus 5
        attach a/b t; exit t; write a/b cpuset.cpus.partition root; attach a/b t; cpu 5 offline
        partition a -> root
        partition a/b -> root invalid
        task t -> 5                      # asleep: it keeps what it had
        cpu 5 online
        partition a/b -> root
        task t -> 5
    )");
}

TEST(hotplug, a_partition_that_falls_with_no_cpu_has_none_still) {
    script m;
    m.run(R"(
        mkdir b; controller b +cpuset; mkdir b/a; write b/a cpuset.cpus.partition isolated; write b cpuset.cpus 5; attach b/a t; write b/a cpuset.mems 0
        write b/a cpuset.cpus.exclusive 6; write b cpuset.cpus.partition isolated; write b/a cpuset.cpus.partition root
        cpus b/a -> ""
        cpu 6 offline
        partition b/a -> root invalid...
        cpus b/a -> ""  # not the parent's: nothing new is there for it
    )");
}

TEST(hotplug, partitions_that_hold_all_that_is_left_lose_it) {
    script m;
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus 0-3; write a cpuset.cpus.partition root; write b cpuset.cpus 4-6; write b cpuset.cpus.partition root
        cpu 7 offline
        cpus . -> 0-6
        partition a -> root invalid
        partition b -> root invalid
        cpu 7 online
        partition a -> root
        cpus . -> 7
    )");
}

TEST(hotplug, tasks_of_the_root_keep_cpus_that_are_offline) {
    script m;
    m.run(R"(
        attach . t; cpu 3 offline
        task t -> 0-7
        affinity t 3-4
        task t -> 3-4
        affinity t 3 -> EINVAL
    )");
}

TEST(hotplug, a_node_that_goes_takes_policies_with_it) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.mems 1; attach a t; mempolicy t bind 1; node 1 offline
        read a cpuset.mems -> 1
        read a cpuset.mems.effective -> 0
        mems t -> 0
        policy t -> bind:0
        node 1 online
        mems t -> 1
        policy t -> bind:1
    )");
}

TEST(hotplug, the_last_cpu_and_the_last_node_stay_and_absent_ones_are_enoent) {
    script m({}, testing::synthetic("pu:2"));
    m.run(R"(
        cpu 0 offline
        cpu 1 offline -> EBUSY
        node 0 offline -> EBUSY
        cpu 2 online -> ENOENT
        node 9 online -> ENOENT
        cpu 20000 online -> ENOENT
        cpu 0 offline; cpu 0 online; node 0 online
    )");
}

TEST(hotplug, suspend_leaves_the_sets_alone_and_makes_one_domain) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; suspend
        domains -> 0
        cpus a -> 2-3
        mkdir b -> EBUSY
        resume
        domains -> 0-1,4-7 2-3
        resume -> EINVAL
    )");
}

std::string steps_of(const std::string& lines, const std::string& event, model_options o = {}) {
    script m(o);
    m.run(lines);
    std::vector<trace_step> steps;
    m.subject().trace(&steps);
    m.run(event);
    EXPECT_TRUE(m.subject().clone().perform(*parse_operation("cpu 0 offline")).ok());  // a clone tells nothing
    m.subject().trace(nullptr);
    m.run("cpu 1 offline");
    std::string out;
    for (const trace_step& s : steps) out += s.what + " " + s.path + ": " + s.text + "\n";
    return out;
}

TEST(hotplug, is_told_step_by_step_as_the_kernel_does_it) {
    EXPECT_EQ(steps_of("mkdir a; controller a +cpuset; mkdir a/b; mkdir p; write a cpuset.cpus 2-3; write a/b cpuset.cpus 3; attach a/b t; write p cpuset.cpus 4-5; write p cpuset.cpus.partition root", "cpu 3 offline"),
              "notify .: CPU 3 is active no more\n"
              "work .: the work is done at once, by whoever takes the CPU or the memory up or down\n"
              "lock .: the tree is locked\n"
              "compare .: CPUs \"0-7\" -> CPUs \"0-2,4-7\", CPUs \"4-5\" of them given to partitions\n"
              "publish .: under the callback lock: effective CPUs \"0-3,6-7\" -> CPUs \"0-2,6-7\"\n"
              "unlock .: the tree is let go; each set below is locked for itself\n"
              "visit a: CPUs \"2-3\" -> CPUs \"2\", tasks follow\n"
              "visit a/b: CPUs \"3\" -> CPUs \"2\", tasks follow\n"
              "visit p: CPUs \"4-5\" as before\n"
              "domains .: made anew: 0-2,6-7; 4-5\n");
    EXPECT_EQ(steps_of("mkdir a; write a cpuset.mems 1; attach a t; attach . u", "node 1 offline"),
              "notify .: the memory notifier, priority 10: node 1 has no memory any more\n"
              "work .: the work is done at once, by whoever takes the CPU or the memory up or down\n"
              "lock .: the tree is locked\n"
              "compare .: nodes \"0-1\" -> nodes \"0\"\n"
              "publish .: under the callback lock: effective nodes \"0-1\" -> nodes \"0\"\n"
              "rebind .: 1 tasks of its own and their policies\n"
              "unlock .: the tree is let go; each set below is locked for itself\n"
              "visit a: CPUs \"0-7\" as before, nodes \"1\" -> nodes \"0\", tasks follow\n"
              "domains .: stay as they are\n");
}

TEST(hotplug, is_told_with_partitions_that_fall_and_tasks_that_are_moved) {
    EXPECT_THAT(steps_of("mkdir a; write a cpuset.cpus 3; write a cpuset.cpus.partition root; attach a t", "cpu 3 offline"),
                ::testing::HasSubstr("visit a: CPUs \"3\" -> CPUs \"0-2,4-7\", partition \"root\" -> \"root invalid"));
    const std::string v1 = steps_of("mkdir a; write a cpuset.cpus 3; write a cpuset.mems 0; attach a t", "cpu 3 offline", {.v1 = true});
    EXPECT_THAT(v1, ::testing::HasSubstr("move a: 1 tasks to \".\": nothing is left here\n"));
    EXPECT_THAT(steps_of("", "cpu 3 offline", {.profile = kernel::v6_1}), ::testing::HasSubstr("the work item is queued, once however many events"));
}

TEST(hotplug, is_not_told_when_it_is_refused) { EXPECT_EQ(steps_of("", "cpu 99 offline -> ENOENT; cpu 3 online"), ""); }

}  // namespace
}  // namespace cohort::cpuset
