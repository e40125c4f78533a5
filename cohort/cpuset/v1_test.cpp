// SPDX-License-Identifier: Apache-2.0
// Version 1.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

script v1() { return script({.v1 = true}); }

TEST(v1, a_new_set_is_empty_and_takes_no_task_before_it_has_cpus_and_nodes) {
    script m = v1();
    m.run("mkdir a");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "");
    EXPECT_EQ(m.says("attach a t"), "ENOSPC");
    m.run("write a cpuset.cpus 0-3");
    EXPECT_EQ(m.says("attach a t"), "ENOSPC");
    m.run("write a cpuset.mems 1\nattach a t");
    EXPECT_EQ(m.says("task t"), "0-3");
    EXPECT_EQ(m.perform("task t").mems, "1");
}

TEST(v1, a_child_stays_within_its_parent_and_a_parent_around_its_children) {
    script m = v1();
    m.run("mkdir a\nmkdir a/b");
    EXPECT_EQ(m.says("write a/b cpuset.cpus 1"), "EACCES");
    m.run("write a cpuset.cpus 0-3\nwrite a/b cpuset.cpus 1-2");
    EXPECT_EQ(m.says("write a cpuset.cpus 0-1"), "EBUSY");
    EXPECT_EQ(m.says("write a/b cpuset.cpus 3-4"), "EACCES");
    EXPECT_EQ(m.says("write . cpuset.cpus 0"), "EACCES");
    m.run("cpu 7 offline");
    EXPECT_EQ(m.says("write a cpuset.cpus 0-3,7"), "EINVAL") << "offline";
    EXPECT_EQ(m.says("read a/b cpuset.effective_cpus"), "1-2");
}

TEST(v1, exclusive_sets_share_nothing_with_siblings) {
    script m = v1();
    m.run("mkdir a\nmkdir b\nwrite a cpuset.cpus 0-3\nwrite b cpuset.cpus 3-4");
    EXPECT_EQ(m.says("write a cpuset.cpu_exclusive 1"), "EINVAL");
    m.run("write b cpuset.cpus 4\nwrite a cpuset.cpu_exclusive 1");
    EXPECT_EQ(m.says("write b cpuset.cpus 3"), "EINVAL");
    m.run("write a cpuset.mems 0\nwrite b cpuset.mems 0");
    EXPECT_EQ(m.says("write b cpuset.mem_exclusive 1"), "EINVAL");
    m.run("mkdir b/c");
    EXPECT_EQ(m.says("write b/c cpuset.cpu_exclusive 1"), "EACCES") << "its parent is not";
    EXPECT_EQ(m.says("write . cpuset.cpu_exclusive 0"), "EBUSY");
}

TEST(v1, a_populated_set_keeps_cpus_and_nodes) {
    script m = v1();
    m.run("mkdir a\nwrite a cpuset.cpus 1\nwrite a cpuset.mems 0\nattach a t");
    EXPECT_EQ(m.says("write a cpuset.cpus"), "ENOSPC");
    EXPECT_EQ(m.says("write a cpuset.mems"), "ENOSPC");
    m.run("exit t\nwrite a cpuset.cpus");
}

TEST(v1, a_cpu_that_goes_offline_is_gone_for_good_and_tasks_of_an_empty_set_move_up) {
    script m = v1();
    m.run("mkdir a\nmkdir a/b\nwrite a cpuset.cpus 2-3\nwrite a cpuset.mems 0\nwrite a/b cpuset.cpus 3\nwrite a/b cpuset.mems 0\nattach a/b t\ncpu 3 offline");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "2");
    EXPECT_EQ(m.says("read a/b cpuset.cpus"), "");
    EXPECT_EQ(m.perform("task t").path, "a");
    EXPECT_EQ(m.says("task t"), "2");
    m.run("cpu 3 online");
    EXPECT_EQ(m.says("read a cpuset.cpus"), "2");
    EXPECT_EQ(m.says("read . cpuset.cpus"), "0-7");
}

TEST(v1, a_node_that_goes_offline_is_gone_for_good) {
    script m = v1();
    m.run("mkdir a\nwrite a cpuset.cpus 1\nwrite a cpuset.mems 0-1\nattach a t\nnode 1 offline");
    EXPECT_EQ(m.says("read a cpuset.mems"), "0");
    m.run("node 1 online");
    EXPECT_EQ(m.says("read a cpuset.mems"), "0");
    EXPECT_EQ(m.says("read . cpuset.mems"), "0-1");
}

