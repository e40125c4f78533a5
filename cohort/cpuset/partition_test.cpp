// SPDX-License-Identifier: Apache-2.0
// Partitions of version 2 on the profile 6.12.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(partition, an_isolated_one_takes_its_cpus_from_the_root_and_from_balancing) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition isolated");
    EXPECT_EQ(m.partition("a"), "isolated");
    EXPECT_EQ(m.cpus("."), "0-1,4-7");
    EXPECT_EQ(m.says("read . cpuset.cpus.isolated"), "2-3");
    EXPECT_EQ(m.says("read a cpuset.cpus.exclusive.effective"), "2-3");
    EXPECT_EQ(m.says("domains"), "0-1,4-7");
}

TEST(partition, a_root_one_is_a_sched_domain_of_its_own) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root");
    EXPECT_EQ(m.says("domains"), "0-1,4-7 2-3");
    m.run("write a cpuset.cpus.partition isolated");
    EXPECT_EQ(m.says("domains"), "0-1,4-7");
    EXPECT_EQ(m.says("read . cpuset.cpus.isolated"), "2-3");
    m.run("write a cpuset.cpus.partition root");
    EXPECT_EQ(m.says("read . cpuset.cpus.isolated"), "");
}

TEST(partition, back_to_member_gives_everything_back) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition isolated\nwrite a cpuset.cpus.partition member");
    EXPECT_EQ(m.partition("a"), "member");
    EXPECT_EQ(m.cpus("."), "0-7");
    EXPECT_EQ(m.cpus("a"), "2-3");
    EXPECT_EQ(m.says("read a cpuset.cpus.exclusive.effective"), "");
    EXPECT_EQ(m.says("read . cpuset.cpus.isolated"), "");
}

TEST(partition, removing_its_group_gives_everything_back) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nrmdir a");
    EXPECT_EQ(m.cpus("."), "0-7");
    EXPECT_EQ(m.says("domains"), "0-7");
}

TEST(partition, a_write_succeeds_and_reads_why_it_is_invalid) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root invalid (cpuset.cpus and cpuset.cpus.exclusive are empty)");
    m.run("mkdir b\nwrite b cpuset.cpus 0-7\nwrite b cpuset.cpus.partition isolated");
    EXPECT_EQ(m.partition("b"), "isolated invalid (Parent unable to distribute cpu downstream)");
    EXPECT_EQ(m.says("write b cpuset.cpus.partition yes"), "EINVAL");
}

TEST(partition, overlap_with_a_sibling_is_not_exclusive) {
    script m;
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus 2-3\nwrite b cpuset.cpus 3-4\nwrite a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root invalid (Cpu list in cpuset.cpus not exclusive)");
    m.run("write b cpuset.cpus 4\nwrite a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root");
}

TEST(partition, an_overlapping_list_is_taken_and_makes_the_sibling_invalid_without_a_reason) {
    script m;
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nwrite b cpuset.cpus 4\nwrite b cpuset.cpus.partition root");
    m.run("write b cpuset.cpus 3-4");
    EXPECT_EQ(m.says("read b cpuset.cpus"), "3-4");
    EXPECT_EQ(m.partition("a"), "root invalid");
    EXPECT_EQ(m.partition("b"), "root invalid");
    EXPECT_EQ(m.cpus("."), "0-7");
}

TEST(partition, an_overlapping_list_gets_what_is_left_from_7_0_on) {
    script m({.profile = kernel::v7_0});
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nwrite b cpuset.cpus 3-4\nwrite b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.partition("b"), "root");
    EXPECT_EQ(m.cpus("b"), "4");
    m.run("write b cpuset.cpus 2-4");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.cpus("b"), "4");
    EXPECT_EQ(m.says("write b cpuset.cpus.exclusive 3-5"), "EINVAL") << "a was granted 3";
    m.run("mkdir c\nwrite c cpuset.cpus 6");
    EXPECT_EQ(m.says("write b cpuset.cpus.exclusive 4-6"), "EINVAL") << "all of c's";
}

TEST(partition, a_new_list_moves_cpus_between_it_and_its_parent) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nwrite a cpuset.cpus 3-5");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.cpus("a"), "3-5");
    EXPECT_EQ(m.cpus("."), "0-2,6-7");
    m.run("write a cpuset.cpus 5");
    EXPECT_EQ(m.cpus("."), "0-4,6-7");
    EXPECT_EQ(m.says("domains"), "0-4,6-7 5");
}

TEST(partition, an_emptied_list_makes_it_invalid_and_a_new_one_valid_again) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nwrite a cpuset.cpus");
    EXPECT_EQ(m.partition("a"), "root invalid (Invalid cpu list in cpuset.cpus.exclusive)");
    EXPECT_EQ(m.cpus("a"), "0-7");
    m.run("write a cpuset.cpus 4-5");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.cpus("."), "0-3,6-7");
}

TEST(partition, a_nested_one_falls_with_its_parent_and_rises_with_it) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 2-5\nwrite a cpuset.cpus.partition root");
    m.run("write a/b cpuset.cpus 4-5\nwrite a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.cpus("a"), "2-3");
    EXPECT_EQ(m.cpus("a/b"), "4-5");
    EXPECT_EQ(m.says("domains"), "0-1,6-7 2-3 4-5");
    m.run("write a cpuset.cpus.partition member");
    EXPECT_EQ(m.partition("a/b"), "root invalid (Parent is not a partition root)");
    EXPECT_EQ(m.cpus("a"), "2-5");
    m.run("write a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root");
    EXPECT_EQ(m.cpus("a"), "2-3");
}

