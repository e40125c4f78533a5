// SPDX-License-Identifier: Apache-2.0
// Version 1.
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using testing::script;

script v1() { return script({.v1 = true}); }

TEST(v1, a_new_set_is_empty_and_takes_no_task_before_it_has_cpus_and_nodes) {
    script m = v1();
    m.run(R"(
        mkdir a
        read a cpuset.cpus -> ""
        attach a t -> ENOSPC
        write a cpuset.cpus 0-3
        attach a t -> ENOSPC
        write a cpuset.mems 1; attach a t
        task t -> 0-3
        mems t -> 1
    )");
}

TEST(v1, a_child_stays_within_its_parent_and_a_parent_around_its_children) {
    script m = v1();
    m.run(R"(
        mkdir a; mkdir a/b
        write a/b cpuset.cpus 1 -> EACCES
        write a cpuset.cpus 0-3; write a/b cpuset.cpus 1-2
        write a cpuset.cpus 0-1 -> EBUSY
        write a/b cpuset.cpus 3-4 -> EACCES
        write . cpuset.cpus 0 -> EACCES
        cpu 7 offline
        write a cpuset.cpus 0-3,7 -> EINVAL  # offline
        read a/b cpuset.effective_cpus -> 1-2
    )");
}

TEST(v1, exclusive_sets_share_nothing_with_siblings) {
    script m = v1();
    m.run(R"(
        mkdir a; mkdir b; write a cpuset.cpus 0-3; write b cpuset.cpus 3-4
        write a cpuset.cpu_exclusive 1 -> EINVAL
        write b cpuset.cpus 4; write a cpuset.cpu_exclusive 1
        write b cpuset.cpus 3 -> EINVAL
        write a cpuset.mems 0; write b cpuset.mems 0
        write b cpuset.mem_exclusive 1 -> EINVAL
        mkdir b/c
        write b/c cpuset.cpu_exclusive 1 -> EACCES  # its parent is not
        write . cpuset.cpu_exclusive 0 -> EBUSY
    )");
}

TEST(v1, a_populated_set_keeps_cpus_and_nodes) {
    script m = v1();
    m.run(R"(
        mkdir a; write a cpuset.cpus 1; write a cpuset.mems 0; attach a t
        write a cpuset.cpus -> ENOSPC
        write a cpuset.mems -> ENOSPC
        exit t; write a cpuset.cpus
    )");
}

TEST(v1, a_cpu_that_goes_offline_is_gone_for_good_and_tasks_of_an_empty_set_move_up) {
    script m = v1();
    m.run(R"(
        mkdir a; mkdir a/b; write a cpuset.cpus 2-3; write a cpuset.mems 0; write a/b cpuset.cpus 3; write a/b cpuset.mems 0; attach a/b t; cpu 3 offline
        read a cpuset.cpus -> 2
        read a/b cpuset.cpus -> ""
        path t -> a
        task t -> 2
        cpu 3 online
        read a cpuset.cpus -> 2
        read . cpuset.cpus -> 0-7
    )");
}

TEST(v1, a_node_that_goes_offline_is_gone_for_good) {
    script m = v1();
    m.run(R"(
        mkdir a; write a cpuset.cpus 1; write a cpuset.mems 0-1; attach a t; node 1 offline
        read a cpuset.mems -> 0
        node 1 online
        read a cpuset.mems -> 0
        read . cpuset.mems -> 0-1
    )");
}

TEST(v1, domains_are_those_of_the_balanced_sets) {
    script m = v1();
    m.run(R"(
        domains -> 0-7
        mkdir a; mkdir b; mkdir c; write a cpuset.cpus 0-2; write b cpuset.cpus 2-3; write c cpuset.cpus 5
        domains -> 0-7  # the root is balanced
        write . cpuset.sched_load_balance 0
        domains -> 0-3 5  # overlapping ones are one
        write b cpuset.sched_load_balance 0
        domains -> 0-2 5
    )");
}

TEST(v1, switches_are_numbers_and_the_relax_level_has_bounds) {
    script m = v1();
    m.run("mkdir a");
    for (const char* file : {"cpuset.memory_migrate", "cpuset.mem_hardwall", "cpuset.memory_spread_page", "cpuset.memory_spread_slab", "cpuset.sched_load_balance",
                             "cgroup.clone_children"}) {
        const std::string write = std::string("write a ") + file, read = std::string("read a ") + file;
        m.run(write + " 7;" + read + " -> 1");
        m.run(write + " 0x0;" + read + " -> 0");
        m.run(write + " -1 -> EINVAL;" + write + " on -> EINVAL;" + write + " -> EINVAL;" + write + " 99999999999999999999 -> ERANGE");
    }
    m.run(R"(
        read a cpuset.sched_relax_domain_level -> -1
        write a cpuset.sched_relax_domain_level 1
        read a cpuset.sched_relax_domain_level -> 1
        write a cpuset.sched_relax_domain_level -2 -> EINVAL
        write a cpuset.sched_relax_domain_level 99 -> EINVAL
        write a cpuset.sched_relax_domain_level -99999999999999999999 -> ERANGE
    )");
}

TEST(v1, children_are_clones_where_that_is_asked_for_and_no_sibling_is_exclusive) {
    script m = v1();
    m.run(R"(
        mkdir a; write a cpuset.cpus 0-3; write a cpuset.mems 0; write a cgroup.clone_children 1; write a cpuset.memory_spread_page 1; mkdir a/b
        read a/b cpuset.cpus -> 0-3
        read a/b cpuset.mems -> 0
        read a/b cpuset.memory_spread_page -> 1
        write a cpuset.cpu_exclusive 1; write a/b cpuset.cpus 1; write a/b cpuset.cpu_exclusive 1; mkdir a/c
        read a/c cpuset.cpus -> ""
    )");
}

TEST(v1, pressure_decays_with_a_half_life_of_ten_seconds) {
    script m = v1();
    m.run(R"(
        mkdir a; write a cpuset.cpus 0; write a cpuset.mems 0; attach a t; pressure t 100; advance 1
        read a cpuset.memory_pressure -> 0  # not enabled
        write . cpuset.memory_pressure_enabled 1; pressure t 100; advance 1
        read a cpuset.memory_pressure -> 6700
        advance 10
    )");
    EXPECT_NEAR(std::stoi(m.says("read a cpuset.memory_pressure")), 3350, 50);
    m.run(R"(
        write a cpuset.memory_pressure 0 -> EINVAL
        pressure nobody 1 -> ESRCH
    )");
    for (int second = 0; second < 99; ++second) m.run("pressure t 1\nadvance 1");
    EXPECT_NEAR(std::stoi(m.says("read a cpuset.memory_pressure")), 990, 20) << "one event a second reads about 1000";
}

TEST(binding, moves_the_controller_between_hierarchies_and_resets_the_root) {
    script m;
    m.run(R"(
        cpu 7 offline; bind v1
        read . cpuset.cpus -> 0-6
        controller . +cpuset -> ENOENT
        mkdir a
        bind v2 -> EBUSY
        rmdir a; bind v2
        read . cpuset.cpus -> ENOENT
        mkdir a; write a cpuset.cpus 7
    )");
}

}  // namespace
}  // namespace cohort::cpuset
