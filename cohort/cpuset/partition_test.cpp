// SPDX-License-Identifier: Apache-2.0
// Partitions of version 2 on the profile 6.12.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(partition, an_isolated_one_takes_its_cpus_from_the_root_and_from_balancing) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition isolated
        partition a -> isolated
        cpus . -> 0-1,4-7
        read . cpuset.cpus.isolated -> 2-3
        read a cpuset.cpus.exclusive.effective -> 2-3
        domains -> 0-1,4-7
    )");
}

TEST(partition, a_root_one_is_a_sched_domain_of_its_own) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root
        domains -> 0-1,4-7 2-3
        write a cpuset.cpus.partition isolated
        domains -> 0-1,4-7
        read . cpuset.cpus.isolated -> 2-3
        write a cpuset.cpus.partition root
        read . cpuset.cpus.isolated -> ""
    )");
}

TEST(partition, back_to_member_gives_everything_back) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition isolated; write a cpuset.cpus.partition member
        partition a -> member
        cpus . -> 0-7
        cpus a -> 2-3
        read a cpuset.cpus.exclusive.effective -> ""
        read . cpuset.cpus.isolated -> ""
    )");
}

TEST(partition, removing_its_group_gives_everything_back) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; rmdir a
        cpus . -> 0-7
        domains -> 0-7
    )");
}

TEST(partition, a_write_succeeds_and_reads_why_it_is_invalid) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus.partition root
        partition a -> root invalid (cpuset.cpus and cpuset.cpus.exclusive are empty)
        mkdir b; write b cpuset.cpus 0-7; write b cpuset.cpus.partition isolated
        partition b -> isolated invalid (Parent unable to distribute cpu downstream)
        write b cpuset.cpus.partition yes -> EINVAL
    )");
}

TEST(partition, overlap_with_a_sibling_is_not_exclusive) {
    script m;
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus 2-3; write b cpuset.cpus 3-4; write a cpuset.cpus.partition root
        partition a -> root invalid (Cpu list in cpuset.cpus not exclusive)
        write b cpuset.cpus 4; write a cpuset.cpus.partition root
        partition a -> root
    )");
}

TEST(partition, an_overlapping_list_is_taken_and_makes_the_sibling_invalid_without_a_reason) {
    script m;
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write b cpuset.cpus 4; write b cpuset.cpus.partition root
        write b cpuset.cpus 3-4
        read b cpuset.cpus -> 3-4
        partition a -> root invalid
        partition b -> root invalid
        cpus . -> 0-7
    )");
}

TEST(partition, an_overlapping_list_gets_what_is_left_from_7_0_on) {
    script m({.profile = kernel::v7_0});
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write b cpuset.cpus 3-4; write b cpuset.cpus.partition root
        partition a -> root
        partition b -> root
        cpus b -> 4
        write b cpuset.cpus 2-4
        partition a -> root
        cpus b -> 4
        write b cpuset.cpus.exclusive 3-5 -> EINVAL  # a was granted 3
        mkdir c; write c cpuset.cpus 6
        write b cpuset.cpus.exclusive 4-6 -> EINVAL  # all of c's
    )");
}

TEST(partition, a_new_list_moves_cpus_between_it_and_its_parent) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write a cpuset.cpus 3-5
        partition a -> root
        cpus a -> 3-5
        cpus . -> 0-2,6-7
        write a cpuset.cpus 5
        cpus . -> 0-4,6-7
        domains -> 0-4,6-7 5
    )");
}

TEST(partition, an_emptied_list_makes_it_invalid_and_a_new_one_valid_again) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write a cpuset.cpus
        partition a -> root invalid (Invalid cpu list in cpuset.cpus.exclusive)
        cpus a -> 0-7
        write a cpuset.cpus 4-5
        partition a -> root
        cpus . -> 0-3,6-7
    )");
}

TEST(partition, a_nested_one_falls_with_its_parent_and_rises_with_it) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 2-5; write a cpuset.cpus.partition root
        write a/b cpuset.cpus 4-5; write a/b cpuset.cpus.partition root
        cpus a -> 2-3
        cpus a/b -> 4-5
        domains -> 0-1,6-7 2-3 4-5
        write a cpuset.cpus.partition member
        partition a/b -> root invalid (Parent is not a partition root)
        cpus a -> 2-5
        write a cpuset.cpus.partition root
        partition a/b -> root
        cpus a -> 2-3
        write a cpuset.cpus
        partition a/b -> root invalid (Parent is an invalid partition root)
    )");
}

TEST(partition, a_parent_that_shrinks_leaves_a_child_that_is_valid_with_what_is_left) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 2-5; write a cpuset.cpus.partition root
        write a/b cpuset.cpus 4-5; write a/b cpuset.cpus.partition root; write a cpuset.cpus 2-4
        partition a -> root
        partition a/b -> root            # it fell and rose again, with nothing of its own: the parent keeps all
        cpus a -> 2-4
        cpus a/b -> 4
    )");
}

TEST(partition, a_populated_parent_keeps_a_cpu_and_an_empty_one_may_give_all) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root; write a/b cpuset.cpus 2-3
        attach a t; write a/b cpuset.cpus.partition root
        partition a/b -> root invalid (Parent unable to distribute cpu downstream)
        exit t; write a/b cpuset.cpus.partition root
        partition a/b -> root
        cpus a -> ""
        attach a t -> ENOSPC
    )");
}