TEST(v1, domains_are_those_of_the_balanced_sets) {
    script m = v1();
    EXPECT_EQ(m.says("domains"), "0-7");
    m.run("mkdir a\nmkdir b\nmkdir c\nwrite a cpuset.cpus 0-2\nwrite b cpuset.cpus 2-3\nwrite c cpuset.cpus 5");
    EXPECT_EQ(m.says("domains"), "0-7") << "the root is balanced";
    m.run("write . cpuset.sched_load_balance 0");
    EXPECT_EQ(m.says("domains"), "0-3 5") << "overlapping ones are one";
    m.run("write b cpuset.sched_load_balance 0");
    EXPECT_EQ(m.says("domains"), "0-2 5");
}

TEST(v1, switches_are_numbers_and_the_relax_level_has_bounds) {
    script m = v1();
    m.run("mkdir a");
    for (const char* file : {"cpuset.memory_migrate", "cpuset.mem_hardwall", "cpuset.memory_spread_page", "cpuset.memory_spread_slab", "cpuset.sched_load_balance",
                             "cgroup.clone_children"}) {
        const std::string name = file;
        m.run("write a " + name + " 7");
        EXPECT_EQ(m.says("read a " + name), "1") << file;
        m.run("write a " + name + " 0x0");
        EXPECT_EQ(m.says("read a " + name), "0") << file;
        EXPECT_EQ(m.says("write a " + name + " -1"), "EINVAL") << file;
        EXPECT_EQ(m.says("write a " + name + " on"), "EINVAL") << file;
        EXPECT_EQ(m.says("write a " + name), "EINVAL") << file;
        EXPECT_EQ(m.says("write a " + name + " 99999999999999999999"), "ERANGE") << file;
    }
    EXPECT_EQ(m.says("read a cpuset.sched_relax_domain_level"), "-1");
    m.run("write a cpuset.sched_relax_domain_level 1");
    EXPECT_EQ(m.says("read a cpuset.sched_relax_domain_level"), "1");
    EXPECT_EQ(m.says("write a cpuset.sched_relax_domain_level -2"), "EINVAL");
    EXPECT_EQ(m.says("write a cpuset.sched_relax_domain_level 99"), "EINVAL");
    EXPECT_EQ(m.says("write a cpuset.sched_relax_domain_level -99999999999999999999"), "ERANGE");
}

TEST(v1, children_are_clones_where_that_is_asked_for_and_no_sibling_is_exclusive) {
    script m = v1();
    m.run("mkdir a\nwrite a cpuset.cpus 0-3\nwrite a cpuset.mems 0\nwrite a cgroup.clone_children 1\nwrite a cpuset.memory_spread_page 1\nmkdir a/b");
    EXPECT_EQ(m.says("read a/b cpuset.cpus"), "0-3");
    EXPECT_EQ(m.says("read a/b cpuset.mems"), "0");
    EXPECT_EQ(m.says("read a/b cpuset.memory_spread_page"), "1");
    m.run("write a cpuset.cpu_exclusive 1\nwrite a/b cpuset.cpus 1\nwrite a/b cpuset.cpu_exclusive 1\nmkdir a/c");
    EXPECT_EQ(m.says("read a/c cpuset.cpus"), "");
}

TEST(v1, pressure_decays_with_a_half_life_of_ten_seconds) {
    script m = v1();
    m.run("mkdir a\nwrite a cpuset.cpus 0\nwrite a cpuset.mems 0\nattach a t\npressure t 100\nadvance 1");
    EXPECT_EQ(m.says("read a cpuset.memory_pressure"), "0") << "not enabled";
    m.run("write . cpuset.memory_pressure_enabled 1\npressure t 100\nadvance 1");
    EXPECT_EQ(m.says("read a cpuset.memory_pressure"), "6700");
    m.run("advance 10");
    EXPECT_NEAR(std::stoi(m.says("read a cpuset.memory_pressure")), 3350, 50);
    EXPECT_EQ(m.says("write a cpuset.memory_pressure 0"), "EINVAL");
    EXPECT_EQ(m.says("pressure nobody 1"), "ESRCH");
    for (int second = 0; second < 99; ++second) m.run("pressure t 1\nadvance 1");
    EXPECT_NEAR(std::stoi(m.says("read a cpuset.memory_pressure")), 990, 20) << "one event a second reads about 1000";
}

TEST(binding, moves_the_controller_between_hierarchies_and_resets_the_root) {
    script m;
    m.run("cpu 7 offline\nbind v1");
    EXPECT_EQ(m.says("read . cpuset.cpus"), "0-6");
    EXPECT_EQ(m.says("controller . +cpuset"), "ENOENT");
    m.run("mkdir a");
    EXPECT_EQ(m.says("bind v2"), "EBUSY");
    m.run("rmdir a\nbind v2");
    EXPECT_EQ(m.says("read . cpuset.cpus"), "ENOENT");
    m.run("mkdir a\nwrite a cpuset.cpus 7");
}

}  // namespace
}  // namespace cohort::cpuset
