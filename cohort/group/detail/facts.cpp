// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/facts.hpp>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cohort/group/detail/kept_json.hpp>

namespace cohort::group::detail {
namespace {

/// Words that differ are told apart, whatever is in them.
std::string words_text(const std::vector<std::string>& words) { return fmt::format("{}", words); }

/// Empty values are not said.
class list {
public:
    explicit list(facts& out, std::string before = {}) : out_(out), before_(std::move(before)) {}
    void say(const char* what, std::string text) {
        if (!text.empty()) out_[before_ + what] = std::move(text);
    }
    void say(const char* what, const std::vector<std::string>& words) {
        if (!words.empty()) out_[before_ + what] = words_text(words);
    }
    void say(const char* what, std::uint64_t number) {
        if (number != 0) out_[before_ + what] = std::to_string(number);
    }

private:
    facts& out_;
    const std::string before_;
};

void say_cohort(const plan& p, const cohort_plan& c, list out) {
    out.say("inside", c.inside);
    out.say("cpus", c.cpus.list());
    out.say("kept by", c.keep.text());
    out.say("set", c.keep.procs);
    out.say("cookie", c.cookie.name.empty() ? "" : c.cookie.name + ", " + c.cookie.text());
    out.say("memory", c.memory);
    out.say("pool", c.pool || !c.pool.of.empty() ? pool_json(c.pool).dump() : "");
    if (!c.cookie.passes_gate) return;
    // Which CPUs are siblings makes a difference to those whose pipes wait for others.
    out.say("cores", fmt::format("{}", p.machine.core));
}

void say_streams(const job_plan& j, list out) {
    const pipe_spec& s = j.spec.pipe;
    out.say("input", s.input);
    out.say("input command", s.input_command.words);
    out.say("output", s.output);
    out.say("output command", s.output_command.words);
    out.say("plugin", s.plugin);
    out.say("codec", s.codec);
    out.say("level", s.level ? std::to_string(*s.level) : "");
    out.say("decompress", s.decompress ? "yes" : "");
    out.say("command", s.command.words);
    out.say("records", s.records ? "yes" : "");
    out.say("block", s.block);
}

void say_exec(const job_plan& j, list out) {
    const exec_spec& s = j.spec.exec;
    std::vector<std::string> env;
    for (const auto& [name, value] : s.env) env.push_back(name + "=" + value);
    out.say("command", s.command.words);
    out.say("restart", s.restart ? s.restart.text() : "");
    out.say("env", env);
    out.say("stdin", s.stdin_file);
    out.say("stdout", s.stdout_file);
    out.say("stderr", s.stderr_file);
}

void say_job(const job_plan& j, list out) {
    out.say("kind", kind_name(j.spec.kind));
    out.say("cpus", j.cpus.list());
    out.say("threads", static_cast<std::uint64_t>(j.threads));
    out.say("memory", j.memory);
    out.say("after", j.spec.after);
    out.say("verify", j.spec.verify.words);
    out.say("cwd", j.cwd);
    if (j.spec.streams()) say_streams(j, out);
    else say_exec(j, out);
}

/// The job that a fact is about, `job "pack"`; empty: it is about the cohort.
std::string job_in(const std::string& fact) { return fact.starts_with("job \"") ? fact.substr(0, fact.find(": ")) : ""; }

}  // namespace

facts facts_of(const plan& p, const std::string& cohort) {
    facts out;
    for (const cohort_plan& c : p.cohorts) {
        if (c.name == cohort) say_cohort(p, c, list(out));
    }
    for (const job_plan& j : p.jobs) {
        if (j.spec.cohort == cohort) say_job(j, list(out, "job \"" + j.spec.name + "\": "));
    }
    if (p.stop_on_failure) out["on_failure"] = "stop";
    return out;
}

std::vector<std::string> differing_facts(const facts& was, const facts& is) {
    const auto jobs = [](const facts& of) {
        std::vector<std::string> out;
        for (const auto& [what, text] : of) {
            if (const std::string job = job_in(what); !job.empty() && (out.empty() || out.back() != job)) out.push_back(job);
        }
        return out;
    };
    const auto had = jobs(was), has = jobs(is);
    const auto in_both = [&](const std::string& what) {
        const std::string job = job_in(what);
        return job.empty() || (std::ranges::find(had, job) != had.end() && std::ranges::find(has, job) != has.end());
    };
    std::vector<std::string> out;
    for (const auto& [what, text] : is) {
        const auto it = was.find(what);
        if (!in_both(what) || (it != was.end() && it->second == text)) continue;
        out.push_back(it == was.end() ? fmt::format("{} {}", what, text) : fmt::format("{} {}, not {}", what, text, it->second));
    }
    for (const auto& [what, text] : was) {
        if (in_both(what) && !is.contains(what)) out.push_back(fmt::format("no {} {}", what, text));
    }
    for (const std::string& job : has) {
        if (std::ranges::find(had, job) == had.end()) out.push_back(job + " is new");
    }
    for (const std::string& job : had) {
        if (std::ranges::find(has, job) == has.end()) out.push_back(job + " is no more");
    }
    return out;
}

}  // namespace cohort::group::detail