TEST(partition, an_exclusive_list_reserves_cpus_and_refuses_those_of_siblings) {
    script m;
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus.exclusive 2-3
        read a cpuset.cpus.exclusive.effective -> 2-3
        cpus a -> 0-7  # a member's effective CPUs come from cpuset.cpus
        write b cpuset.cpus.exclusive 3-4 -> EINVAL
        read b cpuset.cpus.exclusive -> ""
        write b cpuset.cpus 2
        read b cpuset.cpus -> 2  # cpuset.cpus takes an overlap that cpuset.cpus.exclusive refuses
    )");
}

TEST(partition, an_emptied_exclusive_list_makes_it_invalid) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.exclusive 2-3; write a cpuset.cpus.partition root; write a cpuset.cpus.exclusive
        partition a -> root invalid (Invalid cpu list in cpuset.cpus.exclusive)
        cpus . -> 0-7
        write a cpuset.cpus.partition root
        partition a -> root
    )");
}

TEST(partition, an_invalid_one_is_revived_over_a_remote_one) {
    script m;
    m.run(R"(
        cpu 4 offline; mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus.exclusive 4-7; write a/b cpuset.cpus.exclusive 6-7
        write a/b cpuset.cpus.partition root; write a cpuset.cpus.partition root; cpu 4 online
        partition a -> root
        partition a/b -> root
    )");
}

TEST(partition, a_remote_one_takes_cpus_from_the_root_through_exclusive_lists) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.partition isolated
        partition a/b -> isolated invalid (Invalid cpu list in cpuset.cpus.exclusive)
        write a cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.partition isolated
        partition a/b -> isolated
        partition a -> member
        cpus a/b -> 2-3
        cpus a -> 0-1,4-7
        cpus . -> 0-1,4-7
        read . cpuset.cpus.isolated -> 2-3
        write a cpuset.cpus.partition root
        partition a -> root invalid (Have remote partition underneath)
    )");
}

TEST(partition, a_remote_one_follows_an_exclusive_list_above_it) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.partition root
        write a cpuset.cpus.exclusive 3
        partition a/b -> root
        cpus a/b -> 3
        cpus . -> 0-2,4-7
        write a cpuset.cpus.exclusive
        partition a/b -> root invalid...
        cpus . -> 0-7
    )");
}

TEST(partition, a_remote_one_that_falls_by_a_siblings_list_keeps_its_cpus) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; mkdir a/c; write a cpuset.cpus.exclusive 2-3; write a/b cpuset.cpus.exclusive 2; write a/b cpuset.cpus 2
        write a/b cpuset.cpus.partition root; write a/c cpuset.cpus 0,2
        partition a/b -> root invalid
        cpus a/b -> 2
        cpus a -> 0-1,3-7
        cpus a/c -> 0
    )");
}

TEST(partition, a_remote_one_needs_the_administrator) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; write a cpuset.cpus.exclusive 2-3; as delegate a; mkdir a/b; write a/b cpuset.cpus.exclusive 2-3
        write a/b cpuset.cpus.partition root
        partition a/b -> root invalid (Enable partition not permitted)
        write a cpuset.cpus 3 -> EACCES
        as root; write a/b cpuset.cpus.partition root
        partition a/b -> root
    )");
}

TEST(partition, boot_isolated_cpus_are_for_isolated_partitions) {
    script m({.profile = kernel::v7_0, .boot_isolated = {2, 3}});
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root
        partition a -> root invalid (partition config conflicts with housekeeping setup)
        write a cpuset.cpus.partition isolated
        partition a -> isolated
    )");
}

TEST(partition, boot_isolated_cpus_are_taken_by_one_that_is_isolated_already) {
    script m({.boot_isolated = {2, 3}});
    m.run(R"(
        mkdir a; write a cpuset.cpus 2-3; write a cpuset.cpus.partition isolated
        partition a -> isolated invalid (partition config conflicts with housekeeping setup)
        write a cpuset.cpus.partition member; write a cpuset.cpus 0-1; write a cpuset.cpus.partition isolated; write a cpuset.cpus 0-3
        partition a -> isolated
        write a cpuset.cpus.partition root
        partition a -> root
        write a cpuset.cpus.partition member
        read . cpuset.cpus.isolated -> ""
    )");
}

/// A sched domain without a CPU: on 6.1 and 6.12 the write that makes it passes, and the next that makes domains crashes the kernel.
TEST(partition, that_leaves_the_root_with_boot_isolated_cpus_alone_is_a_hazard) {
    for (const kernel k : {kernel::v6_1, kernel::v6_12}) {
        script m({.profile = k, .boot_isolated = {2, 3}});
        m.run("mkdir b; write b cpuset.cpus 0-1,4-7");
        const auto hazard = [&](const char* line) { return m.subject().perform(*parse_operation(line)).hazard; };
        EXPECT_NE(hazard("write b cpuset.cpus.partition root"), "");
        EXPECT_EQ(hazard("read b cpuset.cpus.partition"), "");
        EXPECT_NE(hazard("write b cpuset.cpus.partition isolated"), "");
        EXPECT_NE(hazard("write b cpuset.cpus.partition member"), "") << "domains are made anew while the kernel's list has an empty one";
        EXPECT_EQ(hazard("write b cpuset.cpus 0-1,4-6"), "");
        EXPECT_EQ(hazard("write b cpuset.cpus.partition root"), "") << "the root keeps CPU 7";
    }
}

}  // namespace
}  // namespace cohort::cpuset
