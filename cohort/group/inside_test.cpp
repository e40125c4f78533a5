// SPDX-License-Identifier: Apache-2.0
// Cohorts inside of cohorts: read, and planned on machines that are not there.
#include <cohort/group/plan.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

spec_reading read(const std::string& text) {
    return read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
}
std::vector<std::string> faults_of(const std::string& text) {
    std::vector<std::string> out;
    for (const fault& f : read(text).faults) out.push_back(f.line());
    return out;
}
std::string cohort_of(const std::string& name, const std::string& more) { return "[[cohort]]\nname = \"" + name + "\"\n" + more + "\n"; }
std::string in(const std::string& outer, const std::string& more = {}) { return "inside = \"" + outer + "\"\n" + more; }
std::string job_of(const std::string& cohort) { return "[[job]]\nname = \"of-" + cohort + "\"\ncohort = \"" + cohort + "\"\nkind = \"exec\"\ncommand = [\"true\"]\n"; }

plan plan_of(const std::string& text, const std::string& machine = "pack:2 numa:1 core:2 pu:2") {
    const auto s = read(text);
    EXPECT_TRUE(s.faults.empty()) << s.faults.front().line();
    machine_view m = view_machine("synthetic:" + machine, sys::real()).value();
    if (s.value.wants_cpusets()) m.cpusets = view_cpusets("synthetic:" + machine, s.value.cpusets_under, sys::real()).value();
    return make_plan(s.value, m, "/w");
}
std::vector<std::string> cpus_of(const plan& p) {
    std::vector<std::string> out;
    for (const cohort_plan& c : p.cohorts) out.push_back(c.cpus.list());
    return out;
}
std::vector<std::string> sets_of(const plan& p) {
    std::vector<std::string> out;
    for (const step& s : p.steps) {
        if (s.kind == step::form::change_cpuset && s.change.what == cpuset::verb::mkdir) out.push_back(s.change.path);
    }
    return out;
}

TEST(inside_spec, says_who_cannot_be_inside_of_whom) {
    EXPECT_THAT(faults_of(cohort_of("web", "") + cohort_of("db", in("wbe"))), ElementsAre("s.toml:6:10: cohort \"db\": cohort \"wbe\" does not exist; did you mean \"web\"?"));
    EXPECT_THAT(faults_of(cohort_of("web", in("web"))), ElementsAre("s.toml:3:10: cohort \"web\": it cannot be inside of itself"));
    EXPECT_THAT(faults_of(cohort_of("web", "") + cohort_of("db", in(""))), ElementsAre(HasSubstr("s.toml:6:10: cohort \"db\": cohort \"\" does not exist")));
    EXPECT_THAT(faults_of(cohort_of("a", in("b")) + cohort_of("b", in("c")) + cohort_of("c", in("a")) + cohort_of("d", in("a"))),
                ElementsAre("s.toml:11:10: cohort \"c\": a cycle in inside: \"a\" is inside of \"b\" is inside of \"c\" is inside of \"a\""));
    EXPECT_THAT(faults_of(cohort_of("a", "mems = \"0\"\nmemory = \"1M\"\n") + cohort_of("b", in("a", "mems = \"0-1\"\nmemory = \"2M\"\n"))),
                ElementsAre("s.toml:9:8: cohort \"b\": mems \"0-1\": cohort \"a\", which it is inside of, has nodes 0",
                            "s.toml:10:10: cohort \"b\": the limit is larger than that of cohort \"a\", which it is inside of"));
    EXPECT_THAT(faults_of(cohort_of("a", "") + cohort_of("b", in("a", "cpus = { count = 1, apart_from = \"c\" }")) + cohort_of("c", "")),
                ElementsAre("s.toml:7:34: cohort \"b\": it does not stand beside cohort \"c\": that one is inside of none"));
    EXPECT_THAT(faults_of(cohort_of("a", "") + cohort_of("b", in("a")) + cohort_of("c", "cpus = { count = 1, apart_from = \"b\" }")),
                ElementsAre(HasSubstr("it does not stand beside cohort \"b\": that one is inside of \"a\"")));
}

