// SPDX-License-Identifier: Apache-2.0
// What cookies will cost, as a plan says it.
#include <cohort/group/detail/foresee.hpp>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::HasSubstr;

plan plan_of(const std::string& text, const std::string& machine) {
    const auto s = read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(s.faults.empty()) << s.faults.front().line();
    return make_plan(s.value, view_machine("synthetic:" + machine, sys::real()).value(), "/w");
}
std::string cohort_of(const std::string& name, const std::string& cpus, const std::string& cookie = {}) {
    return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + (cookie.empty() ? "" : "cookie = \"" + cookie + "\"\n");
}
double throughput(const plan& p, std::string_view policy) { return std::ranges::find(p.foreseen->courses, policy, &foresight::course::policy)->throughput; }
double forced_idle(const plan& p, std::string_view policy) { return std::ranges::find(p.foreseen->courses, policy, &foresight::course::policy)->forced_idle; }

TEST(foresight, is_of_cores_with_several_cpus_on_which_cookies_stand) {
    EXPECT_FALSE(plan_of(cohort_of("a", "0") + cohort_of("b", "1"), "core:2 pu:2").foreseen) << "no cookie";
    EXPECT_FALSE(plan_of(cohort_of("a", "0", "x") + cohort_of("b", "1"), "core:4 pu:1").foreseen) << "no siblings";
    EXPECT_FALSE(plan_of(cohort_of("a", "0", "x") + "[[job]]\nname = \"j\"\ncohort = \"b\"\nkind = \"exec\"\ncommand = \"true\"\n" + cohort_of("b", "2-3"), "core:2 pu:2").foreseen) << "nothing of the cookie runs";
    EXPECT_TRUE(plan_of(cohort_of("a", "0", "x") + cohort_of("b", "1"), "core:2 pu:2").foreseen);
}

TEST(foresight, two_cookies_on_one_core_do_the_work_of_one_thread) {
    const plan p = plan_of(cohort_of("a", "0", "x") + cohort_of("b", "1", "y"), "core:2 pu:2");
    ASSERT_TRUE(p.foreseen);
    EXPECT_EQ(p.foreseen->cores, 1u);
    EXPECT_NEAR(throughput(p, "kernel"), 1.0, 0.02);
    EXPECT_NEAR(throughput(p, "unprotected"), 1.25, 0.02);
    EXPECT_NEAR(throughput(p, "nosmt"), 1.0, 0.02);
    EXPECT_NEAR(forced_idle(p, "kernel"), 0.5, 0.02);
    EXPECT_EQ(forced_idle(p, "unprotected"), 0);
    ASSERT_EQ(p.foreseen->tenants.size(), 2u);
    EXPECT_NEAR(p.foreseen->tenants[0].work + p.foreseen->tenants[1].work, throughput(p, "kernel"), 1e-6) << "what tenants do is what is done";
    EXPECT_NEAR(p.foreseen->tenants[0].forces_idle + p.foreseen->tenants[1].forces_idle, 2 * forced_idle(p, "kernel"), 1e-6) << "all idleness is somebody's";
}

TEST(foresight, whoever_has_a_core_alone_loses_nothing) {
    const plan p = plan_of(cohort_of("a", "0-1", "x") + cohort_of("b", "2-3", "y"), "core:2 pu:2");
    ASSERT_TRUE(p.foreseen);
    EXPECT_NEAR(throughput(p, "kernel"), 2.5, 0.02);
    EXPECT_EQ(forced_idle(p, "kernel"), 0);
    EXPECT_EQ(p.foreseen->kinds, 1u) << "both cores are of one kind";
    EXPECT_EQ(p.foreseen->cores, 2u);
}

TEST(foresight, large_machines_cost_what_their_kinds_of_cores_cost) {
    std::string text;
    for (int i = 0; i < 1000; ++i) text += cohort_of(fmt::format("c{}", i), fmt::format("{}-{}", 8 * i + i % 2, 8 * i + 6), fmt::format("k{}", i % 7));
    const plan p = plan_of(text, "pack:2 numa:2 core:1024 pu:2");
    ASSERT_TRUE(p.foreseen);
    EXPECT_EQ(p.foreseen->cores, 4000u);
    EXPECT_LE(p.foreseen->kinds, 4u);
    EXPECT_EQ(p.foreseen->tenants.size(), 1000u);
    EXPECT_EQ(p.foreseen->left_out, 0u);
}

TEST(foresight, says_what_it_left_out) {
    const plan p = plan_of(cohort_of("a", "0-2", "x") + cohort_of("b", "3", "y"), "core:2 pu:2");
    const auto s = read_spec("s.toml", cohort_of("a", "0-2", "x") + cohort_of("b", "3", "y"), [](std::string_view) { return std::optional<std::string>(); });
    const auto less = detail::foresee(s.value, p, 1);
    ASSERT_TRUE(less);
    EXPECT_EQ(less->cores, 1u);
    EXPECT_EQ(less->left_out, 1u);
    plan shown = p;
    shown.foreseen = less;
    EXPECT_THAT(plan_text(shown), HasSubstr("1 cores more have cookies"));
    // More tasks than a core's simulation takes.
    std::string many;
    for (int i = 0; i < 65; ++i) many += cohort_of(fmt::format("c{}", i), "0", "x");
    const plan crowded = plan_of(many, "core:1 pu:2");
    ASSERT_TRUE(crowded.foreseen);
    EXPECT_EQ(crowded.foreseen->cores, 0u);
    EXPECT_EQ(crowded.foreseen->left_out, 1u);
    EXPECT_THAT(plan_text(crowded), HasSubstr("were not simulated"));
}

TEST(foresight, is_in_the_plans_text_and_json) {
    const plan p = plan_of(cohort_of("a", "0", "x") + cohort_of("b", "1", "y"), "core:2 pu:2");
    EXPECT_THAT(plan_text(p), HasSubstr("what cookies will cost while every CPU of these cohorts has work: simulated, 1 core of 1 kind"));
    EXPECT_THAT(plan_text(p), HasSubstr("unprotected"));
    const auto json = nlohmann::json::parse(plan_json(p));
    EXPECT_EQ(json["foreseen"]["policies"][0]["policy"], "kernel");
    EXPECT_EQ(json["foreseen"]["cohorts"][1]["cohort"], "b");
    EXPECT_EQ(nlohmann::json::parse(plan_json(plan_of(cohort_of("a", "0"), "core:2 pu:2")))["foreseen"], nullptr);
}

}  // namespace
}  // namespace cohort::group
