// SPDX-License-Identifier: Apache-2.0
// A plan as text and as JSON.
#include <nlohmann/json.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/detail/kept_json.hpp>
#include <cohort/group/table.hpp>

namespace cohort::group {
namespace {

std::string job_text(const job_plan& j) {
    const pipe_spec& p = j.spec.pipe;
    if (j.spec.kind == job_spec::form::exec) {
        const std::string times = j.spec.exec.instances > 1 ? fmt::format("{} x ", j.spec.exec.instances) : "";
        return times + j.spec.exec.command.text() + (j.spec.exec.restart ? "   (started again " + j.spec.exec.restart.text() + ")" : "");
    }
    std::string work = !p.codec.empty() ? p.codec : !p.plugin.empty() ? p.plugin : p.command.text();
    if (p.decompress) work += " -d";
    if (p.level) work += fmt::format(" -{}", *p.level);
    const std::string from = p.input.empty() ? p.input_command.text() : p.input;
    const std::string to = p.output.empty() ? p.output_command.text() : p.output;
    return fmt::format("{} | {} | {}   ({} {}{})", from, work, to, j.threads, j.threads == 1 ? "thread" : "threads", j.spec.kind == job_spec::form::flow ? ", three processes joined by the pool" : "");
}

void cohort_text(std::string& out, const cohort_plan& c) {
    out += fmt::format("\ncohort \"{}\"{}: {} (asked: {})\n", c.name, c.inside.empty() ? "" : " inside of \"" + c.inside + "\"", cpus_text(c.cpus), c.asked_text);
    for (const unusable& d : c.dropped) out += fmt::format("  dropped   {}: {}\n", cpus_text(d.cpus), d.reason);
    for (const unusable& s : c.shared) out += fmt::format("  shared    {} with cohort \"{}\"\n", cpus_text(s.cpus), s.reason);
    if (c.keep.policy != cpuset_policy::none) out += fmt::format("  kept by   {}\n", c.keep.text());
    if (!c.cookie.name.empty()) out += fmt::format("  cookie    {}\n", c.cookie.text());
    for (const std::string& e : c.enforced) out += fmt::format("  enforced  {}\n", e);
    for (const std::string& a : c.advisory) out += fmt::format("  advisory  {}\n", a);
    for (const std::string& o : c.if_offline) out += fmt::format("  offline   {}\n", o);
}

void foresight_text(std::string& out, const foresight& f) {
    using enum align;
    constexpr std::size_t most_lines = 32;
    out += fmt::format("\nwhat cookies will cost while every CPU of these cohorts has work: simulated, {} {} of {} {}; a core with all siblings busy does {:.2f} times the work of one\n", f.cores, f.cores == 1 ? "core" : "cores", f.kinds,
                       f.kinds == 1 ? "kind" : "kinds", f.smt_yield);
    const auto nosmt = std::ranges::find(f.courses, "nosmt", &foresight::course::policy);
    text_table courses({"rules", "CPUs' worth of work", "of nosmt", "forced idle"}, {left, right, right, right});
    for (const foresight::course& c : f.courses) {
        courses.row({c.policy, fmt::format("{:.2f}", c.throughput), nosmt->throughput > 0 ? fmt::format("{:.2f}", c.throughput / nosmt->throughput) : "", fmt::format("{:.1f} %", 100 * c.forced_idle)});
    }
    out += courses.text("  ");
    if (f.pays_from_yield) out += fmt::format("  as much as nosmt from {:.2f} times on\n", *f.pays_from_yield);
    text_table tenants({"cohort", "CPUs", "CPUs' worth of work", "without cookies", "others idle for it"}, {left, right, right, right, right});
    for (std::size_t i = 0; i < std::min(f.tenants.size(), most_lines); ++i) {
        const foresight::tenant& t = f.tenants[i];
        tenants.row({t.name, std::to_string(t.cpus), fmt::format("{:.2f}", t.work), fmt::format("{:.2f}", t.work_unprotected), fmt::format("{:.2f}", t.forces_idle)});
    }
    out += tenants.text("  ");
    if (f.tenants.size() > most_lines) out += fmt::format("  ... and {} more cohorts\n", f.tenants.size() - most_lines);
    if (f.left_out > 0) out += fmt::format("  {} cores more have cookies, of rarer kinds or with too many cohorts, and were not simulated\n", f.left_out);
}

nlohmann::json foresight_json(const foresight& f) {
    nlohmann::json out{{"smt_yield", f.smt_yield}, {"cores", f.cores}, {"kinds", f.kinds}, {"cores_left_out", f.left_out}, {"pays_from_yield", f.pays_from_yield ? nlohmann::json(*f.pays_from_yield) : nlohmann::json(nullptr)}};
    for (const char* key : {"policies", "cohorts"}) out[key] = nlohmann::json::array();
    for (const foresight::course& c : f.courses) out["policies"].push_back({{"policy", c.policy}, {"throughput", c.throughput}, {"forced_idle", c.forced_idle}});
    for (const foresight::tenant& t : f.tenants) out["cohorts"].push_back({{"cohort", t.name}, {"cpus", t.cpus}, {"work", t.work}, {"work_unprotected", t.work_unprotected}, {"forces_idle", t.forces_idle}});
    return out;
}

void jobs_text(std::string& out, const plan& p) {
    if (p.jobs.empty()) return;
    out += "\njobs\n";
    for (int wave = 1; wave <= p.waves(); ++wave) {
        for (const job_plan& j : p.jobs) {
            if (j.wave != wave) continue;
            std::string after;
            for (const std::string& a : j.spec.after) after += (after.empty() ? "after " : ", ") + a;
            out += fmt::format("  {}. \"{}\" in \"{}\" on {}{}\n", wave, j.spec.name, j.spec.cohort, cpus_text(j.cpus),
                               after.empty() ? "" : ", " + after);
            out += "       " + job_text(j) + "\n";
            if (!j.spec.verify.empty()) out += "       then check: " + j.spec.verify.text() + "\n";
        }
    }
}

nlohmann::json cpus_json(const cpumask& cpus) { return {{"list", cpus.list()}, {"count", cpus.weight()}}; }

nlohmann::json lost_json(const std::vector<unusable>& list, const char* key) {
    auto out = nlohmann::json::array();
    for (const unusable& u : list) out.push_back({{"cpus", u.cpus.list()}, {key, u.reason}});
    return out;
}

nlohmann::json job_json(const job_plan& j) {
    nlohmann::json out{{"name", j.spec.name},   {"cohort", j.spec.cohort}, {"cpus", j.cpus.list()}, {"wave", j.wave},
                       {"after", j.spec.after}, {"cwd", j.cwd},            {"threads", j.threads},
                       {"kind", kind_name(j.spec.kind)}};
    if (!j.spec.verify.empty()) out["verify"] = j.spec.verify.words;
    if (j.spec.kind == job_spec::form::exec) {
        out["command"] = j.spec.exec.command.words;
        if (const restart_rule& r = j.spec.exec.restart) {
            out["restart"] = {{"when", r.kind == restart_rule::form::always ? "always" : "on-failure"}, {"max", r.max > 0 ? nlohmann::json(r.max) : nlohmann::json(nullptr)},
                              {"backoff_seconds", static_cast<double>(r.backoff_ns) / 1e9}, {"longest_seconds", static_cast<double>(r.longest_ns) / 1e9}};
        }
        return out;
    }
    out.update(work_json(j.spec.pipe));
    return out;
}

}  // namespace

nlohmann::json work_json(const pipe_spec& p) {
    nlohmann::json out = nlohmann::json::object();
    if (p.input.empty()) out["input_command"] = p.input_command.words;
    else out["input"] = p.input;
    if (p.output.empty()) out["output_command"] = p.output_command.words;
    else out["output"] = p.output;
    if (!p.codec.empty()) out["codec"] = p.codec;
    else if (!p.plugin.empty()) out["plugin"] = p.plugin;
    else out["command"] = p.command.words;
    if (p.level) out["level"] = *p.level;
    if (p.decompress) out["decompress"] = true;
    if (p.records) out["records"] = true;
    return out;
}

const char* kind_name(job_spec::form kind) {
    static constexpr const char* names[] = {"pipe", "exec", "flow"};
    return names[static_cast<int>(kind)];
}

nlohmann::json pool_json(const pool_spec& p) {
    static constexpr const char* huge[] = {"never", "prefer", "require"};
    if (!p.of.empty()) return {{"of", p.of}, {"members", p.read_only ? "ro" : "rw"}};
    if (!p) return nullptr;
    return {{"bytes", p.bytes}, {"huge", huge[static_cast<int>(p.huge)]}, {"members", p.read_only ? "ro" : "rw"}, {"limit", p.limit > 0 ? nlohmann::json(p.limit) : nlohmann::json(nullptr)}};
}

nlohmann::json kept_json(const keeping& k) {
    static constexpr const char* policies[] = {"none", "require", "prefer", "emulate"};
    static constexpr const char* forms[] = {"affinity", "emulated", "kernel"};
    nlohmann::json out{{"policy", policies[static_cast<int>(k.policy)]}, {"by", forms[static_cast<int>(k.by)]}, {"backend", k.backend}, {"text", k.text()}};
    for (const auto& [key, text] : {std::pair{"set", &k.set}, {"partition", &k.partition}, {"fallback", &k.fallback}}) {
        if (!text->empty()) out[key] = *text;
    }
    if (!k.mems.empty()) out["mems"] = k.mems.list();
    return out;
}

std::string keeping::text() const {
    std::string out = by == form::kernel ? "set " + set + ", " + backend : backend;
    if (!partition.empty() && by == form::kernel) out += ", partition " + partition;
    if (!mems.empty()) out += ", nodes " + mems.list();
    return fallback.empty() ? out : out + " (" + fallback + ")";
}

const char* form_name(cookie_keeping::form by) {
    static constexpr const char* names[] = {"nothing", "whole cores", "executor", "kernel"};
    return names[static_cast<int>(by)];
}

nlohmann::json cookie_json(const cookie_keeping& k) {
    static constexpr const char* policies[] = {"require", "prefer", "emulate"};
    nlohmann::json out{{"executor_gate", k.passes_gate}};
    if (k.name.empty()) return k.passes_gate ? out : nlohmann::json(nullptr);
    out.update({{"name", k.name}, {"parts", k.parts}, {"policy", policies[static_cast<int>(k.policy)]}, {"by", form_name(k.by)}, {"text", k.text()}});
    if (!k.fallback.empty()) out["fallback"] = k.fallback;
    if (!k.unkept.empty()) out["unkept"] = k.unkept;
    return out;
}

std::string cookie_keeping::text() const {
    std::string out = fmt::format("\"{}\" kept by {}", name, form_name(by));
    if (!unkept.empty()) out += ": " + unkept;
    return fallback.empty() ? out : out + " (not the kernel: " + fallback + ")";
}

std::string plan_text(const plan& p) {
    const machine_view& m = p.machine;
    std::string out = fmt::format("plan of {} on machine {}: {} of {} CPUs usable\n", p.file, m.name, m.usable.weight(), m.possible.weight());
    for (const unusable& u : m.not_usable) out += fmt::format("  not usable  {}: {}\n", cpus_text(u.cpus), u.reason);
    for (const std::string& n : p.notes) out += fmt::format("  note  {}\n", n);
    for (const cohort_plan& c : p.cohorts) cohort_text(out, c);
    if (p.foreseen) foresight_text(out, *p.foreseen);
    jobs_text(out, p);
    out += "\nsteps\n";
    std::size_t widest = 0;
    for (const step& s : p.steps) {
        if (!s.undo_text().empty()) widest = std::max(widest, s.text().size());
    }
    int number = 0;
    for (const step& s : p.steps) {
        const std::string undo = s.undo_text();
        out += undo.empty() ? fmt::format("  {:>3}  {}\n", ++number, s.text())
                            : fmt::format("  {:>3}  {:<{}}   undo: {}\n", ++number, s.text(), std::min<std::size_t>(widest, 60), undo);
    }
    if (p.holds()) return out;
    out += "\nthis plan cannot hold:\n";
    for (const refusal& r : p.refusals) out += "  " + r.line() + "\n";
    return out;
}

std::string plan_json(const plan& p) {
    nlohmann::json out{{"schema_version", 1}, {"kind", "plan"}, {"file", p.file}, {"workdir", p.workdir}, {"holds", p.holds()},
                       {"on_failure", p.stop_on_failure ? "stop" : "continue"}, {"notes", p.notes}};
    out["machine"] = {{"name", p.machine.name},
                      {"live", p.machine.live},
                      {"possible", cpus_json(p.machine.possible)},
                      {"usable", cpus_json(p.machine.usable)},
                      {"not_usable", lost_json(p.machine.not_usable, "reason")}};
    if (p.machine.cpu_limit) out["machine"]["cpu_limit"] = *p.machine.cpu_limit;
    for (const char* key : {"cohorts", "jobs", "steps", "refusals"}) out[key] = nlohmann::json::array();
    for (const cohort_plan& c : p.cohorts) {
        out["cohorts"].push_back({{"name", c.name},
                                  {"inside", c.inside.empty() ? nlohmann::json(nullptr) : nlohmann::json(c.inside)},
                                  {"asked", c.asked_text},
                                  {"asked_cpus", c.asked.list()},
                                  {"cpus", cpus_json(c.cpus)},
                                  {"memory", c.memory > 0 ? nlohmann::json(c.memory) : nlohmann::json(nullptr)},
                                  {"pool", pool_json(c.pool)},
                                  {"dropped", lost_json(c.dropped, "reason")},
                                  {"shared", lost_json(c.shared, "cohort")},
                                  {"siblings_elsewhere", c.siblings_elsewhere.list()},
                                  {"jobs", c.jobs},
                                  {"kept_by", kept_json(c.keep)},
                                  {"cookie", cookie_json(c.cookie)},
                                  {"enforced", c.enforced},
                                  {"advisory", c.advisory}, {"if_offline", c.if_offline}});
    }
    out["foreseen"] = p.foreseen ? foresight_json(*p.foreseen) : nlohmann::json(nullptr);
    for (const job_plan& j : p.jobs) out["jobs"].push_back(job_json(j));
    for (const step& s : p.steps) {
        static constexpr const char* names[] = {"claim_name", "make_directory", "check_command", "check_input", "check_output", "change_cpuset", "make_pool", "run_job"};
        nlohmann::json row{{"kind", names[static_cast<int>(s.kind)]}, {"object", s.object}, {"target", s.target}, {"text", s.text()}};
        if (!s.undo_text().empty()) row["undo"] = s.undo_text();
        out["steps"].push_back(std::move(row));
    }
    for (const refusal& r : p.refusals) {
        out["refusals"].push_back({{"line", r.what.at.line}, {"column", r.what.at.column}, {"object", r.what.object}, {"text", r.what.text}});
    }
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cohort::group