TEST(inside_spec, has_the_policies_of_the_outer_one_or_of_the_spec_where_it_says_nothing) {
    const auto s = read("[policy]\ncpuset = \"require\"\ncoresched = \"emulate\"\n" + cohort_of("in", in("out")) + cohort_of("out", "cpuset = \"emulate\"\ncookie = \"x\"\ncoresched = \"require\"") + cohort_of("other", "cookie = \"y\"") +
                        cohort_of("own", in("out", "cpuset = \"prefer\"\ncoresched = \"prefer\"")));
    ASSERT_THAT(s.faults, IsEmpty());
    std::vector<cpuset_policy> sets;
    std::vector<cookie_policy> cookies;
    for (const cohort_spec& c : s.value.cohorts) sets.push_back(c.cpuset), cookies.push_back(c.coresched);
    EXPECT_THAT(sets, ElementsAre(cpuset_policy::emulate, cpuset_policy::emulate, cpuset_policy::require, cpuset_policy::prefer));
    EXPECT_THAT(cookies, ElementsAre(cookie_policy::require, cookie_policy::require, cookie_policy::emulate, cookie_policy::prefer));
    EXPECT_EQ(s.value.cohorts[0].cookie, "x") << "it is in the tenant";
    EXPECT_EQ(read(cohort_of("a", "mems = \"0\"")).value.cohorts[0].cpuset, cpuset_policy::prefer) << "nothing said, and nodes wanted";
    EXPECT_THAT(faults_of("[policy]\ncpuset = \"prefered\"\nsharepol = 1\n" + cohort_of("a", "")),
                ElementsAre("s.toml:2:10: policy: cpuset \"prefered\" is none of require, prefer, emulate; did you mean \"prefer\"?", HasSubstr("s.toml:3:1: policy: key \"sharepol\" is unknown")));
}

TEST(inside_plan, takes_its_cpus_from_the_outer_one_in_every_form) {
    const std::string outer = cohort_of("out", "cpus = \"2-5\"");
    EXPECT_THAT(cpus_of(plan_of(outer + cohort_of("in", in("out")))), ElementsAre("2-5", "2-5"));
    EXPECT_THAT(cpus_of(plan_of(outer + cohort_of("in", in("out", "cpus = \"3-4\"")))), ElementsAre("2-5", "3-4"));
    EXPECT_THAT(cpus_of(plan_of(outer + cohort_of("a", in("out", "cpus = { part = \"1/2\" }")) + cohort_of("b", in("out", "cpus = { part = \"2/2\" }")))), ElementsAre("2-5", "2-3", "4-5"));
    // The inner one stands before the outer one, which itself is placed.
    EXPECT_THAT(cpus_of(plan_of(cohort_of("deep", in("in", "cpus = { count = 1 }")) + cohort_of("in", in("out", "cpus = { count = 2, whole_cores = true }")) + cohort_of("out", "cpus = { count = 4, same_node = true }") +
                                cohort_of("rest", "cpus = { count = 4 }"))),
                ElementsAre("0", "0-1", "0-3", "4-7"));
}

TEST(inside_plan, refuses_what_the_outer_one_does_not_have) {
    const auto refusals = [](const std::string& text) {
        std::vector<std::string> out;
        for (const refusal& r : plan_of(text).refusals) out.push_back(r.line());
        return out;
    };
    const std::string outer = cohort_of("out", "cpus = \"2-5\"");
    EXPECT_THAT(refusals(outer + cohort_of("in", in("out", "cpus = \"5-6\""))),
                ElementsAre("s.toml:7:8: cohort \"in\": cpus \"5-6\": CPU 6 is not of cohort \"out\", which it is inside of and which has CPUs 2-5"));
    EXPECT_THAT(refusals(outer + cohort_of("in", in("out", "cpus = { count = 5 }"))),
                ElementsAre("s.toml:7:8: cohort \"in\": cpus 5 CPUs: there is no room for it beside the others: CPUs 2-5 of cohort \"out\""));
}

