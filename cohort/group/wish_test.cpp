// SPDX-License-Identifier: Apache-2.0
// Cohorts that say how many CPUs they want: read, and planned on machines that are not there.
#include <cohort/group/plan.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

spec_reading read(const std::string& text) {
    return read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
}
std::vector<std::string> faults_of(const std::string& text) {
    std::vector<std::string> out;
    for (const fault& f : read(text).faults) out.push_back(f.line());
    return out;
}
std::string cohort_of(const std::string& name, const std::string& cpus, const std::string& more = {}) { return "[[cohort]]\nname = \"" + name + "\"\ncpus = " + cpus + "\n" + more; }

plan plan_of(const std::string& text, const std::string& machine) {
    const auto s = read(text);
    EXPECT_TRUE(s.faults.empty()) << s.faults.front().line();
    return make_plan(s.value, view_machine("synthetic:" + machine, sys::real()).value(), "/w");
}
std::vector<std::string> cpus_of(const plan& p) {
    std::vector<std::string> out;
    for (const cohort_plan& c : p.cohorts) out.push_back(c.cpus.list());
    return out;
}

TEST(wish_spec, reads_every_key) {
    const auto s = read(cohort_of("web", "\"0\"") + cohort_of("db", "{ count = 4, whole_cores = true, same_node = true, apart_from = \"web\" }") + cohort_of("log", "{ count = 1, apart_from = [\"web\", \"db\"] }"));
    ASSERT_TRUE(s.faults.empty()) << s.faults.front().line();
    const cpu_wish& w = s.value.cohorts[1].cpus;
    EXPECT_EQ(w.kind, cpu_wish::form::count);
    EXPECT_EQ(w.count, 4);
    EXPECT_TRUE(w.whole_cores && w.same_node);
    EXPECT_THAT(w.apart_from, ElementsAre("web"));
    EXPECT_THAT(s.value.cohorts[2].cpus.apart_from, ElementsAre("web", "db"));
    EXPECT_FALSE(s.value.cohorts[2].cpus.whole_cores || s.value.cohorts[2].cpus.same_node);
}

TEST(wish_spec, says_every_fault_with_its_place_and_the_nearest_word) {
    EXPECT_THAT(faults_of(cohort_of("web", "{ count = 0 }")), ElementsAre(HasSubstr("s.toml:3:18: cohort \"web\": key \"count\"")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ count = 2, whole_core = true }")), ElementsAre(HasSubstr("did you mean \"whole_cores\"")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ count = 2, part = \"1/2\" }")), ElementsAre(HasSubstr("\"part\" and \"count\" exclude each other")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ part = \"1/2\", same_node = true }")), ElementsAre(HasSubstr("goes with \"count\"")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ whole_cores = true }")), testing::Contains(HasSubstr("or \"count\"")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ count = 1, apart_from = \"wbe\" }") + cohort_of("wba", "\"0\"")), ElementsAre(HasSubstr("cohort \"wbe\" does not exist; did you mean \"web\"")));
    EXPECT_THAT(faults_of(cohort_of("web", "{ count = 1, apart_from = \"web\" }")), ElementsAre(HasSubstr("cannot be apart from itself")));
}

TEST(wish_plan, stands_beside_cohorts_that_named_their_cpus) {
    const plan p = plan_of(cohort_of("web", "\"0-2\"") + cohort_of("db", "{ count = 2 }") + cohort_of("rest", "{ count = 3 }"), "core:4 pu:2");
    EXPECT_TRUE(p.holds()) << p.refusals.front().line();
    EXPECT_THAT(cpus_of(p), ElementsAre("0-2", "6-7", "3-5"));
    EXPECT_EQ(p.cohorts[1].asked_text, "2 CPUs");
}

TEST(wish_plan, unequal_cookies_and_apart_from_share_no_core) {
    EXPECT_THAT(cpus_of(plan_of(cohort_of("web", "\"0\"", "cookie = \"w\"\n") + cohort_of("db", "{ count = 1 }", "cookie = \"d\"\n"), "core:2 pu:2")), ElementsAre("0", "2"));
    EXPECT_THAT(cpus_of(plan_of(cohort_of("web", "\"0\"", "cookie = \"w\"\n") + cohort_of("db", "{ count = 1 }", "cookie = \"w\"\n"), "core:2 pu:2")), ElementsAre("0", "1"));
    EXPECT_THAT(cpus_of(plan_of(cohort_of("web", "\"0\"") + cohort_of("db", "{ count = 1, apart_from = \"web\" }"), "core:2 pu:2")), ElementsAre("0", "2"));
}

TEST(wish_plan, stays_on_one_node_and_beside_its_memory) {
    const std::string two_nodes = "pack:2 numa:1 core:2 pu:2";
    EXPECT_THAT(cpus_of(plan_of(cohort_of("web", "{ count = 3, same_node = true }") + cohort_of("db", "{ count = 3, same_node = true }"), two_nodes)), ElementsAre("0-2", "4-6"));
    EXPECT_THAT(cpus_of(plan_of(cohort_of("web", "{ count = 2 }", "mems = \"1\"\n"), two_nodes)), ElementsAre("4-5"));
}

TEST(wish_plan, without_room_refuses_and_says_who_and_why) {
    const plan p = plan_of(cohort_of("web", "{ count = 5, whole_cores = true, same_node = true }") + cohort_of("db", "{ count = 2 }"), "pack:2 numa:1 core:2 pu:2");
    ASSERT_EQ(p.refusals.size(), 1u);
    EXPECT_EQ(p.refusals[0].line(), "s.toml:3:8: cohort \"web\": cpus 5 CPUs, whole cores, on one node: there is no room for it beside the others: 8 usable CPUs");
    EXPECT_EQ(p.cohorts[1].cpus.weight(), 2) << "the others are planned";
}

TEST(wish_plan, text_and_json_show_what_was_wished_and_given) {
    const plan p = plan_of(cohort_of("web", "{ count = 3, whole_cores = true }"), "core:4 pu:2");
    EXPECT_THAT(plan_text(p), HasSubstr("3 CPUs, whole cores"));
    EXPECT_THAT(plan_json(p), HasSubstr("0-3"));
}

}  // namespace
}  // namespace cohort::group
