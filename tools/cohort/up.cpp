// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/report_page.hpp>
#include <cohort/group/run.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/signals.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "life.hpp"
#include "progress.hpp"
#include "spec_input.hpp"
#include "up.hpp"
#include "up_change.hpp"

namespace cohort::cli {
namespace {

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

exit_code refuse(const std::vector<error>& wrong, const std::string& file, bool json) {
    for (const error& e : wrong) complain(e.line());
    const exit_code code = exit_code_of(wrong.front());
    if (json) {
        nlohmann::json out{{"schema_version", 1}, {"kind", "report"}, {"file", file}, {"ok", false}, {"exit_code", static_cast<int>(code)},
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

/// The files that are asked for beside the report. Where they cannot be written nothing is begun.
class extra_files {
public:
    result<void> create(sys::os& os, const up_options& o, const group::about_to_make& about_to) {
        for (const auto& [path, file] : {std::pair(&o.report, &report_), std::pair(&o.html, &page_), std::pair(&o.perfetto, &trace_)}) {
            if (!*path) continue;
            auto made = sys::temp_file::create(os, **path, 0666, about_to);
            if (!made) return std::unexpected(made.error());
            file->emplace(std::move(*made));
        }
        return {};
    }
    result<void> write(sys::os& os, const group::plan& p, const group::run_report& r, const std::string& about, const std::string& json) {
        result<void> done;
        if (report_) done = keep(os, *report_, json);
        if (done && trace_) done = keep(os, *trace_, group::report_trace(p, r));
        if (!done || !page_) return done;
        const auto map = map_of_plan(os, p);
        return map ? keep(os, *page_, group::report_page(p, r, about, *map)) : std::unexpected(map.error());
    }

private:
    static result<void> keep(sys::os& os, sys::temp_file& file, const std::string& text) {
        const auto written = sys::write_all(os, file.fd(), text);
        return written ? file.commit() : written;
    }
    std::optional<sys::temp_file> report_, page_, trace_;
};

/// What --detach waits for: all is up.
void tell_starter(sys::os& os, const group::up_state& s) {
    nlohmann::ordered_json out{{"schema_version", 1}, {"kind", "status"}, {"ups", {status_value(os, s)}}};
    print(started_word + out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    std::fflush(stdout);
}

exit_code refuse_plan(const group::plan& p, bool json) {
    if (json) print(group::plan_json(p) + "\n");
    for (const group::refusal& r : p.refusals) complain(r.line());
    return p.unsupported() ? exit_code::unsupported : exit_code::no;
}

/// The report, to whom it is due: that of an owner whose starter has gone to its log.
outcome tell_end(const group::plan& p, const group::run_report& r, const up_options& o, bool alone, const std::string& json, exit_code code, int signal) {
    if (o.command && r.jobs.size() == 1 && !r.jobs[0].ends.empty() && r.undo_errors.empty() && r.lost.empty()) {
        const sys::exit_status& end = r.jobs[0].ends[0];
        return static_cast<exit_code>(end.signal != 0 ? 128 + end.signal : end.code);
    }
    if (alone) (void)sys::write_all(sys::real(), 2, group::report_text(p, r));
    else if (!o.command) print(o.json ? json : group::report_text(p, r));
    for (const error& e : r.undo_errors) complain("undo: " + e.line());
    if (signal != 0) complain(fmt::format("stopped by signal {}; what was unfinished is gone", signal));
    else if (const auto first = r.first_error(); first && code != exit_code::ok) complain(first->line());
    return code;
}

}  // namespace

outcome bring_up_plan(const planned& planned, const up_options& o) {
    sys::os& os = sys::real();
    const group::plan& p = *planned.plan;
    const std::string run_dir = group::run_directory(os);
    if (!p.machine.live) {
        return fail(EOPNOTSUPP, "machine " + p.machine.name, "bring up", "it is not this machine; `cohort plan` shows what would be done there");
    }
    if (!p.holds()) return refuse_plan(p, o.json);
    // A terminal's keys are the command's, too, and it decides what they mean.
    if (o.command) {
        for (const int key : {SIGINT, SIGQUIT}) std::signal(key, [](int) {});
    }
    auto catcher = o.command ? sys::signal_catcher::create({SIGTERM, SIGHUP}) : sys::signal_catcher::create();
    if (!catcher) return std::unexpected(catcher.error());
    group::up_state begin = group::state_of(p, os, run_dir, o.name, o.spec);
    begin.detached = o.owner, begin.patience_ns = static_cast<std::uint64_t>(o.patience) * 1'000'000'000;
    auto file = group::state_file::create(os, run_dir, begin);
    if (!file) return refuse({file.error()}, p.file, o.json);
    life mine(os, run_dir, std::move(*file));
    extra_files extra;
    if (auto made = extra.create(os, o, mine.about_to()); !made) return std::unexpected(made.error());
    if (!o.quiet) introduce(p, planned.about);
    if (o.owner) {
        if (auto log = mine.open_log(o.log); !log) return refuse({log.error()}, p.file, o.json);
    }
    auto up = group::applied::apply(p, os, run_dir, mine.about_to());
    if (!up) return refuse(up.error(), p.file, o.json);

    group::run_changes changes;
    changer hears(os, *up, mine, changes, run_dir, p, o.owner);
    if (auto heard = o.command ? result<void>{} : hears.listen(); !heard) return refuse({heard.error()}, p.file, o.json);
    progress shown(os, 2);
    group::run_options run;
    run.changes = &changes;
    run.stop = catcher->token();
    run.patience_ns = begin.patience_ns;
    run.mark = std::string(group::owner_variable) + "=" + begin.who.mark();
    run.about_to = mine.about_to();
    run.prepared = [&](const auto& pools) { return mine.prepared(pools); };
    run.stay = o.owner;
    run.foreground = o.command;
    bool told = false;
    run.watch = [&](const std::vector<group::job_report>& jobs) {
        mine.jobs(jobs);
        if (o.owner && !std::exchange(told, true)) tell_starter(os, mine.now());
        if (!o.quiet && !o.owner) shown.show(jobs);
    };
    group::run_report r;
    {
        std::stop_callback ends(run.stop, [&] { mine.ending(); });
        r = group::run_jobs(p, os, run);
    }
    shown.clear();
    mine.ending();
    const std::shared_ptr<const group::plan> last = hears.now();
    r.lost = up->broken_partitions(*last);
    r.undo_errors = up->undo();
    if (!r.undo_errors.empty()) mine.keep();

    const exit_code code = code_of(r);
    const std::string json = o.json || o.report ? group::report_json(*last, r, static_cast<int>(code)) + "\n" : "";
    if (auto written = extra.write(os, *last, r, planned.about, json); !written) return std::unexpected(written.error());
    return tell_end(*last, r, o, told, json, code, catcher->signal());
}

std::optional<outcome> in_the_way(sys::os& os, const up_options& o, const std::string& file) {
    const auto room = group::make_room(os, group::run_directory(os), o.name);
    if (room) return std::nullopt;
    return refuse({room.error()}, file, o.json);
}

std::optional<outcome> wrong_name(const char* command, const std::string& name) {
    if (group::is_up_name(name)) return std::nullopt;
    return usage(fmt::format("{}: --name \"{}\": 1 to 64 letters, digits, '-', '_' and '.', the first a letter or digit", command, name));
}

namespace {

struct options : up_options {
    std::string spec_file;
    std::optional<std::string> asked_name;
    bool detach = false;
    bool bare = false;
};

/// From standard input it is one of its own each time.
std::string name_of(sys::os& os, const options& o) {
    return o.asked_name ? *o.asked_name : o.spec_file == "-" ? fmt::format("stdin-{}", os.getpid()) : group::up_name_of(o.spec_file);
}

/// What is up already becomes what the spec says now. Nothing: it is not up.
std::optional<outcome> change_what_is_up(sys::os& os, const options& o) {
    const auto there = group::ups(os, group::run_directory(os));
    if (!there) return std::nullopt;  // whoever brings up will tell
    const auto same = std::ranges::find(there->all, name_of(os, o), &group::up_state::name);
    if (same == there->all.end() || same->phase != group::up_phase::up || !alive(os, *same)) return std::nullopt;
    auto request = request_of(os, o.spec_file);
    if (!request) return std::unexpected(request.error());
    request->bare = o.bare;
    return change_running(os, *same, *request, o.json);
}

outcome bring_up(options o, const std::vector<std::string>& words) {
    sys::os& os = sys::real();
    if (o.log && !o.detach) return usage("up: --log goes with --detach; without it jobs talk to standard error");
    if (o.detach && !o.owner) {
        auto changed = change_what_is_up(os, o);
        return changed ? std::move(*changed) : start_detached(words, o.spec_file == "-", o.json);
    }
    o.owner = o.detach;
    const auto here = os.readlink("/proc/self/cwd");
    if (!here) return std::unexpected(here.error());
    const bool input = o.spec_file == "-";
    o.spec = input || o.spec_file.starts_with('/') ? o.spec_file : *here + "/" + o.spec_file;
    o.name = name_of(os, o);
    if (const auto wrong = wrong_name("up", o.name)) return *wrong;
    if (const auto busy = in_the_way(os, o, o.spec_file)) return *busy;
    auto planned = plan_of(os, o.spec_file, std::nullopt, o.json, o.bare);
    if (!planned) return std::unexpected(planned.error());
    if (!planned->plan) return planned->code;
    return bring_up_plan(*planned, o);
}

}  // namespace

void add_up(registry& all, const std::vector<std::string>& words, bool owner) {
    auto o = std::make_shared<options>();
    o->owner = owner;
    all.add("up", "Bring the cohorts of a spec up, run their jobs, and report")
        .argument("SPEC", o->spec_file, "the spec, a TOML file; - is standard input")
        .flag("--detach", o->detach, "return when all is up; a process stays behind, until `cohort down`")
        .option("--name", o->asked_name, "NAME", "what status and down call it (the spec's file name)")
        .number("--patience", o->patience, 0, 86'400, "seconds that jobs have between SIGTERM and SIGKILL (3)")
        .option("--log", o->log, "FILE", "with --detach: where jobs without a file of their own talk to, and the report goes; it stays")
        .flag("--json", o->json, "print the report as JSON; with --detach: what is up, as `cohort status` does")
        .option("--report", o->report, "FILE", "write the report as JSON to FILE too")
        .option("--html", o->html, "FILE", "write the report as a page with pictures to FILE too")
        .option("--perfetto", o->perfetto, "FILE", "write when each job ran as a trace for Perfetto to FILE too")
        .flag("--bare", o->bare, "the same jobs without their cohorts, to compare: every CPU is everybody's, no set, no cookie")
        .flag("-q,--quiet", o->quiet, "no progress")
        .notes("Stays until the jobs have ended; then everything is put back. An output gets its name only when its job has\n"
               "succeeded and its `verify` command has said yes. A failing job lets the others go on, unless the spec says\n"
               "on_failure = \"stop\". SIGINT and SIGTERM end the children and remove what is unfinished.\n\n"
               "With --detach cohorts, cookies and pools stay when the jobs have ended, until `cohort down NAME`. What an up\n"
               "that was killed (kill -9) has left is removed by the next up, or by down. Of a NAME that is up with --detach, it does\n"
               "the difference: cohorts that differ, and those that hang together with them, end and begin anew; the others go on.\n\n"
               "Exit code 1: a check said no, or the plan cannot hold here; 2: faults in the spec; 3: a cookie that must\n"
               "be kept cannot be kept here; 5: a job failed or was stopped, or a cohort or NAME is up already.\n\n"
               "Example:\n  cohort up examples/two-tenants.toml")
        .run([o, words] { return bring_up(*o, words); });
}

}  // namespace cohort::cli