TEST(partition, a_parent_that_shrinks_makes_the_child_invalid) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 2-5\nwrite a cpuset.cpus.partition root");
    m.run("write a/b cpuset.cpus 4-5\nwrite a/b cpuset.cpus.partition root\nwrite a cpuset.cpus 2-4");
    EXPECT_EQ(m.partition("a"), "root");
    EXPECT_EQ(m.partition("a/b"), "root invalid (Invalid cpu list in cpuset.cpus.exclusive)");
    EXPECT_EQ(m.cpus("a"), "2-4");
}

TEST(partition, a_populated_parent_keeps_a_cpu_and_an_empty_one_may_give_all) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root\nwrite a/b cpuset.cpus 2-3");
    m.run("attach a t\nwrite a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root invalid (Parent unable to distribute cpu downstream)");
    m.run("exit t\nwrite a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root");
    EXPECT_EQ(m.cpus("a"), "");
    EXPECT_EQ(m.says("attach a t"), "ENOSPC");
}

TEST(partition, an_exclusive_list_reserves_cpus_and_refuses_those_of_siblings) {
    script m;
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus.exclusive 2-3");
    EXPECT_EQ(m.says("read a cpuset.cpus.exclusive.effective"), "2-3");
    EXPECT_EQ(m.cpus("a"), "0-7") << "a member's effective CPUs come from cpuset.cpus";
    EXPECT_EQ(m.says("write b cpuset.cpus.exclusive 3-4"), "EINVAL");
    EXPECT_EQ(m.says("read b cpuset.cpus.exclusive"), "");
    m.run("write b cpuset.cpus 2");
    EXPECT_EQ(m.says("read b cpuset.cpus"), "2") << "cpuset.cpus takes an overlap that cpuset.cpus.exclusive refuses";
}

TEST(partition, an_emptied_exclusive_list_makes_it_invalid) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.exclusive 2-3\nwrite a cpuset.cpus.partition root\nwrite a cpuset.cpus.exclusive");
    EXPECT_EQ(m.partition("a"), "root invalid (Invalid cpu list in cpuset.cpus.exclusive)");
    EXPECT_EQ(m.cpus("."), "0-7");
    m.run("write a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root");
}

TEST(partition, an_invalid_one_is_not_revived_over_a_remote_one) {
    script m;
    m.run("cpu 4 offline\nmkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus.exclusive 4-7\nwrite a/b cpuset.cpus.exclusive 6-7");
    m.run("write a/b cpuset.cpus.partition root\nwrite a cpuset.cpus.partition root\ncpu 4 online");
    EXPECT_EQ(m.partition("a"), "root invalid (Have remote partition underneath)");
    EXPECT_EQ(m.partition("a/b"), "root");
}

TEST(partition, a_remote_one_takes_cpus_from_the_root_through_exclusive_lists) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a/b cpuset.cpus.exclusive 2-3\nwrite a/b cpuset.cpus.partition isolated");
    EXPECT_EQ(m.partition("a/b"), "isolated invalid (Invalid cpu list in cpuset.cpus.exclusive)");
    m.run("write a cpuset.cpus.exclusive 2-3\nwrite a/b cpuset.cpus.partition isolated");
    EXPECT_EQ(m.partition("a/b"), "isolated");
    EXPECT_EQ(m.partition("a"), "member");
    EXPECT_EQ(m.cpus("a/b"), "2-3");
    EXPECT_EQ(m.cpus("a"), "0-1,4-7");
    EXPECT_EQ(m.cpus("."), "0-1,4-7");
    EXPECT_EQ(m.says("read . cpuset.cpus.isolated"), "2-3");
    m.run("write a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root invalid (Have remote partition underneath)");
}

TEST(partition, a_remote_one_falls_when_an_exclusive_list_above_it_loses_its_cpus) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus.exclusive 2-3\nwrite a/b cpuset.cpus.exclusive 2-3\nwrite a/b cpuset.cpus.partition root");
    m.run("write a cpuset.cpus.exclusive 3");
    EXPECT_EQ(m.partition("a/b"), "root invalid (Parent is not a partition root)");
    EXPECT_EQ(m.cpus("."), "0-7");
}

TEST(partition, a_remote_one_needs_the_administrator) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nwrite a cpuset.cpus.exclusive 2-3\nas delegate a\nmkdir a/b\nwrite a/b cpuset.cpus.exclusive 2-3");
    m.run("write a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root invalid (Enable partition not permitted)");
    EXPECT_EQ(m.says("write a cpuset.cpus 3"), "EACCES");
    m.run("as root\nwrite a/b cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a/b"), "root");
}

TEST(partition, boot_isolated_cpus_are_for_isolated_partitions) {
    script m({.boot_isolated = {2, 3}});
    m.run("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition root");
    EXPECT_EQ(m.partition("a"), "root invalid (partition config conflicts with housekeeping setup)");
    m.run("write a cpuset.cpus.partition isolated");
    EXPECT_EQ(m.partition("a"), "isolated");
}

}  // namespace
}  // namespace cohort::cpuset
