// SPDX-License-Identifier: Apache-2.0
// The report of a run as text and as JSON.
#include <nlohmann/json.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/detail/kept_json.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/run.hpp>
#include <cohort/group/table.hpp>

namespace cohort::group {
namespace {

std::string state_text(const job_report& j) {
    switch (j.state) {
        case job_state::ok: return "ok";
        case job_state::failed: return "FAILED";
        case job_state::refused: return "REFUSED";
        case job_state::skipped: return "skipped";
        case job_state::stopped: return "stopped";
        default: return state_name(j.state);
    }
}

std::string check_text(const job_report& j) {
    if (!j.verified) return {};
    return (*j.verified ? "yes, " : "NO, ") + human_seconds(j.verify_seconds);
}

std::string ratio_text(const job_report& j) {
    if (!j.pipe || j.bytes_in == 0 || j.bytes_out == 0) return {};
    return fmt::format("{:.1f} %", 100.0 * static_cast<double>(j.bytes_out) / static_cast<double>(j.bytes_in));
}

nlohmann::json error_json(const error& e) {
    return {{"code", errno_name(e.code)}, {"object", e.object}, {"act", e.act}, {"reason", e.reason}, {"line", e.line()}};
}

nlohmann::json job_json(const job_plan& of, const job_report& j) {
    nlohmann::json out{{"name", j.name},
                       {"cohort", j.cohort},
                       {"kind", j.flow ? "flow" : j.pipe ? "pipe" : "exec"},
                       {"cpus", j.cpus.list()},
                       {"threads", j.threads},
                       {"started", j.started},
                       {"seconds", j.seconds},
                       {"bytes_in", j.bytes_in},
                       {"bytes_out", j.bytes_out},
                       {"output", j.output}};
    out["state"] = state_word(j.state);
    out["outputs"] = j.outputs;
    out["cwd"] = of.cwd;
    if (j.pipe) out["work"] = work_json(of.spec.pipe);
    if (j.pipe && ended(j.state)) out["order"] = {{"blocks", j.blocks}, {"in_order", j.ordered}};
    if (j.pipe && j.window > 0) out["window"] = {{"blocks", j.window}, {"bytes", j.window_bytes}, {"waits", j.waits}};
    if (j.latency) out["latency"] = {{"p50_seconds", j.latency->p50}, {"p99_seconds", j.latency->p99}, {"max_seconds", j.latency->max}};
    if (j.flow && j.window > 0) {
        out["flow"] = {{"records", j.flow->records}, {"results", j.flow->results}, {"producer_waits", j.flow->producer_waits}, {"workers_wait", j.flow->workers_wait}, {"consumer_waits", j.flow->consumer_waits}, {"freed_after", j.flow->left}};
    }
    if (j.pipe && !j.flow && j.window > 0) out["stuck"] = j.stuck.empty() ? nlohmann::json(nullptr) : nlohmann::json(j.stuck);
    if (j.seconds > 0) out["bytes_per_second"] = j.work_bytes() / j.seconds;
    if (j.pipe && j.bytes_in > 0) out["ratio"] = static_cast<double>(j.bytes_out) / static_cast<double>(j.bytes_in);
    if (j.cpu_known) out["cpu_seconds"] = j.cpu_seconds;
    out["cpu_seen"] = j.cpu_seen ? nlohmann::json{{"inside_seconds", j.cpu_seen->inside}, {"outside_seconds", j.cpu_seen->outside}} : nlohmann::json(nullptr);
    out["remote_memory"] = j.remote_peak ? nlohmann::json{{"peak_bytes", *j.remote_peak}} : nlohmann::json(nullptr);
    out["verified"] = j.verified ? nlohmann::json(*j.verified) : nlohmann::json(nullptr);
    if (j.verified) out["verify_seconds"] = j.verify_seconds;
    if (!j.exits.empty()) out["exits"] = j.exits;
    if (!j.pipe) out["restarts"] = j.restarts;
    if (j.why) out["error"] = error_json(*j.why);
    return out;
}

std::string pool_text(const pool_report& r) {
    const auto bytes = [](std::uint64_t n) { return human_bytes(static_cast<double>(n)); };
    std::string out = fmt::format("\n  the pool of cohort \"{}\", {}, held {} at most; at the end {} objects and {}", r.cohort, bytes(r.bytes), bytes(r.peak), r.left, bytes(r.left_bytes));
    if (r.freed > 0) out += fmt::format("; {} objects of processes that were gone were freed", r.freed);
    if (r.lost > 0) out += fmt::format("; LOST: {} objects", r.lost);
    return out;
}

nlohmann::json pool_json(const pool_report& r) {
    return {{"cohort", r.cohort}, {"bytes", r.bytes}, {"limit", r.limit > 0 ? nlohmann::json(r.limit) : nlohmann::json(nullptr)}, {"peak", r.peak}, {"freed", r.freed}, {"left", r.left}, {"left_bytes", r.left_bytes},
            {"lost", r.lost}};
}

std::string seconds_of(std::uint64_t ns) { return human_seconds(static_cast<double>(ns) / 1e9); }

/// What a cookie cost, and that it was kept.
std::string executor_text(const coresched::executor_report& r) {
    std::uint64_t forced = 0;
    for (const auto& c : r.cpus) forced += c.figures.forced_idle_ns;
    std::string out = fmt::format("\n  executor, cores as of {}: blocks of unequal cookies ran {} ns on one core together; {} turns; CPUs were forced idle for {}", r.source, r.overlap_ns, r.turns, seconds_of(forced));
    if (r.astray > 0) out += fmt::format("; {} blocks were found on another core than theirs, and of them nothing is proved", r.astray);
    for (const auto& t : r.tenants) {
        out += fmt::format("\n    cohort \"{}\": ran {}, others' CPUs idle for it {}", t.name, seconds_of(t.figures.runtime_ns), seconds_of(t.figures.forced_idle_ns));
    }
    return out;
}

nlohmann::json executor_json(const coresched::executor_report& r) {
    nlohmann::json out{{"cores_from", r.source}, {"overlap_ns", r.overlap_ns}, {"stretches", r.stretches}, {"turns", r.turns}, {"changing_ns", r.changing_ns}, {"change_p50_ns", r.change_p50_ns}, {"change_p99_ns", r.change_p99_ns},
                       {"longest_wait_ns", r.longest_wait_ns}, {"astray", r.astray}, {"wide", r.wide}};
    for (const char* key : {"cpus", "cohorts"}) out[key] = nlohmann::json::array();
    for (const auto& c : r.cpus) {
        out["cpus"].push_back({{"cpu", c.number}, {"busy_ns", c.figures.busy_ns}, {"idle_ns", c.figures.idle_ns}, {"forced_idle_ns", c.figures.forced_idle_ns}});
    }
    for (const auto& t : r.tenants) {
        out["cohorts"].push_back({{"cohort", t.name}, {"ran_ns", t.figures.runtime_ns}, {"forced_idle_ns", t.figures.forced_idle_ns}, {"times_in", t.figures.switches}});
    }
    return out;
}

/// A column a figure.
nlohmann::json samples_json(const run_report& r) {
    nlohmann::json out{{"seconds", nlohmann::json::array()}, {"jobs", nlohmann::json::array()}, {"pools", nlohmann::json::array()}};
    for (const run_sample& s : r.samples) out["seconds"].push_back(s.seconds);
    for (std::size_t j = 0; j < r.jobs.size(); ++j) {
        nlohmann::json one{{"name", r.jobs[j].name}, {"bytes_in", nlohmann::json::array()}, {"bytes_out", nlohmann::json::array()}, {"queues", nlohmann::json::array()}};
        for (const char* name : queue_names(r.jobs[j])) one["queues"].push_back({{"name", name}, {"depth", nlohmann::json::array()}});
        for (const run_sample& s : r.samples) {
            const run_sample::job& then = s.jobs[j];
            one["bytes_in"].push_back(then.bytes_in), one["bytes_out"].push_back(then.bytes_out);
            for (std::size_t q = 0; q < one["queues"].size(); ++q) one["queues"][q]["depth"].push_back(q < then.queues.size() ? nlohmann::json(then.queues[q]) : nlohmann::json(nullptr));
        }
        out["jobs"].push_back(std::move(one));
    }
    for (std::size_t p = 0; p < r.pools.size(); ++p) {
        nlohmann::json bytes = nlohmann::json::array();
        for (const run_sample& s : r.samples) {
            const auto it = s.pools.find(r.pools[p].cohort);
            bytes.push_back(it == s.pools.end() ? nlohmann::json(nullptr) : nlohmann::json(it->second));
        }
        out["pools"].push_back({{"cohort", r.pools[p].cohort}, {"bytes", std::move(bytes)}});
    }
    return out;
}

}  // namespace

std::string outside_text(const job_report& j) {
    if (!j.cpu_seen) return {};
    const auto [inside, outside] = *j.cpu_seen;
    if (outside <= 0) return "0 %";
    return fmt::format("{:.1f} %", 100 * outside / (inside + outside));
}

std::string report_text(const plan& p, const run_report& r) {
    const auto good = std::count_if(r.jobs.begin(), r.jobs.end(), [](const job_report& j) { return j.state == job_state::ok; });
    const auto checked = std::count_if(r.jobs.begin(), r.jobs.end(), [](const job_report& j) { return j.verified == true; });
    std::string out = fmt::format("{} of {} jobs ok, {} re-checked; {} on machine {}, {} usable\n\n", good, r.jobs.size(), checked,
                                  human_seconds(r.seconds), p.machine.name, cpus_text(p.machine.usable));
    using enum align;
    text_table t({"cohort", "job", "CPUs", "result", "time", "read", "written", "size", "speed", "CPU time", "outside", "remote", "in order", "check says"},
                 {left, left, left, left, right, right, right, right, right, right, right, right, right, left});
    for (const job_report& j : r.jobs) {
        const bool ran = j.state != job_state::skipped && j.seconds > 0;
        const bool moved = ran && j.work_bytes() > 0;
        const bool much = moved && (j.pipe || j.work_bytes() >= 1 << 20);  // the speed of a few bytes says nothing
        t.row({j.cohort, j.name, j.cpus.list(), state_text(j), ran ? human_seconds(j.seconds) : "",
               j.pipe && ran ? human_bytes(static_cast<double>(j.bytes_in)) : "",
               moved ? human_bytes(static_cast<double>(j.bytes_out)) : "", ratio_text(j),
               much ? human_bytes(j.work_bytes() / j.seconds) + "/s" : "", ran && j.cpu_known ? human_seconds(j.cpu_seconds) : "",
               outside_text(j), j.remote_peak ? human_bytes(static_cast<double>(*j.remote_peak)) : "",
               j.pipe && j.state == job_state::ok ? fmt::format("{} of {}", j.ordered, j.blocks) : "", check_text(j)});
    }
    out += t.text("  ");
    for (const cohort_plan& c : p.cohorts) {
        if (c.keep.policy == cpuset_policy::none) continue;
        out += fmt::format("\n  cohort \"{}\" was kept by {}", c.name, c.keep.text());
        for (const std::string& a : c.advisory) out += "\n    only advisory: " + a;
    }
    for (const cohort_plan& c : p.cohorts) {
        if (!c.cookie.name.empty()) out += fmt::format("\n  cohort \"{}\": cookie {}", c.name, c.cookie.text());
    }
    if (r.executor) out += executor_text(*r.executor);
    for (const memory_report& m : r.memory) {
        out += fmt::format("\n  blocks of cohort \"{}\" took {} at most{}", m.cohort, human_bytes(static_cast<double>(m.peak)),
                           m.limit > 0 ? ", its limit is " + human_bytes(static_cast<double>(m.limit)) : "");
    }
    for (const pool_report& one : r.pools) out += pool_text(one);
    if (!out.ends_with('\n')) out += "\n";
    for (const job_report& j : r.jobs) {
        if (j.flow && j.window > 0) {
            out += fmt::format("  \"{}\": {} records and {} in flight at most; {} records, {} results; the producer waited {} times for room, the workers {} times, the consumer {} times for work{}\n", j.name, j.window,
                               human_bytes(static_cast<double>(j.window_bytes)), j.flow->records, j.flow->results, j.flow->producer_waits, j.flow->workers_wait, j.flow->consumer_waits,
                               j.flow->left > 0 && j.state != job_state::ok ? fmt::format("; {} objects that its processes had left were freed", j.flow->left) : "");
        } else if (j.window > 0) {
            out += fmt::format("  \"{}\": {} blocks and {} in flight at most; its reader waited {} times for room{}{}\n", j.name, j.window, human_bytes(static_cast<double>(j.window_bytes)), j.waits,
                               j.latency ? fmt::format("; a block took {} from reader to output, 99 % at most {}, all at most {}", human_seconds(j.latency->p50), human_seconds(j.latency->p99), human_seconds(j.latency->max)) : "",
                               j.stuck.empty() ? "" : "; stuck: " + j.stuck);
        }
    }
    for (const job_report& j : r.jobs) {
        if (j.why) out += fmt::format("\n  {} \"{}\": {}", state_text(j), j.name, j.why->line());
    }
    for (const job_report& j : r.replaced) {
        out += fmt::format("\n  before a change \"{}\" {}{}", j.name, state_name(j.state), j.seconds > 0 ? " after " + human_seconds(j.seconds) : "");
    }
    if (good != static_cast<std::ptrdiff_t>(r.jobs.size()) || !r.replaced.empty()) out += "\n";
    return out;
}

std::string report_json(const plan& p, const run_report& r, int exit_code) {
    nlohmann::json out{{"schema_version", 1}, {"kind", "report"},   {"file", p.file},           {"ok", r.ok()},
                       {"exit_code", exit_code}, {"seconds", r.seconds}, {"workdir", p.workdir}};
    out["machine"] = {{"name", p.machine.name}, {"possible", p.machine.possible.list()}, {"usable", p.machine.usable.list()}};
    for (const char* key : {"cohorts", "jobs", "replaced", "lost", "undo_errors"}) out[key] = nlohmann::json::array();
    for (const cohort_plan& c : p.cohorts) {
        auto shared = nlohmann::json::array();
        for (const unusable& s : c.shared) shared.push_back({{"cpus", s.cpus.list()}, {"cohort", s.reason}});
        out["cohorts"].push_back({{"name", c.name}, {"cpus", c.cpus.list()}, {"shared", shared}, {"kept_by", kept_json(c.keep)}, {"cookie", cookie_json(c.cookie)}, {"enforced", c.enforced}, {"advisory", c.advisory}});
    }
    out["memory"] = nlohmann::json::array();
    for (const memory_report& m : r.memory) {
        out["memory"].push_back({{"cohort", m.cohort}, {"limit", m.limit > 0 ? nlohmann::json(m.limit) : nlohmann::json(nullptr)}, {"peak", m.peak}});
    }
    out["pools"] = nlohmann::json::array();
    for (const pool_report& one : r.pools) out["pools"].push_back(pool_json(one));
    out["executor"] = r.executor ? executor_json(*r.executor) : nlohmann::json(nullptr);
    for (std::size_t i = 0; i < r.jobs.size(); ++i) out["jobs"].push_back(job_json(p.jobs[i], r.jobs[i]));
    out["samples"] = samples_json(r);
    for (const job_report& j : r.replaced) {
        out["replaced"].push_back({{"name", j.name}, {"cohort", j.cohort}, {"state", state_word(j.state)}, {"started", j.started}, {"seconds", j.seconds}, {"bytes_in", j.bytes_in}, {"bytes_out", j.bytes_out}});
    }
    for (const error& e : r.lost) out["lost"].push_back(error_json(e));
    for (const error& e : r.undo_errors) out["undo_errors"].push_back(error_json(e));
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cohort::group
