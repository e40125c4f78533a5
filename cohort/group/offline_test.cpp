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

std::vector<std::string> offline_of(const std::string& cohorts, bool with_sets) {
    const auto read = read_spec("s.toml", cohorts, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    machine_view m = view_machine("synthetic:core:4 pu:2", sys::real()).value();
    if (with_sets) m.cpusets = view_cpusets("synthetic:core:4 pu:2", "", sys::real()).value();
    const plan p = make_plan(read.value, m, "/w");
    EXPECT_TRUE(p.holds());
    EXPECT_THAT(plan_text(p), HasSubstr(p.cohorts[0].if_offline.empty() ? "cohort" : "offline   with "));
    return p.cohorts[0].if_offline;
}

TEST(plan_offline, a_partition_that_loses_all_its_cpus_becomes_invalid_and_says_why) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"rt\"\ncpus = \"2-3\"\npartition = \"root\"\ncpuset = \"require\"\n", true),
                ElementsAre("with one of CPUs 2-3 offline its jobs run on CPU 3; its partition stays root",
                            HasSubstr("with all of CPUs 2-3 offline its jobs run on CPUs 0-1,4-7, which are others'; its partition becomes \"root invalid\"")));
}

TEST(plan_offline, a_member_set_takes_its_parents_cpus) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2\"\ncpuset = \"require\"\n", true), ElementsAre(HasSubstr("with CPU 2 offline its jobs run on CPUs 0-1,3-7, which are others'")));
}

TEST(plan_offline, an_affinity_without_cpus_is_dropped_and_a_cookie_with_it) {
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2-3\"\n", false), ElementsAre("with one of CPUs 2-3 offline its jobs run on the others", HasSubstr("the kernel drops an affinity")));
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\ncpus = \"2-3\"\ncookie = \"w\"\n[[cohort]]\nname = \"db\"\ncpus = \"4-5\"\n", false), testing::Contains(HasSubstr("its cookie is not kept then")));
    EXPECT_THAT(offline_of("[[cohort]]\nname = \"web\"\n", false), IsEmpty()) << "all CPUs: nothing runs at all";
}

}  // namespace
}  // namespace cohort::group
