// SPDX-License-Identifier: Apache-2.0
// What a plan says of CPUs that go offline, held against the model of the kernel.
#include <cohort/group/plan.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> offline_of(const std::string& cohorts, bool with_sets, std::size_t which = 0) {
    const auto read = read_spec("s.toml", cohorts, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    machine_view m = view_machine("synthetic:core:4 pu:2", sys::real()).value();
    if (with_sets) m.cpusets = view_cpusets("synthetic:core:4 pu:2", "", sys::real()).value();
    const plan p = make_plan(read.value, m, "/w");
    EXPECT_TRUE(p.holds());
    EXPECT_THAT(plan_text(p), HasSubstr(p.cohorts[0].if_offline.empty() ? "cohort" : "offline   with "));
    return p.cohorts.at(which).if_offline;
}

TEST(plan_offline, a_partition_that_loses_all_its_cpus_becomes_invalid_and_says_why) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"rt\"\ncpus = \"2-3\"\npartition = \"root\"\ncpuset = \"require\"\n", true),
                ElementsAre("with one of CPUs 2-3 offline its jobs run on CPU 3; its partition stays root",
                            HasSubstr("with all of CPUs 2-3 offline its jobs run on CPUs 0-1,4-7, which are others'; its partition becomes \"root invalid\"")));
}

TEST(plan_offline, a_member_set_takes_its_parents_cpus) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2\"\ncpuset = \"require\"\n", true), ElementsAre(HasSubstr("with CPU 2 offline its jobs run on CPUs 0-1,3-7, which are others'")));
}

TEST(plan_offline, members_with_the_same_cpus_come_to_the_same_and_nobody_else_does) {
    const auto cohort = [](const std::string& name, const std::string& cpus, const std::string& more = "") { return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\ncpuset = \"require\"\n" + more; };
    const std::string spec = cohort("a", "2-3") + cohort("b", "2-3") + cohort("c", "1-2") + cohort("out", "4-7", "partition = \"root\"\n") + cohort("in", "4-5", "inside = \"out\"\n") + cohort("part", "6-7", "inside = \"out\"\npartition = \"root\"\n");
    const auto alone = [&](std::size_t which) { return offline_of(spec, true, which); };
    EXPECT_THAT(alone(0), ElementsAre("with one of CPUs 2-3 offline its jobs run on CPU 3", HasSubstr("its jobs run on CPUs 0-1, which are others'")));
    EXPECT_EQ(alone(1), alone(0));
    EXPECT_THAT(alone(2), ElementsAre("with one of CPUs 1-2 offline its jobs run on CPU 2", HasSubstr("its jobs run on CPUs 0,3, which are others'")));
    EXPECT_THAT(alone(4), ElementsAre("with one of CPUs 4-5 offline its jobs run on CPU 5", HasSubstr("all of CPUs 4-5 offline")));
    EXPECT_THAT(alone(5), testing::Contains(HasSubstr("its partition becomes \"root invalid\"")));
}

TEST(plan_offline, an_affinity_without_cpus_is_dropped_and_a_cookie_with_it) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2-3\"\n", false), ElementsAre("with one of CPUs 2-3 offline its jobs run on the others", HasSubstr("the kernel drops an affinity")));
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2-3\"\ncookie = \"w\"\n[[cohort]]\nname = \"db\"\ncpus = \"4-5\"\n", false), testing::Contains(HasSubstr("its cookie is not kept then")));
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\n", false), IsEmpty()) << "all CPUs: nothing runs at all";
}

}  // namespace
}  // namespace cohort::group