TEST(inside_plan, shares_with_strangers_only) {
    const plan p = plan_of(cohort_of("out", "cpus = \"0-3\"") + cohort_of("in", in("out", "cpus = \"3\"")) + cohort_of("other", "cpus = \"3\""));
    ASSERT_EQ(p.cohorts[0].shared.size(), 1u);
    EXPECT_EQ(p.cohorts[0].shared[0].reason, "other");
    ASSERT_EQ(p.cohorts[1].shared.size(), 1u);
    EXPECT_EQ(p.cohorts[1].shared[0].reason, "other");
    EXPECT_EQ(p.cohorts[2].shared.size(), 2u);
    EXPECT_THAT(plan_text(p), HasSubstr("cohort \"in\" inside of \"out\": CPU 3 (asked: \"3\" of \"out\")"));
    const auto json = nlohmann::json::parse(plan_json(p))["cohorts"];
    EXPECT_EQ(json[0]["inside"], nullptr);
    EXPECT_EQ(json[1]["inside"], "out");
}

TEST(inside_plan, has_its_set_below_the_outer_ones_and_processes_stand_in_leaves) {
    const std::string with_set = "cpuset = \"require\"\n";
    const std::string two = cohort_of("out", "cpus = \"2-5\"\n" + with_set) + cohort_of("in", in("out", "cpus = \"4-5\"")) + job_of("in");
    const plan p = plan_of(two);
    EXPECT_TRUE(p.holds()) << p.refusals.front().line();
    EXPECT_THAT(sets_of(p), ElementsAre("cohort-out", "cohort-out/cohort-in"));
    EXPECT_EQ(p.cohorts[1].keep.set, "cohort-out/cohort-in");
    const plan both = plan_of(two + job_of("out"));
    EXPECT_TRUE(both.holds()) << both.refusals.front().line();
    EXPECT_THAT(sets_of(both), testing::UnorderedElementsAre("cohort-out", "cohort-out/cohort-in", "cohort-out/jobs"));
    EXPECT_THAT(both.cohorts[0].keep.procs, testing::EndsWith("cohort-out/jobs/cgroup.procs"));
    EXPECT_THAT(both.cohorts[1].keep.procs, testing::EndsWith("cohort-out/cohort-in/cgroup.procs"));
    // The one between has none: the next above is taken.
    const plan apart = plan_of(cohort_of("out", "cpus = \"2-5\"\n" + with_set) + cohort_of("mid", in("out", "cpuset = \"emulate\"")) + cohort_of("in", in("mid", with_set)));
    EXPECT_EQ(apart.cohorts[2].keep.set, "cohort-out/cohort-in");
}

TEST(inside_plan, a_partition_inside_takes_its_cpus_from_the_outer_ones_jobs) {
    const std::string two = cohort_of("out", "cpus = \"2-5\"\npartition = \"root\"\ncpuset = \"require\"") + cohort_of("in", in("out", "cpus = \"4-5\"\npartition = \"root\"\n"));
    const plan p = plan_of(two + job_of("in") + job_of("out"));
    EXPECT_TRUE(p.holds()) << p.refusals.front().line();
    EXPECT_EQ(p.jobs[0].cpus.list(), "4-5");
    EXPECT_EQ(p.jobs[1].cpus.list(), "2-3");
    EXPECT_EQ(p.cohorts[0].cpus.list(), "2-5");
}

