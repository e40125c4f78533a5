// SPDX-License-Identifier: Apache-2.0
// The report of a run as a trace: what Perfetto's and Chrome's viewers open. A process a cohort, a thread a job; counters for what pipes and flows have moved, for what waits in their queues, and for what pools have.
#include <nlohmann/json.hpp>

#include <algorithm>

#include <cohort/group/run.hpp>

namespace cohort::group {
namespace {

constexpr double us = 1e6;

nlohmann::ordered_json slice(const char* name, std::size_t process, std::size_t thread, double from, double seconds) {
    return {{"ph", "X"}, {"name", name}, {"pid", process}, {"tid", thread}, {"ts", from * us}, {"dur", seconds * us}};
}

nlohmann::ordered_json counter(const std::string& name, std::size_t process, double at, nlohmann::ordered_json values) {
    return {{"ph", "C"}, {"name", name}, {"pid", process}, {"ts", at * us}, {"args", std::move(values)}};
}

std::size_t process_of(const plan& p, const std::string& cohort) { return static_cast<std::size_t>(std::ranges::find(p.cohorts, cohort, &cohort_plan::name) - p.cohorts.begin()) + 1; }

}  // namespace

std::string report_trace(const plan& p, const run_report& r) {
    nlohmann::ordered_json events = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < p.cohorts.size(); ++i) {
        events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", i + 1}, {"args", {{"name", "cohort " + p.cohorts[i].name + ", " + cpus_text(p.cohorts[i].cpus)}}}});
    }
    for (std::size_t j = 0; j < r.jobs.size(); ++j) {
        const job_report& job = r.jobs[j];
        const std::size_t process = process_of(p, job.cohort), thread = j + 1;
        events.push_back({{"ph", "M"}, {"name", "thread_name"}, {"pid", process}, {"tid", thread}, {"args", {{"name", job.name}}}});
        const bool started = job.seconds > 0 || job.state == job_state::ok;
        if (const double waited = started ? job.started : r.seconds; waited > 0) events.push_back(slice("waits", process, thread, 0, waited));
        if (!started) continue;
        events.push_back(slice("runs", process, thread, job.started, job.seconds));
        events.back()["args"] = {{"state", state_name(job.state)}, {"bytes_in", job.bytes_in}, {"bytes_out", job.bytes_out}, {"cpus", job.cpus.list()}};
        if (job.verified) events.push_back(slice("is checked", process, thread, job.started + job.seconds, job.verify_seconds));
        if (!job.pipe) continue;
        const std::vector<const char*> names = queue_names(job);
        for (const run_sample& s : r.samples) {
            events.push_back(counter(job.name, process, s.seconds, {{"read", s.jobs[j].bytes_in}, {"written", s.jobs[j].bytes_out}}));
            nlohmann::ordered_json depth = nlohmann::ordered_json::object();
            for (std::size_t q = 0; q < names.size(); ++q) depth[names[q]] = q < s.jobs[j].queues.size() ? s.jobs[j].queues[q] : 0;
            events.push_back(counter(job.name + (job.flow ? ": records" : ": blocks"), process, s.seconds, std::move(depth)));
        }
    }
    for (std::size_t i = 0; i < r.pools.size(); ++i) {
        const std::size_t process = process_of(p, r.pools[i].cohort);
        for (const run_sample& s : r.samples) {
            if (const auto it = s.pools.find(r.pools[i].cohort); it != s.pools.end()) events.push_back(counter("pool", process, s.seconds, {{"bytes", it->second}}));
        }
    }
    return nlohmann::ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace cohort::group
