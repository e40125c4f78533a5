// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/report_page.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::HasSubstr;
using testing::Not;

plan two_jobs() {
    const auto read = read_spec("s.toml", "[[cohort]]\nname = \"web\"\n[[job]]\nname = \"pack\"\ncohort = \"web\"\nkind = \"pipe\"\ninput = \"a\"\noutput = \"b\"\ncodec = \"zstd\"\n[[job]]\nname = \"say\"\ncohort = \"web\"\nkind = \"exec\"\ncommand = [\"echo\"]\n",
                                [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty());
    return make_plan(read.value, view_machine("synthetic:core:2 pu:2", sys::real()).value(), "/w");
}

run_report good_run(const plan& p) {
    run_report r;
    r.seconds = 4;
    for (const job_plan& j : p.jobs) {
        job_report& one = r.jobs.emplace_back();
        one.name = j.spec.name;
        one.cohort = j.spec.cohort;
        one.pipe = j.spec.kind == job_spec::form::pipe;
        one.state = job_state::ok;
        one.seconds = 3;
    }
    r.jobs[0].bytes_in = 3 << 20, r.jobs[0].blocks = 3, r.jobs[0].ordered = 3, r.jobs[0].verified = true;
    for (int i = 0; i < 4; ++i) r.samples.push_back({static_cast<double>(i), {{job_state::running, static_cast<std::uint64_t>(i) << 20, 0}, {job_state::running, 0, 0}}});
    return r;
}

/// Every element that is opened is closed, in the right order.
std::string unbalanced(const std::string& html) {
    std::vector<std::string> open;
    for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
        const std::size_t end = html.find('>', at);
        if (end == std::string::npos) return "a tag has no end";
        const std::string tag = html.substr(at + 1, end - at - 1);
        const std::string name = tag.substr(0, tag.find_first_of(" />", 1));
        if (tag.starts_with("!") || tag.ends_with("/") || name == "meta") continue;
        if (!tag.starts_with("/")) open.push_back(name);
        else if (open.empty() || open.back() != name.substr(1)) return "</" + name.substr(1) + "> closes <" + (open.empty() ? "" : open.back()) + ">";
        else open.pop_back();
    }
    return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

TEST(report_page, shows_jobs_their_times_their_speed_and_what_is_promised) {
    const plan p = two_jobs();
    const std::string page = report_page(p, good_run(p), "about <it>", "<svg></svg>");
    EXPECT_EQ(unbalanced(page), "");
    for (const char* part : {"2 of 2 jobs ok", "1 re-checked", "about &lt;it&gt;", "pack runs for 3.00 s", "<polyline", "1.00 MiB/s", "3 of 3", "enforced", "<svg></svg>"}) EXPECT_THAT(page, HasSubstr(part));
    EXPECT_EQ(page.find("<polyline"), page.rfind("<polyline")) << "one pipe, one curve";
}

TEST(report_page, draws_queues_and_pools_over_time_with_a_legend) {
    const plan p = two_jobs();
    run_report r = good_run(p);
    r.jobs[1].pipe = true, r.jobs[1].flow.emplace();
    r.jobs[0].cpu_seen = cpu_places{.inside = 3, .outside = 1};
    r.jobs[0].remote_peak = 5 << 20;
    r.pools.push_back({.cohort = "web"});
    for (std::size_t i = 0; i < r.samples.size(); ++i) {
        r.samples[i].jobs[0].queues = {10 + i};
        r.samples[i].jobs[1].queues = {i, 2, 7};
        r.samples[i].pools = {{"web", i << 20}};
    }
    const std::string page = report_page(p, r, "", "");
    EXPECT_EQ(unbalanced(page), "");
    for (const char* part : {"Blocks in flight in pipes", "pack, at most 13", "Records under way in flows", "say, for the workers, at most 3", "say, for the consumer, at most 7", "Memory of pools", "web, at most 3.00 MiB", "25.0 %",
                             "5.00 MiB"}) {
        EXPECT_THAT(page, HasSubstr(part));
    }
    const auto events = nlohmann::json::parse(report_trace(p, r))["traceEvents"];
    const auto last = [&](const char* name) {
        nlohmann::json out;
        for (const auto& e : events) {
            if (e["ph"] == "C" && e["name"] == name) out = e["args"];
        }
        return out;
    };
    EXPECT_EQ(last("pack: blocks"), nlohmann::json({{"in flight", 13}}));
    EXPECT_EQ(last("say: records"), nlohmann::json({{"for the workers", 3}, {"with the workers", 2}, {"for the consumer", 7}}));
    EXPECT_EQ(last("pool"), nlohmann::json({{"bytes", 3 << 20}}));
}

TEST(report_page, of_many_curves_the_highest_are_drawn_and_the_rest_are_counted) {
    const plan p = two_jobs();
    run_report r = good_run(p);
    r.jobs.resize(1);
    r.jobs.resize(15, r.jobs[0]);
    for (std::size_t j = 0; j < r.jobs.size(); ++j) r.jobs[j].name = "job" + std::to_string(j);
    for (run_sample& s : r.samples) {
        s.jobs.assign(15, {});
        for (std::size_t j = 0; j < 15; ++j) s.jobs[j].queues = {j};
    }
    const std::string page = report_page(p, r, "", "");
    EXPECT_THAT(page, testing::AllOf(HasSubstr("3 more are lower"), HasSubstr("job14, at most 14"), Not(HasSubstr("job2, at most"))));
}

TEST(report_page, loads_nothing_and_runs_nothing) {
    const plan p = two_jobs();
    const std::string page = report_page(p, good_run(p), "", "");
    for (const char* part : {"<script", "http", "url(h", "@import", "<link", "<img"}) EXPECT_THAT(page, Not(HasSubstr(part)));
}

TEST(report_page, shows_what_went_wrong_and_escapes_what_users_named) {
    plan p = two_jobs();
    p.file = "a<b>.toml";
    run_report r = good_run(p);
    r.samples.clear();
    r.jobs[1].state = job_state::skipped;
    r.jobs[1].seconds = 0;
    r.jobs[0].state = job_state::failed;
    r.jobs[0].why = error{EIO, "file \"<x>\"", "read", "gone"};
    r.lost.push_back({EIO, "cohort \"web\"", "keep its partition", "CPU 1 went offline"});
    const std::string page = report_page(p, r, "", "");
    EXPECT_EQ(unbalanced(page), "");
    for (const char* part : {"0 of 2 jobs ok", "file &quot;&lt;x&gt;&quot;: read: EIO: gone", "does not run", "What did not hold", "CPU 1 went offline", "a&lt;b&gt;.toml"}) EXPECT_THAT(page, HasSubstr(part));
}

TEST(report_trace, has_a_slice_for_each_time_of_a_job_and_a_counter_for_each_sample_of_a_pipe) {
    const plan p = two_jobs();
    run_report r = good_run(p);
    r.jobs[0].started = 0.5;
    r.jobs[0].verify_seconds = 0.25;
    const auto events = nlohmann::json::parse(report_trace(p, r))["traceEvents"];
    const auto with = [&](const char* key, const char* value) {
        return std::count_if(events.begin(), events.end(), [&](const nlohmann::json& e) { return e[key] == value; });
    };
    EXPECT_EQ(with("ph", "C"), 8) << "bytes and blocks";
    EXPECT_EQ(with("name", "pack"), 4);
    EXPECT_EQ(with("name", "runs"), 2);
    EXPECT_EQ(with("name", "waits"), 1);
    const auto checked = std::find_if(events.begin(), events.end(), [](const nlohmann::json& e) { return e["name"] == "is checked"; });
    ASSERT_NE(checked, events.end());
    EXPECT_EQ((*checked)["ts"], 3.5e6);
    EXPECT_EQ((*checked)["dur"], 0.25e6);
}

}  // namespace
}  // namespace cohort::group