TEST(inside_plan, a_partition_inside_of_a_member_is_handed_its_cpus_by_all_above_it) {
    const auto changes = [](const plan& p) {
        std::vector<std::string> out;
        for (const step& s : p.steps) {
            if (s.kind == step::form::change_cpuset && s.change.file.starts_with("cpuset.cpus.")) out.push_back(cpuset::to_line(s.change));
        }
        return out;
    };
    const std::string outer = cohort_of("out", "cpus = \"4-7\"\ncpuset = \"require\"") + cohort_of("mid", in("out", "cpus = \"5-7\""));
    const plan p = plan_of(outer + cohort_of("deep", in("mid", "cpus = \"6-7\"\npartition = \"isolated\"")) + cohort_of("beside", in("out", "cpus = \"4\"")) + job_of("out") + job_of("mid") + job_of("deep"));
    ASSERT_TRUE(p.holds()) << p.refusals.front().line();
    EXPECT_THAT(changes(p), ElementsAre("write cohort-out cpuset.cpus.exclusive 6-7", "write cohort-out/cohort-mid cpuset.cpus.exclusive 6-7", "write cohort-out/cohort-mid/cohort-deep cpuset.cpus.exclusive 6-7",
                                        "write cohort-out/cohort-mid/cohort-deep cpuset.cpus.partition isolated"));
    EXPECT_EQ(p.jobs[0].cpus.list(), "4-5");
    EXPECT_EQ(p.jobs[1].cpus.list(), "5");
    EXPECT_EQ(p.jobs[2].cpus.list(), "6-7");
    const plan in_a_partition = plan_of(cohort_of("out", "cpus = \"4-7\"\npartition = \"root\"\ncpuset = \"require\"") + cohort_of("in", in("out", "cpus = \"6-7\"\npartition = \"root\"")) + job_of("in"));
    ASSERT_TRUE(in_a_partition.holds());
    EXPECT_THAT(changes(in_a_partition), ElementsAre("write cohort-out cpuset.cpus.partition root", "write cohort-out/cohort-in cpuset.cpus.partition root")) << "which hands its own on";
}

TEST(inside_plan, limits_of_memory_hold_for_all_that_is_inside) {
    const auto pipe = [](const std::string& cohort) {
        return "[[job]]\nname = \"of-" + cohort + "\"\ncohort = \"" + cohort + "\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"" + cohort + ".zst\"\ncodec = \"zstd\"\n";
    };
    const plan p = plan_of(cohort_of("out", "memory = \"64M\"") + cohort_of("in", in("out", "memory = \"24M\"")) + cohort_of("free", in("out")) + pipe("in") + pipe("free"));
    EXPECT_EQ(p.jobs[0].memory, 24u << 20);
    EXPECT_EQ(p.jobs[1].memory, 32u << 20);
}

TEST(inside_plan, nothing_is_dealt_out_between_a_cohort_and_one_inside_of_it) {
    const std::string emulated = "coresched = \"emulate\"\n";
    const plan p = plan_of(cohort_of("out", "cookie = \"x\"\n" + emulated) + cohort_of("in", in("out", "cookie = \"own\"\n")) + job_of("in") + job_of("out"));
    EXPECT_TRUE(p.unsupported()) << "they share cores, and both run programs";
    EXPECT_EQ(p.cohorts[0].cpus, p.cohorts[1].cpus);
    // Cores that are dealt out to the outer one's rival are lost to the inner one, too.
    const plan dealt = plan_of(cohort_of("out", "cookie = \"x\"\n" + emulated) + cohort_of("in", in("out")) + cohort_of("other", "") + job_of("in") + job_of("out") + job_of("other"));
    EXPECT_TRUE(dealt.holds()) << dealt.refusals.front().line();
    EXPECT_FALSE(dealt.cohorts[0].cpus.intersects(dealt.cohorts[2].cpus));
    EXPECT_TRUE(dealt.cohorts[1].cpus.subset_of(dealt.cohorts[0].cpus));
    const plan unused = plan_of(cohort_of("out", "cookie = \"x\"\n" + emulated) + cohort_of("in", in("out")) + cohort_of("other", "") + job_of("out") + job_of("other"));
    EXPECT_EQ(unused.cohorts[1].cpus, unused.cohorts[0].cpus) << "without jobs, too";
}

}  // namespace
}  // namespace cohort::group
