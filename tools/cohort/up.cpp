// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/report_page.hpp>
#include <cohort/group/run.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/signals.hpp>

#include <csignal>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "progress.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string spec;
    std::optional<std::string> report, html, perfetto;
    bool json = false;
    bool quiet = false;
    bool bare = false;
};

/// One square a CPU, filled where the cohort runs; empty text for machines that do not fit a line.
std::string strip(const group::machine_view& m, const cpumask& cpus) {
    if (m.possible.weight() > 64) return {};
    std::string out;
    for (int cpu : m.order) out += cpus.test(cpu) ? "■" : "·";
    return out;
}

void introduce(const group::plan& p, const std::string& about) {
    std::string out = about.empty() ? "" : about + (about.ends_with('\n') ? "\n" : "\n\n");
    for (const group::cohort_plan& c : p.cohorts) {
        out += fmt::format("  cohort {:<10} {} {}", c.name, strip(p.machine, c.cpus), group::cpus_text(c.cpus));
        for (const group::unusable& d : c.dropped) out += fmt::format("; without {}: {}", group::cpus_text(d.cpus), d.reason);
        if (c.keep.policy != group::cpuset_policy::none) out += "; kept by " + c.keep.text();
        if (!c.cookie.name.empty()) out += "; cookie " + c.cookie.text();
        for (const group::unusable& s : c.shared) out += fmt::format("; shares {} with {}", group::cpus_text(s.cpus), s.reason);
        out += "\n";
    }
    for (const std::string& note : p.notes) out += "  note: " + note + "\n";
    std::fputs((out + "\n").c_str(), stderr);
}

exit_code refuse(const std::vector<error>& wrong, const group::plan& p, bool json) {
    for (const error& e : wrong) complain(e.line());
    const exit_code code = exit_code_of(wrong.front());
    if (json) {
        nlohmann::json out{{"schema_version", 1}, {"kind", "report"}, {"file", p.file}, {"ok", false}, {"exit_code", static_cast<int>(code)},
                           {"jobs", nlohmann::json::array()}, {"errors", nlohmann::json::array()}};
        for (const error& e : wrong) {
            out["errors"].push_back({{"code", errno_name(e.code)}, {"object", e.object}, {"act", e.act}, {"reason", e.reason}, {"line", e.line()}});
        }
        print_json(out);
    }
    return code;
}

exit_code code_of(const group::run_report& r) {
    if (r.ok()) return exit_code::ok;
    if (r.only_refused()) return exit_code::no;
    const auto first = r.first_error();
    return first ? exit_code_of(*first) : exit_code::failed;
}

outcome bring_up(const options& o) {
    sys::os& os = sys::real();
    auto planned = plan_of(os, o.spec, std::nullopt, o.json, o.bare);
    if (!planned) return std::unexpected(planned.error());
    if (!planned->plan) return planned->code;
    const group::plan& p = *planned->plan;
    if (!p.machine.live) {
        return fail(EOPNOTSUPP, "machine " + p.machine.name, "bring up", "it is not this machine; `cohort plan` shows what would be done there");
    }
    if (!p.holds()) {
        if (o.json) print(group::plan_json(p) + "\n");
        for (const group::refusal& r : p.refusals) complain(r.line());
        return p.unsupported() ? exit_code::unsupported : exit_code::no;
    }
    auto catcher = sys::signal_catcher::create();
    if (!catcher) return std::unexpected(catcher.error());
    // Where they cannot be written nothing is begun.
    std::optional<sys::temp_file> report_file, page_file, trace_file;
    for (const auto& [path, file] : {std::pair(&o.report, &report_file), std::pair(&o.html, &page_file), std::pair(&o.perfetto, &trace_file)}) {
        if (!*path) continue;
        auto made = sys::temp_file::create(os, **path);
        if (!made) return std::unexpected(made.error());
        file->emplace(std::move(*made));
    }
    if (!o.quiet) introduce(p, planned->about);
    auto up = group::applied::apply(p, os, group::run_directory(os));
    if (!up) return refuse(up.error(), p, o.json);

    progress shown(os, 2);
    group::run_options run;
    run.stop = catcher->token();
    if (!o.quiet) run.watch = [&](const std::vector<group::job_report>& jobs) { shown.show(jobs); };
    group::run_report r = group::run_jobs(p, os, run);
    shown.clear();
    r.lost = up->broken_partitions(p);
    r.undo_errors = up->undo();

    const exit_code code = code_of(r);
    const std::string json = group::report_json(p, r, static_cast<int>(code)) + "\n";
    const auto keep = [&](std::optional<sys::temp_file>& file, const std::string& text) {
        const auto written = sys::write_all(os, file->fd(), text);
        return written ? file->commit() : written;
    };
    if (report_file) {
        if (auto kept = keep(report_file, json); !kept) return std::unexpected(kept.error());
    }
    if (trace_file) {
        if (auto kept = keep(trace_file, group::report_trace(p, r)); !kept) return std::unexpected(kept.error());
    }
    if (page_file) {
        const auto map = map_of_plan(os, p);
        if (!map) return std::unexpected(map.error());
        if (auto kept = keep(page_file, group::report_page(p, r, planned->about, *map)); !kept) return std::unexpected(kept.error());
    }
    print(o.json ? json : group::report_text(p, r));
    for (const error& e : r.undo_errors) complain("undo: " + e.line());
    if (catcher->signal() != 0) complain(fmt::format("stopped by signal {}; what was unfinished is gone", catcher->signal()));
    else if (const auto first = r.first_error(); first && code != exit_code::ok) complain(first->line());
    return code;
}

}  // namespace

void add_up(registry& all) {
    auto o = std::make_shared<options>();
    all.add("up", "Bring the cohorts of a spec up, run their jobs, and report")
        .argument("SPEC", o->spec, "the spec, a TOML file; - is standard input")
        .flag("--json", o->json, "print the report as JSON")
        .option("--report", o->report, "FILE", "write the report as JSON to FILE too")
        .option("--html", o->html, "FILE", "write the report as a page with pictures to FILE too")
        .option("--perfetto", o->perfetto, "FILE", "write when each job ran as a trace for Perfetto to FILE too")
        .flag("--bare", o->bare, "the same jobs without their cohorts, to compare: every CPU is everybody's, no set, no cookie")
        .flag("-q,--quiet", o->quiet, "no progress")
        .notes("Stays until the jobs have ended; then everything is put back. An output gets its name only when its job has\n"
               "succeeded and its `verify` command has said yes. A failing job lets the others go on, unless the spec says\n"
               "on_failure = \"stop\". SIGINT and SIGTERM end the children and remove what is unfinished.\n\n"
               "Exit code 1: a check said no, or the plan cannot hold here; 2: faults in the spec; 3: a cookie that must\n"
               "be kept cannot be kept here; 5: a job failed or was stopped.\n\n"
               "Example:\n  cohort up examples/two-tenants.toml")
        .run([o] { return bring_up(*o); });
}

}  // namespace cohort::cli
