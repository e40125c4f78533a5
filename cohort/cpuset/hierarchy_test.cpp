// SPDX-License-Identifier: Apache-2.0
// The tree, lists and tasks of version 2 on the profile 6.12.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

TEST(hierarchy, groups_are_made_and_removed_by_the_rules_of_cgroup) {
    script m;
    m.run("mkdir a\nmkdir a/b");
    EXPECT_EQ(m.says("mkdir a"), "EEXIST");
    EXPECT_EQ(m.says("mkdir ."), "EEXIST");
    EXPECT_EQ(m.says("mkdir x/y"), "ENOENT");
    EXPECT_EQ(m.says("rmdir a"), "EBUSY");
    EXPECT_EQ(m.says("rmdir ."), "EBUSY");
    m.run("attach a/b t");
    EXPECT_EQ(m.says("rmdir a/b"), "EBUSY");
    m.run("exit t\nrmdir a/b\nrmdir a");
    EXPECT_EQ(m.says("rmdir a"), "ENOENT");
}

TEST(hierarchy, files_are_there_where_the_parent_hands_cpuset_on) {
    script m;
    m.run("mkdir a\nmkdir a/b");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "");
    EXPECT_EQ(m.says("read a/b cpuset.cpus"), "ENOENT");
    EXPECT_EQ(m.says("write a/b cpuset.cpus 1"), "ENOENT");
    EXPECT_EQ(m.says("controller a/b +cpuset"), "ENOENT");
    m.run("controller a +cpuset");
    EXPECT_EQ(m.cpus("a/b"), "0-7");
    m.run("controller a/b +cpuset");
    EXPECT_EQ(m.says("controller a -cpuset"), "EBUSY");
    m.run("controller a/b -cpuset\ncontroller a -cpuset");
    EXPECT_EQ(m.cpus("a/b"), "ENOENT");
}

TEST(hierarchy, the_root_has_no_lists_and_no_partition_file) {
    script m;
    for (const char* file : {"cpuset.cpus", "cpuset.mems", "cpuset.cpus.partition", "cpuset.cpus.exclusive", "cpuset.cpus.exclusive.effective", "cpuset.nothing"}) {
        EXPECT_EQ(m.says(std::string("read . ") + file), "ENOENT") << file;
    }
    EXPECT_EQ(m.cpus("."), "0-7");
    EXPECT_EQ(m.says("read . cpuset.mems.effective"), "0-1");
    m.run("mkdir a");
    EXPECT_EQ(m.says("read a cpuset.cpus.isolated"), "ENOENT");
    EXPECT_EQ(m.says("write a cpuset.cpus.effective 1"), "EINVAL") << "no handler";
}

TEST(hierarchy, losing_the_controller_frees_the_tasks) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a/b cpuset.cpus 5\nwrite a/b cpuset.mems 1\nattach a/b t");
    EXPECT_EQ(m.says("task t"), "5");
    m.run("controller a -cpuset");
    EXPECT_EQ(m.says("task t"), "0-7");
    EXPECT_EQ(m.perform("task t").mems, "0-1");
    m.run("controller a +cpuset");
    EXPECT_EQ(m.says("read a/b cpuset.cpus"), "") << "the old list is gone";
}

TEST(lists, faults_answer_the_errno_of_their_kind) {
    script m;
    m.run("mkdir a");
    for (const auto& [text, code] : std::initializer_list<std::pair<const char*, const char*>>{
             {"0-", "EINVAL"}, {"-1", "EINVAL"}, {"3-1", "EINVAL"}, {"0AAA", "EINVAL"}, {"8", "ERANGE"}, {"0-99", "ERANGE"}, {"99999999999", "EOVERFLOW"}, {"0-3:2/0", "EINVAL"}}) {
        EXPECT_EQ(m.says(std::string("write a cpuset.cpus ") + text), code) << text;
        EXPECT_EQ(m.says(std::string("write a cpuset.cpus.exclusive ") + text), code) << text;
    }
    EXPECT_EQ(m.says("write a cpuset.mems 64"), "ERANGE");
    EXPECT_EQ(m.says("write a cpuset.mems 2"), "EINVAL") << "no such node";
    m.run("write a cpuset.cpus 0-7:1/2,");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "0,2,4,6");
    m.run("write a cpuset.cpus all\nwrite a cpuset.cpus N");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "7");
    EXPECT_EQ(m.says("write a cpuset.cpus " + std::string(60000, ',')), "E2BIG");
}

