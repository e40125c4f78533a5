// SPDX-License-Identifier: Apache-2.0
// Calling sequences of the kernel's other parts, over a machine of eight CPUs and two nodes.
#include <cohort/kapi/cpuset.h>

#include <gtest/gtest.h>

#include <thread>

#include <cohort/sys/os.hpp>

namespace {

using cohort::cpumask;
using cohort::nodemask;

struct kernel_cpuset : ::testing::Test {
    void SetUp() override { start({}); }
    void TearDown() override {
        set_current(nullptr);
        cohort::kapi::use_cpusets(nullptr);
    }
    static void start(cohort::cpuset::model_options o) {
        const auto machine = cohort::machine::load("synthetic:pack:2 [numa] core:2 pu:2", cohort::sys::real()).value();
        cohort::kapi::use_cpusets(cohort::cpuset::shared_model::create(cohort::cpuset::model(machine, o)).value());
    }
    static void perform(std::initializer_list<const char*> lines) {
        for (const char* line : lines) ASSERT_TRUE(cohort::kapi::cpusets().perform(*cohort::cpuset::parse_operation(line)).ok()) << line;
    }
    struct task_struct web = {"web"}, db = {"db"}, stranger = {"stranger"};
};

TEST_F(kernel_cpuset, allows_a_task_what_its_set_has) {
    EXPECT_FALSE(cpusets_enabled());
    perform({"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.mems 1", "attach a web"});
    EXPECT_TRUE(cpusets_enabled());
    cpumask_var_t mask;
    ASSERT_TRUE(alloc_cpumask_var(&mask, GFP_KERNEL));
    cpuset_cpus_allowed(&web, mask);
    EXPECT_EQ(mask->list(), "2-3");
    cpuset_cpus_allowed(&stranger, mask);
    EXPECT_EQ(mask->list(), "0-7");
    free_cpumask_var(mask);
    EXPECT_EQ(cpuset_mems_allowed(&web).list(), "1");
    set_current(&web);
    EXPECT_EQ(cpuset_current_mems_allowed.list(), "1");
    const nodemask_t zero{0}, both{0, 1};
    EXPECT_FALSE(cpuset_nodemask_valid_mems_allowed(&zero));
    EXPECT_TRUE(cpuset_nodemask_valid_mems_allowed(&both));
}

TEST_F(kernel_cpuset, isolated_cpus_are_those_of_isolated_partitions) {
    perform({"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.cpus.partition isolated"});
    EXPECT_TRUE(cpuset_cpu_is_isolated(3));
    EXPECT_FALSE(cpuset_cpu_is_isolated(4));
    perform({"write a cpuset.cpus.partition root"});
    EXPECT_FALSE(cpuset_cpu_is_isolated(3));
}

TEST_F(kernel_cpuset, kernel_memory_goes_up_to_the_nearest_wall_and_user_memory_stays_in) {
    start({.v1 = true});
    perform({"mkdir out", "write out cpuset.cpus 0-7", "write out cpuset.mems 0-1", "mkdir out/in", "write out/in cpuset.cpus 0-7", "write out/in cpuset.mems 1", "attach out/in web"});
    set_current(&web);
    EXPECT_TRUE(cpuset_node_allowed(1, GFP_USER));
    EXPECT_FALSE(cpuset_node_allowed(0, GFP_USER));
    EXPECT_TRUE(cpuset_node_allowed(0, GFP_KERNEL)) << "the root is the wall";
    perform({"write out/in cpuset.mem_hardwall 1"});
    EXPECT_FALSE(cpuset_node_allowed(0, GFP_KERNEL));
    perform({"write out/in cpuset.mem_hardwall 0", "write out cpuset.mem_exclusive 1"});
    EXPECT_TRUE(cpuset_node_allowed(0, GFP_KERNEL)) << "the wall is out's, which has both nodes";
    set_current(nullptr);
    EXPECT_TRUE(cpuset_node_allowed(0, GFP_USER)) << "nobody's allocation goes anywhere";
}

TEST_F(kernel_cpuset, an_oom_victim_is_looked_for_among_those_with_common_nodes) {
    perform({"mkdir a", "write a cpuset.mems 0", "attach a web", "mkdir b", "write b cpuset.mems 1", "attach b db"});
    EXPECT_FALSE(cpuset_mems_allowed_intersects(&web, &db));
    EXPECT_TRUE(cpuset_mems_allowed_intersects(&web, &stranger));
    perform({"write b cpuset.mems 0-1"});
    EXPECT_TRUE(cpuset_mems_allowed_intersects(&web, &db));
}

TEST_F(kernel_cpuset, a_look_at_nodes_that_change_is_repeated) {
    perform({"mkdir a", "write a cpuset.mems 0", "attach a web"});
    set_current(&web);
    unsigned int seq = read_mems_allowed_begin();
    EXPECT_FALSE(read_mems_allowed_retry(seq));
    perform({"write a cpuset.cpus 0-1"});
    EXPECT_FALSE(read_mems_allowed_retry(seq)) << "CPUs are no nodes";
    perform({"write a cpuset.mems 1"});
    EXPECT_TRUE(read_mems_allowed_retry(seq));
    seq = read_mems_allowed_begin();
    EXPECT_FALSE(read_mems_allowed_retry(seq));
    EXPECT_FALSE(current_cpuset_is_being_rebound());
}

TEST_F(kernel_cpuset, under_the_lock_nothing_changes_and_all_may_be_asked) {
    perform({"mkdir a", "write a cpuset.cpus 2-3", "attach a web"});
    for (const bool alone : {true, false}) {
        alone ? cpuset_lock() : cpuset_read_lock();
        std::thread writer([] { perform({"write a cpuset.cpus 2-4", "write a cpuset.cpus 2-3"}); });
        for (int i = 0; i < 100; ++i) {
            cpumask now;
            cpuset_cpus_allowed(&web, &now);
            EXPECT_EQ(now.list(), "2-3");
            std::this_thread::yield();
        }
        alone ? cpuset_unlock() : cpuset_read_unlock();
        writer.join();
    }
}

TEST_F(kernel_cpuset, pressure_is_counted_for_the_set_and_domains_are_made_when_told) {
    start({.v1 = true});
    perform({"write . cpuset.memory_pressure_enabled 1", "mkdir a", "write a cpuset.cpus 0-7", "write a cpuset.mems 0-1", "attach a web"});
    set_current(&web);
    for (int i = 0; i < 10; ++i) cpuset_memory_pressure_bump();
    perform({"advance 1"});
    EXPECT_EQ(cohort::kapi::cpusets().perform(*cohort::cpuset::parse_operation("read a cpuset.memory_pressure")).value, "670");
    rebuild_sched_domains();
    EXPECT_EQ(cohort::kapi::cpusets().perform(*cohort::cpuset::parse_operation("domains")).list, std::vector<std::string>{"0-7"});
}

TEST_F(kernel_cpuset, without_another_the_machine_is_this_one) {
    cohort::kapi::use_cpusets(nullptr);
    cpumask all;
    cpuset_cpus_allowed(&stranger, &all);
    EXPECT_TRUE(cohort::sys::real().sched_getaffinity(0)->intersects(all));
}

}  // namespace
