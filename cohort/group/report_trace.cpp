// SPDX-License-Identifier: Apache-2.0
// The report of a run as a trace: what Perfetto's and Chrome's viewers open. A process a cohort, a thread a job; counters for what pipes have moved.
#include <nlohmann/json.hpp>

#include <algorithm>

#include <cohort/group/run.hpp>

namespace cohort::group {
namespace {

constexpr double us = 1e6;

nlohmann::ordered_json slice(const char* name, std::size_t process, std::size_t thread, double from, double seconds) {
    return {{"ph", "X"}, {"name", name}, {"pid", process}, {"tid", thread}, {"ts", from * us}, {"dur", seconds * us}};
}

}  // namespace

std::string report_trace(const plan& p, const run_report& r) {
    nlohmann::ordered_json events = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < p.cohorts.size(); ++i) {
        events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", i + 1}, {"args", {{"name", "cohort " + p.cohorts[i].name + ", " + cpus_text(p.cohorts[i].cpus)}}}});
    }
    for (std::size_t j = 0; j < r.jobs.size(); ++j) {
        const job_report& job = r.jobs[j];
        const auto of = std::find_if(p.cohorts.begin(), p.cohorts.end(), [&](const cohort_plan& c) { return c.name == job.cohort; });
        const auto process = static_cast<std::size_t>(of - p.cohorts.begin()) + 1, thread = j + 1;
        events.push_back({{"ph", "M"}, {"name", "thread_name"}, {"pid", process}, {"tid", thread}, {"args", {{"name", job.name}}}});
        const bool started = job.seconds > 0 || job.state == job_state::ok;
        if (const double waited = started ? job.started : r.seconds; waited > 0) events.push_back(slice("waits", process, thread, 0, waited));
        if (!started) continue;
        events.push_back(slice("runs", process, thread, job.started, job.seconds));
        events.back()["args"] = {{"state", state_name(job.state)}, {"bytes_in", job.bytes_in}, {"bytes_out", job.bytes_out}, {"cpus", job.cpus.list()}};
        if (job.verified) events.push_back(slice("is checked", process, thread, job.started + job.seconds, job.verify_seconds));
        if (!job.pipe) continue;
        for (const run_sample& s : r.samples) {
            events.push_back({{"ph", "C"}, {"name", job.name}, {"pid", process}, {"ts", s.seconds * us}, {"args", {{"read", s.jobs[j].bytes_in}, {"written", s.jobs[j].bytes_out}}}});
        }
    }
    return nlohmann::ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace cohort::group
