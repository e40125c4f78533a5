// SPDX-License-Identifier: Apache-2.0
// Commands that are started again when they have ended.
#include <fstream>
#include <sstream>
#include <stop_token>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/run.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::group {
namespace {

using sys::testing::scratch_dir;
using testing::ElementsAre;
using testing::HasSubstr;

plan plan_of(const scratch_dir& dir, const std::string& line, const std::string& restart, const std::string& more = {}) {
    const auto read = read_spec("s.toml", "[[cohort]]\nname = \"c\"\n[[job]]\nname = \"j\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = '''" + line + "'''\nrestart = " + restart + "\n" + more,
                                [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    return make_plan(read.value, view_machine("live", sys::real()).value(), dir.path());
}

std::string text_of(const std::string& path) {
    std::ifstream in(path);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

TEST(restart, goes_on_until_the_command_succeeds_and_the_output_goes_on_with_it) {
    scratch_dir dir;
    const auto p = plan_of(dir, "cat; echo $COHORT_RESTARTS; test $COHORT_RESTARTS = 2", "{ when = \"on-failure\", backoff = \"1ms\" }", "stdin = \"in\"\nstdout = \"out\"\n");
    std::ofstream(dir / "in") << "begin\n";
    const auto r = run_jobs(p, sys::real(), {});
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(text_of(dir / "out"), "begin\n0\nbegin\n1\nbegin\n2\n");
    EXPECT_EQ(r.jobs[0].restarts, 2);
    EXPECT_THAT(r.jobs[0].exits, ElementsAre(HasSubstr("(started 3 times)")));
    EXPECT_EQ(nlohmann::json::parse(report_json(p, r, 0))["jobs"][0]["restarts"], 2);
}

TEST(restart, ends_after_so_many_times_with_the_last_ones_reason) {
    scratch_dir dir;
    const auto r = run_jobs(plan_of(dir, "echo x >>tries; exit 7", "{ when = \"on-failure\", max = 3, backoff = \"1ms\" }"), sys::real(), {});
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_EQ(text_of(dir / "tries"), "x\nx\nx\nx\n");
    EXPECT_THAT(r.jobs[0].why->line(), HasSubstr("7; it was started 4 times"));
}

TEST(restart, always_means_after_success_too_and_each_instance_has_its_own_count) {
    scratch_dir dir;
    const auto r = run_jobs(plan_of(dir, "echo x >>tries.$COHORT_INSTANCE", "{ when = \"always\", max = 2, backoff = \"1ms\" }", "instances = 2\n"), sys::real(), {});
    EXPECT_TRUE(r.ok());
    EXPECT_EQ(text_of(dir / "tries.0"), "x\nx\nx\n");
    EXPECT_EQ(text_of(dir / "tries.1"), "x\nx\nx\n");
    EXPECT_EQ(r.jobs[0].restarts, 4);
}

TEST(restart, what_has_succeeded_is_not_started_again_on_failure) {
    scratch_dir dir;
    const auto r = run_jobs(plan_of(dir, "true", "\"on-failure\""), sys::real(), {});
    EXPECT_TRUE(r.ok());
    EXPECT_EQ(r.jobs[0].restarts, 0);
}

/// Stops the run when the job has been started again; before that nothing can end it.
run_report stopped_after_a_restart(const plan& p) {
    std::stop_source stop;
    run_options o;
    o.stop = stop.get_token();
    o.watch = [&](const std::vector<job_report>& now) {
        if (now[0].restarts > 0) stop.request_stop();
    };
    o.interval_ns = 1'000'000;
    return run_jobs(p, sys::real(), o);
}

TEST(restart, a_stop_ends_what_runs) {
    scratch_dir dir;
    const auto r = stopped_after_a_restart(plan_of(dir, "test $COHORT_RESTARTS = 0 || exec sleep 1000", "{ when = \"always\", backoff = \"1ms\" }"));
    EXPECT_EQ(r.jobs[0].state, job_state::stopped);
    EXPECT_EQ(r.jobs[0].why->code, ECANCELED);
}

TEST(restart, a_stop_ends_the_pause_before_the_next_start) {
    scratch_dir dir;
    const auto r = stopped_after_a_restart(plan_of(dir, "echo x >>tries; false", "{ when = \"on-failure\", backoff = \"1h\", longest = \"1h\" }"));
    EXPECT_EQ(r.jobs[0].state, job_state::stopped);
    EXPECT_EQ(text_of(dir / "tries"), "x\n");
}

TEST(restart, is_shown_by_the_plan) {
    scratch_dir dir;
    const auto p = plan_of(dir, "true", "{ when = \"always\", max = 2, backoff = \"2s\" }");
    EXPECT_THAT(plan_text(p), HasSubstr("true   (started again always, at most 2 times, after 2.00 s to 10.0 s)"));
    const auto json = nlohmann::json::parse(plan_json(p))["jobs"][0]["restart"];
    EXPECT_EQ(json["when"], "always");
    EXPECT_EQ(json["max"], 2);
    EXPECT_EQ(json["backoff_seconds"], 2.0);
}

}  // namespace
}  // namespace cohort::group
