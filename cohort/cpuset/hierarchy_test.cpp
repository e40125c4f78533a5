// SPDX-License-Identifier: Apache-2.0
// The tree, lists and tasks of version 2 on the profile 6.12.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(hierarchy, groups_are_made_and_removed_by_the_rules_of_cgroup) {
    script m;
    m.run(R"(
        mkdir a; mkdir a/b
        mkdir a -> EEXIST
        mkdir . -> EEXIST
        mkdir x/y -> ENOENT
        rmdir a -> EBUSY
        rmdir . -> EBUSY
        attach a/b t
        rmdir a/b -> EBUSY
        exit t; rmdir a/b; rmdir a
        rmdir a -> ENOENT
    )");
}

TEST(hierarchy, files_are_there_where_the_parent_hands_cpuset_on) {
    script m;
    m.run(R"(
        mkdir a; mkdir a/b
        read a cpuset.cpus -> ""
        read a/b cpuset.cpus -> ENOENT
        write a/b cpuset.cpus 1 -> ENOENT
        controller a/b +cpuset -> ENOENT
        controller a +cpuset
        cpus a/b -> 0-7
        controller a/b +cpuset
        controller a -cpuset -> EBUSY
        controller a/b -cpuset; controller a -cpuset
        cpus a/b -> ENOENT
    )");
}

TEST(hierarchy, the_root_has_no_lists_and_no_partition_file) {
    script m;
    for (const char* file : {"cpuset.cpus", "cpuset.mems", "cpuset.cpus.partition", "cpuset.cpus.exclusive", "cpuset.cpus.exclusive.effective", "cpuset.nothing"}) {
        m.run(std::string("read . ") + file + " -> ENOENT");
    }
    m.run(R"(
        cpus . -> 0-7
        read . cpuset.mems.effective -> 0-1
        mkdir a
        read a cpuset.cpus.isolated -> ENOENT
        write a cpuset.cpus.effective 1 -> EINVAL  # no handler
    )");
}

TEST(hierarchy, losing_the_controller_frees_the_tasks) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus 5; write a/b cpuset.mems 1; attach a/b t
        task t -> 5
        controller a -cpuset
        task t -> 0-7
        mems t -> 0-1
        controller a +cpuset
        read a/b cpuset.cpus -> ""  # the old list is gone
    )");
}

TEST(lists, faults_answer_the_errno_of_their_kind) {
    script m;
    m.run("mkdir a");
    for (const auto& [text, code] : std::initializer_list<std::pair<const char*, const char*>>{
             {"0-", "EINVAL"}, {"-1", "EINVAL"}, {"3-1", "EINVAL"}, {"0AAA", "EINVAL"}, {"8", "ERANGE"}, {"0-99", "ERANGE"}, {"99999999999", "EOVERFLOW"}, {"0-3:2/0", "EINVAL"}}) {
        const std::string rest = std::string(text) + " -> " + code;
        m.run("write a cpuset.cpus " + rest);
        m.run("write a cpuset.cpus.exclusive " + rest);
    }
    m.run(R"(
        write a cpuset.mems 64 -> ERANGE
        write a cpuset.mems 2 -> EINVAL  # no such node
        write a cpuset.cpus 0-7:1/2,
        read a cpuset.cpus -> 0,2,4,6
        write a cpuset.cpus all; write a cpuset.cpus N
        read a cpuset.cpus -> 7
    )");
    m.run("write a cpuset.cpus " + std::string(60000, ',') + " -> E2BIG");
}

TEST(lists, a_member_gets_what_its_parent_has_of_it_or_all_of_the_parents) {
    script m;
    m.run(R"(
        mkdir a; controller a +cpuset; mkdir a/b; write a cpuset.cpus 0-3; write a/b cpuset.cpus 2-5
        cpus a/b -> 2-3
        write a cpuset.cpus 0-1
        cpus a/b -> 0-1  # nothing left: the parent's
        write a cpuset.cpus
        cpus a/b -> 2-5
        write a cpuset.mems 1; write a/b cpuset.mems 0
        read a/b cpuset.mems.effective -> 1
        write a cpuset.mems
        read a/b cpuset.mems.effective -> 0
    )");
}

TEST(lists, a_populated_set_keeps_its_list_before_7_0) {
    script m, later({.profile = kernel::v7_0});
    for (script* s : {&m, &later}) s->run("mkdir a\nwrite a cpuset.cpus 1\nwrite a cpuset.mems 0\nattach a t");
    m.run(R"(
        write a cpuset.cpus -> ENOSPC
        write a cpuset.mems -> ENOSPC
        read a cpuset.cpus -> 1
    )");
    later.run("write a cpuset.cpus");
    EXPECT_EQ(later.says("task t"), "0-7");
}

TEST(tasks, go_with_their_set_and_keep_their_own_affinity_where_it_fits) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 0-3; attach a t; affinity t 2-5
        task t -> 2-3
        write a cpuset.cpus 0-1
        task t -> 0-1  # none of its own left
        write a cpuset.cpus 1-4
        task t -> 2-4  # the request is kept, not what was left of it
        attach . t
        task t -> 2-5
        affinity t 8-9 -> EINVAL
        affinity nobody 1 -> ESRCH
    )");
}

TEST(tasks, lose_their_own_affinity_on_6_1) {
    script m({.profile = kernel::v6_1});
    m.run(R"(
        mkdir a; write a cpuset.cpus 0-3; attach a t; affinity t 2; write a cpuset.cpus 1-3
        task t -> 1-3
    )");
}

TEST(tasks, are_born_forked_listed_and_gone) {
    script m;
    m.run(R"(
        mkdir a; write a cpuset.cpus 1; attach a t; fork t u
        tasks a -> t u
        task u -> 1
        path u -> a
        fork t u -> EEXIST
        fork v w -> ESRCH
        exit t
        task t -> ESRCH
        exit t -> ESRCH
        tasks a -> u
        attach nowhere u -> ENOENT
        tasks nowhere -> ENOENT
    )");
}

TEST(tasks, beside_children_that_cpuset_is_handed_to_make_a_home_of_threads_only) {
    script m;
    m.run(R"(
        mkdir a; mkdir a/b; attach a t; controller a +cpuset
        attach a/b u -> EOPNOTSUPP
        controller a -cpuset; attach a/b u
        controller a +cpuset -> EBUSY
        exit t; controller a +cpuset
        attach a t -> EBUSY
    )");
}

TEST(delegation, lets_the_user_work_below_and_not_at_the_delegated_group) {
    script m;
    m.run(R"(
        mkdir a; mkdir c; as delegate a; controller a +cpuset; mkdir a/b; write a/b cpuset.cpus 1; attach a/b t
        write a cpuset.cpus 1 -> EACCES
        write c cpuset.cpus 1 -> EACCES
        mkdir d -> EACCES
        rmdir c -> EACCES
        attach c t -> EACCES
        cpu 1 offline -> EACCES
        bind v1 -> EPERM
        as root; attach c u; as delegate a
        attach a/b u -> EACCES
        affinity u 1 -> EPERM
        as delegate . -> EINVAL
        as delegate x -> ENOENT
    )");
}

}  // namespace
}  // namespace cohort::cpuset
