// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/what_if.hpp>

#include <gmock/gmock.h>

#include <cohort/cpuset/testing/random_ops.hpp>
#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::eight_cpus;
using testing::script;

what_if after(script& m, const std::vector<std::string>& lines) {
    std::vector<operation> ops;
    for (const std::string& l : lines) ops.push_back(*parse_operation(l));
    const std::string before = testing::dump(m.subject());
    what_if w = try_out(m.subject(), ops, eight_cpus());
    EXPECT_EQ(testing::dump(m.subject()), before) << "the model itself is left as it is";
    return w;
}

std::vector<std::string> lines_of(const std::vector<change>& changes) {
    std::vector<std::string> out;
    for (const change& c : changes) out.push_back(c.line());
    return out;
}

TEST(what_if, shows_every_file_and_task_that_changes) {
    script m;
    m.run("mkdir a; mkdir b; write a cpuset.cpus 2-5; write b cpuset.cpus 0-3; attach a t; attach b u");
    const what_if w = after(m, {"write b cpuset.cpus 0-1", "write a cpuset.cpus.partition root"});
    EXPECT_TRUE(w.ok());
    EXPECT_THAT(lines_of(w.changes), ::testing::ElementsAre(".: cpuset.cpus.effective: \"0-7\" -> \"0-1,6-7\"", "a: cpuset.cpus.exclusive.effective: \"\" -> \"2-5\"",
                                                            "a: cpuset.cpus.partition: \"member\" -> \"root\"", "b: cpuset.cpus: \"0-3\" -> \"0-1\"", "b: cpuset.cpus.effective: \"0-3\" -> \"0-1\"",
                                                            "b: task u cpus: \"0-3\" -> \"0-1\"", "sched domains: \"0-7\" -> \"0-1,6-7 2-5\""));
}

TEST(what_if, ends_at_a_refusal_and_says_why) {
    script m;
    m.run("mkdir a");
    const what_if w = after(m, {"write a cpuset.cpus 1", "rmdir nowhere", "write a cpuset.cpus 2"});
    ASSERT_TRUE(w.refused);
    EXPECT_FALSE(w.ok());
    EXPECT_EQ(w.refused->number, 1u);
    EXPECT_EQ(w.refused->code, ENOENT);
    EXPECT_THAT(w.refused->why, HasSubstr("nowhere"));
    EXPECT_THAT(lines_of(w.changes), Contains("a: cpuset.cpus: \"\" -> \"1\""));
}

TEST(what_if, stops_before_a_crash) {
    script m({.boot_isolated = {2, 3}});
    m.run("mkdir a; write a cpuset.cpus 0-1,4-7");
    const what_if w = after(m, {"write a cpuset.cpus.partition root", "write a cpuset.cpus 0"});
    EXPECT_FALSE(w.ok());
    EXPECT_THAT(w.hazard, HasSubstr("crashes the kernel"));
    EXPECT_EQ(w.answers.size(), 1u);
}

TEST(what_if, names_partitions_that_become_invalid) {
    script m;
    m.run("mkdir a; mkdir b; write a cpuset.cpus 2-3; write a cpuset.cpus.partition root");
    const what_if w = after(m, {"write b cpuset.cpus 3-4"});
    EXPECT_FALSE(w.refused);
    EXPECT_FALSE(w.ok());
    ASSERT_EQ(w.invalidated.size(), 1u);
    EXPECT_THAT(w.invalidated[0].line(), HasSubstr("a: cpuset.cpus.partition: \"root\" -> \"root invalid"));
}

TEST(what_if, shows_sets_and_tasks_that_come_and_go) {
    script m;
    m.run("mkdir a; mkdir b; attach . t");
    const what_if w = after(m, {"rmdir b", "mkdir c", "attach c t", "fork t u", "controller a +cpuset"});
    const auto all = lines_of(w.changes);
    EXPECT_THAT(all, Contains("b: set: \"there\" -> none"));
    EXPECT_THAT(all, Contains("c: set: none -> \"there\""));
    EXPECT_THAT(all, Contains("c: task t set: \".\" -> \"c\""));
    EXPECT_THAT(all, Contains("c: task u set: none -> \"c\""));
    EXPECT_THAT(all, Contains("a: cgroup.subtree_control: \"\" -> \"cpuset\""));
    EXPECT_THAT(lines_of(after(m, {"exit t"}).changes), Contains(".: task t set: \".\" -> none"));
    EXPECT_THAT(lines_of(after(m, {"controller . -cpuset"}).changes), Contains("a: cpuset.cpus: \"\" -> none"));
    EXPECT_THAT(after(m, {"read a cpuset.cpus"}).changes, IsEmpty());
}

}  // namespace
}  // namespace cohort::cpuset
