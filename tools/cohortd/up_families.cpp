// SPDX-License-Identifier: Apache-2.0
// What is up, as series.
#include <optional>

#include "families.hpp"

namespace cohort::cli {
namespace {

using enum prometheus::MetricType;

double number(auto n) { return static_cast<double>(n); }

/// One family: a series for each of `rows` of which `of` knows a value.
template <class Row, class Of, class Labels>
void add(families& all, const char* name, const char* help, prometheus::MetricType type, const std::vector<Row>& rows, Labels labels_of, Of of) {
    auto f = family(name, help, type);
    for (const Row& r : rows) {
        if (const std::optional<double> v = of(r)) f.metric.push_back(value(type, *v, labels_of(r)));
    }
    if (!f.metric.empty()) all.push_back(std::move(f));
}

void ups(const std::vector<group::seen_up>& rows, families& all) {
    using row = group::seen_up;
    const auto is = [](const row& r) { return labels{{"up", r.name}}; };
    const auto add_ups = [&](const char* name, const char* help, auto of) { add(all, name, help, Gauge, rows, is, of); };
    add_ups("cohort_up_alive", "0: its process was killed, and what it left is still there", [](const row& r) { return std::optional(r.alive ? 1.0 : 0.0); });
    add_ups("cohort_up_seconds", "Since it began", [](const row& r) { return std::optional(r.seconds); });
    add(all, "cohort_up_phase", "1: it is in that phase", Gauge, rows, [](const row& r) { return labels{{"up", r.name}, {"phase", r.phase}}; }, [](const row& r) { return r.alive ? std::optional(1.0) : std::nullopt; });
}

void cohorts(const std::vector<group::seen_cohort>& rows, families& all) {
    using row = group::seen_cohort;
    const auto is = [](const row& r) { return labels{{"up", r.up}, {"cohort", r.name}}; };
    const auto add_cohorts = [&](const char* name, const char* help, prometheus::MetricType type, auto of) { add(all, name, help, type, rows, is, [&](const row& r) { return std::optional<double>(of(r)); }); };
    add_cohorts("cohort_planned_cpus", "CPUs that a cohort was given", Gauge, [](const row& r) { return number(r.planned.weight()); });
    add_cohorts("cohort_effective_cpus", "CPUs that its jobs may use now: of its set, or, where affinity keeps it, those online", Gauge, [](const row& r) { return number(r.now.weight()); });
    add_cohorts("cohort_cpus_left_total", "CPUs that left it since the daemon saw it first", Counter, [](const row& r) { return number(r.left); });
    add_cohorts("cohort_cpus_come_total", "CPUs that came to it", Counter, [](const row& r) { return number(r.came); });
    add(all, "cohort_partition_valid", "Of cohorts with a partition; 0: it is none now", Gauge, rows, is, [](const row& r) {
        const bool has = r.broken || (!r.partition.empty() && r.partition != "member");
        return has ? std::optional(r.broken ? 0.0 : 1.0) : std::nullopt;
    });
    add(all, "cohort_partition_breaks_total", "Times that its partition became none", Counter, rows, is,
        [](const row& r) { return r.breaks > 0 || (!r.partition.empty() && r.partition != "member") ? std::optional(number(r.breaks)) : std::nullopt; });
    add(all, "cohort_up_pool_bytes", "Addresses of its pool", Gauge, rows, is, [](const row& r) { return r.pool_bytes ? std::optional(number(r.pool_bytes)) : std::nullopt; });
}

void jobs(const std::vector<group::seen_job>& rows, families& all) {
    using row = group::seen_job;
    const auto is = [](const row& r) { return labels{{"up", r.up}, {"cohort", r.cohort}, {"job", r.name}}; };
    const auto with_state = [&](const row& r) {
        labels l = is(r);
        l.push_back({"kind", r.kind});
        l.push_back({"state", r.state});
        return l;
    };
    add(all, "cohort_job_state", "1: it is in that state", Gauge, rows, with_state, [](const row&) { return std::optional(1.0); });
    const auto add_jobs = [&](const char* name, const char* help, prometheus::MetricType type, auto of) { add(all, name, help, type, rows, is, [&](const row& r) { return std::optional<double>(of(r)); }); };
    add_jobs("cohort_job_processes", "Processes of it that run", Gauge, [](const row& r) { return number(r.processes); });
    add_jobs("cohort_job_read_bytes_total", "Bytes that a pipe or a flow has read", Counter, [](const row& r) { return number(r.bytes_in); });
    add_jobs("cohort_job_written_bytes_total", "Bytes that a pipe or a flow has written", Counter, [](const row& r) { return number(r.bytes_out); });
    add_jobs("cohort_job_cpu_seconds", "CPU time of its processes that run; a pipe's workers are threads of its up", Gauge, [](const row& r) { return r.cpu_seconds; });
    add_jobs("cohort_job_forced_idle_seconds", "Time that siblings idled for the cookie of its processes that run, where the kernel tells it", Gauge, [](const row& r) { return r.forced_idle_seconds; });
}

}  // namespace

void families_of(const group::ups_seen& up, families& all) {
    ups(up.ups, all);
    cohorts(up.cohorts, all);
    jobs(up.jobs, all);
    const struct {
        const char *name, *help;
        prometheus::MetricType type;
        double now;
    } totals[] = {
        {"cohort_ups", "What is up, or was and has left something", Gauge, number(up.ups.size())},
        {"cohort_ups_unread", "Files and folders of ups that could not be read", Gauge, number(up.unread)},
        {"cohort_watch_cpus_left_total", "CPUs that left cohorts since the daemon began", Counter, number(up.totals.cpus_left)},
        {"cohort_watch_cpus_come_total", "CPUs that came to cohorts", Counter, number(up.totals.cpus_came)},
        {"cohort_watch_partitions_broken_total", "Times that a cohort's partition became none", Counter, number(up.totals.partitions_broken)},
        {"cohort_watch_owners_killed_total", "Ups whose process was killed", Counter, number(up.totals.owners_killed)},
    };
    for (const auto& t : totals) {
        all.push_back(family(t.name, t.help, t.type));
        all.back().metric.push_back(value(t.type, t.now));
    }
}

void families_of(const std::vector<kept_cookie>& cookies, families& all) {
    add(all, "cohort_cookie_kept", "Named cookies of the daemon; 0: it was told to end this one", Gauge, cookies, [](const kept_cookie& c) { return labels{{"name", c.name}}; },
        [](const kept_cookie& c) { return std::optional(c.kept ? 1.0 : 0.0); });
}

}  // namespace cohort::cli