TEST(lists, a_member_gets_what_its_parent_has_of_it_or_all_of_the_parents) {
    script m;
    m.run("mkdir a\ncontroller a +cpuset\nmkdir a/b\nwrite a cpuset.cpus 0-3\nwrite a/b cpuset.cpus 2-5");
    EXPECT_EQ(m.cpus("a/b"), "2-3");
    m.run("write a cpuset.cpus 0-1");
    EXPECT_EQ(m.cpus("a/b"), "0-1") << "nothing left: the parent's";
    m.run("write a cpuset.cpus");
    EXPECT_EQ(m.cpus("a/b"), "2-5");
    m.run("write a cpuset.mems 1\nwrite a/b cpuset.mems 0");
    EXPECT_EQ(m.says("read a/b cpuset.mems.effective"), "1");
    m.run("write a cpuset.mems");
    EXPECT_EQ(m.says("read a/b cpuset.mems.effective"), "0");
}

TEST(lists, a_populated_set_keeps_its_list_before_7_0) {
    script m, later({.profile = kernel::v7_0});
    for (script* s : {&m, &later}) s->run("mkdir a\nwrite a cpuset.cpus 1\nwrite a cpuset.mems 0\nattach a t");
    EXPECT_EQ(m.says("write a cpuset.cpus"), "ENOSPC");
    EXPECT_EQ(m.says("write a cpuset.mems"), "ENOSPC");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "1");
    later.run("write a cpuset.cpus");
    EXPECT_EQ(later.says("task t"), "0-7");
}

TEST(tasks, go_with_their_set_and_keep_their_own_affinity_where_it_fits) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 0-3\nattach a t\naffinity t 2-5");
    EXPECT_EQ(m.says("task t"), "2-3");
    m.run("write a cpuset.cpus 0-1");
    EXPECT_EQ(m.says("task t"), "0-1") << "none of its own left";
    m.run("write a cpuset.cpus 1-4");
    EXPECT_EQ(m.says("task t"), "2-4") << "the request is kept, not what was left of it";
    m.run("attach . t");
    EXPECT_EQ(m.says("task t"), "2-5");
    EXPECT_EQ(m.says("affinity t 8-9"), "EINVAL");
    EXPECT_EQ(m.says("affinity nobody 1"), "ESRCH");
}

TEST(tasks, lose_their_own_affinity_on_6_1) {
    script m({.profile = kernel::v6_1});
    m.run("mkdir a\nwrite a cpuset.cpus 0-3\nattach a t\naffinity t 2\nwrite a cpuset.cpus 1-3");
    EXPECT_EQ(m.says("task t"), "1-3");
}

TEST(tasks, are_born_forked_listed_and_gone) {
    script m;
    m.run("mkdir a\nwrite a cpuset.cpus 1\nattach a t\nfork t u");
    EXPECT_EQ(m.says("tasks a"), "t u");
    EXPECT_EQ(m.says("task u"), "1");
    EXPECT_EQ(m.perform("task u").path, "a");
    EXPECT_EQ(m.says("fork t u"), "EEXIST");
    EXPECT_EQ(m.says("fork v w"), "ESRCH");
    m.run("exit t");
    EXPECT_EQ(m.says("task t"), "ESRCH");
    EXPECT_EQ(m.says("exit t"), "ESRCH");
    EXPECT_EQ(m.says("tasks a"), "u");
    EXPECT_EQ(m.says("attach nowhere u"), "ENOENT");
    EXPECT_EQ(m.says("tasks nowhere"), "ENOENT");
}

TEST(tasks, beside_children_that_cpuset_is_handed_to_make_a_home_of_threads_only) {
    script m;
    m.run("mkdir a\nmkdir a/b\nattach a t\ncontroller a +cpuset");
    EXPECT_EQ(m.says("attach a/b u"), "EOPNOTSUPP");
    m.run("controller a -cpuset\nattach a/b u");
    EXPECT_EQ(m.says("controller a +cpuset"), "EBUSY");
    m.run("exit t\ncontroller a +cpuset");
    EXPECT_EQ(m.says("attach a t"), "EBUSY");
}

TEST(delegation, lets_the_user_work_below_and_not_at_the_delegated_group) {
    script m;
    m.run("mkdir a\nmkdir c\nas delegate a\ncontroller a +cpuset\nmkdir a/b\nwrite a/b cpuset.cpus 1\nattach a/b t");
    EXPECT_EQ(m.says("write a cpuset.cpus 1"), "EACCES");
    EXPECT_EQ(m.says("write c cpuset.cpus 1"), "EACCES");
    EXPECT_EQ(m.says("mkdir d"), "EACCES");
    EXPECT_EQ(m.says("rmdir c"), "EACCES");
    EXPECT_EQ(m.says("attach c t"), "EACCES");
    EXPECT_EQ(m.says("cpu 1 offline"), "EACCES");
    EXPECT_EQ(m.says("bind v1"), "EPERM");
    m.run("as root\nattach c u\nas delegate a");
    EXPECT_EQ(m.says("attach a/b u"), "EACCES");
    EXPECT_EQ(m.says("affinity u 1"), "EPERM");
    EXPECT_EQ(m.says("as delegate ."), "EINVAL");
    EXPECT_EQ(m.says("as delegate x"), "ENOENT");
}

}  // namespace
}  // namespace cohort::cpuset
