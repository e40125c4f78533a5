// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/state.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/group/detail/kept_json.hpp>
#include <cohort/group/detail/pools.hpp>

namespace cohort::group {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* phases[] = {"starting", "up", "ending"};
constexpr const char* forms[] = {"claim", "file", "directory", "cpuset", "pool"};

template <class Enum, std::size_t N>
Enum one_of(const char* const (&words)[N], const std::string& word) {
    const auto it = std::find(std::begin(words), std::end(words), word);
    if (it == std::end(words)) throw json::other_error::create(501, "unknown word \"" + word + "\"", nullptr);
    return static_cast<Enum>(it - std::begin(words));
}

up_cohort cohort_of(const json& j) {
    up_cohort c{j.at("name"), j.at("cpus"), j.at("kept"), j.at("set"), j.at("procs"), j.at("cookie"), j.at("cookie_kept"), {}};
    if (!j.at("pool").is_null()) c.pool = up_pool{j["pool"].at("id"), j["pool"].at("socket"), j["pool"].at("bytes")};
    return c;
}

up_job job_of(const json& j) {
    return {j.at("name"), j.at("cohort"), j.at("kind"), j.at("state"), j.at("cpus"), j.at("pids"), j.at("control"), j.at("bytes_in"), j.at("bytes_out"), j.at("why"), j.value("threads", std::vector<int>()), j.value("queues", std::vector<std::uint64_t>())};
}

up_state state_from(const json& j) {
    up_state s;
    s.name = j.at("name"), s.spec = j.at("spec");
    s.who = {j.at("owner").at("pid"), j.at("owner").at("start"), j.at("owner").at("boot")};
    s.detached = j.at("detached"), s.phase = one_of<up_phase>(phases, j.at("phase"));
    s.since_ns = j.at("since_ns"), s.patience_ns = j.at("patience_ns"), s.log = j.at("log");
    for (const json& c : j.at("cohorts")) s.cohorts.push_back(cohort_of(c));
    for (const json& job : j.at("jobs")) s.jobs.push_back(job_of(job));
    for (const json& u : j.at("undo")) s.undo.push_back({one_of<undo_note::form>(forms, u.at("kind")), u.at("what")});
    return s;
}

/// The directories that mkdir has to make for `path`, the outermost first.
void note_directories(sys::os& os, const std::string& path, std::vector<undo_note>& out) {
    std::filesystem::path sofar;
    for (const auto& part : std::filesystem::path(path)) {
        sofar /= part;
        const undo_note note{undo_note::form::directory, sofar.string()};
        if (!os.stat(note.what) && std::ranges::find(out, note) == out.end()) out.push_back(note);
    }
}

}  // namespace

const char* phase_name(up_phase p) { return phases[static_cast<int>(p)]; }

ordered_json state_value(const up_state& s) {
    ordered_json out{{"name", s.name}, {"spec", s.spec}, {"owner", {{"pid", s.who.pid}, {"start", s.who.start}, {"boot", s.who.boot}}}, {"detached", s.detached}, {"phase", phase_name(s.phase)},
                     {"since_ns", s.since_ns}, {"patience_ns", s.patience_ns}, {"log", s.log}, {"cohorts", ordered_json::array()}, {"jobs", ordered_json::array()}, {"undo", ordered_json::array()}};
    for (const up_cohort& c : s.cohorts) {
        out["cohorts"].push_back({{"name", c.name}, {"cpus", c.cpus}, {"kept", c.kept}, {"set", c.set}, {"procs", c.procs}, {"cookie", c.cookie}, {"cookie_kept", c.cookie_kept},
                                  {"pool", c.pool ? ordered_json{{"id", c.pool->id}, {"socket", c.pool->socket}, {"bytes", c.pool->bytes}} : ordered_json()}});
    }
    for (const up_job& j : s.jobs) {
        out["jobs"].push_back({{"name", j.name}, {"cohort", j.cohort}, {"kind", j.kind}, {"state", j.state}, {"cpus", j.cpus}, {"pids", j.pids}, {"control", j.control},
                               {"bytes_in", j.bytes_in}, {"bytes_out", j.bytes_out}, {"why", j.why}, {"threads", j.threads}, {"queues", j.queues}});
    }
    for (const undo_note& u : s.undo) out["undo"].push_back({{"kind", forms[static_cast<int>(u.kind)]}, {"what", u.what}});
    return out;
}

std::string state_json(const up_state& s) {
    ordered_json out{{"schema_version", 1}, {"kind", "up"}};
    out.update(state_value(s));
    return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

result<up_state> read_state(const std::string& text) {
    const json j = json::parse(text, nullptr, false);
    if (!j.is_object() || j.value("schema_version", 0) != 1) return fail(EPROTO, "state", "read", "it is not understood; is it of another version?");
    try {
        return state_from(j);
    } catch (const json::exception& e) {
        return fail(EPROTO, "state", "read", e.what());
    }
}

std::vector<undo_note> notes_of(const std::vector<step>& steps, sys::os& os, const std::string& run_dir) {
    std::vector<undo_note> out;
    for (const step& t : steps) {
        if (t.kind == step::form::claim_name) out.push_back({undo_note::form::claim, run_dir + "/" + t.target + ".up"});
        if (t.kind == step::form::make_directory) note_directories(os, t.target, out);
        for (const cpuset::operation& op : t.undo) out.push_back({undo_note::form::cpuset, cpuset::to_line(op)});
    }
    return out;
}

up_state state_of(const plan& p, sys::os& os, const std::string& run_dir, const std::string& name, const std::string& spec) {
    up_state s;
    s.name = name, s.spec = spec, s.who = this_owner(os), s.since_ns = os.now();
    s.undo = notes_of(p.steps, os, run_dir);
    note_plan(s, p, {}, os);
    return s;
}

void note_plan(up_state& s, const plan& p, const std::vector<std::string>& kept, sys::os& os) {
    const std::vector<up_cohort> cohorts = std::exchange(s.cohorts, {});
    const std::vector<up_job> jobs = std::exchange(s.jobs, {});
    const auto stays = [&](const std::string& cohort) { return std::ranges::find(kept, cohort) != kept.end(); };
    bool pools = false;
    for (const cohort_plan& c : p.cohorts) {
        pools = pools || c.pool;
        const auto was = std::ranges::find(cohorts, c.name, &up_cohort::name);
        if (was != cohorts.end() && stays(c.name)) s.cohorts.push_back(*was);
        else s.cohorts.push_back({c.name, c.cpus.list(), c.keep.text(), c.keep.set, c.keep.procs, c.cookie.name, c.cookie.name.empty() ? "" : form_name(c.cookie.by), {}});
    }
    for (const job_plan& j : p.jobs) {
        const auto was = std::ranges::find(jobs, j.spec.name, &up_job::name);
        if (was != jobs.end() && stays(j.spec.cohort)) s.jobs.push_back(*was);
        else s.jobs.push_back({j.spec.name, j.spec.cohort, kind_name(j.spec.kind), state_word(job_state::waiting), j.cpus.list(), {}, "", 0, 0, ""});
    }
    // Of a pool of somebody else's broker whose cohort has ended nothing is left to undo.
    std::erase_if(s.undo, [&](const undo_note& n) {
        if (n.kind != undo_note::form::pool) return false;
        return std::ranges::none_of(s.cohorts, [&](const up_cohort& c) { return c.pool && n.what.starts_with(std::to_string(c.pool->id) + " "); });
    });
    if (!pools || !os.getenv("COHORT_SOCKET").value_or("").empty()) return;
    const std::string folder = detail::pool_folder(os);
    add_notes(s, {{undo_note::form::directory, folder}, {undo_note::form::file, folder + "/pool.sock"}, {undo_note::form::file, folder + "/pool.sock.lock"}});
}

void add_notes(up_state& s, const std::vector<undo_note>& notes) {
    for (const undo_note& n : notes) {
        if (std::ranges::find(s.undo, n) == s.undo.end()) s.undo.push_back(n);
    }
}

void drop_notes(up_state& s, const std::vector<undo_note>& notes) {
    std::erase_if(s.undo, [&](const undo_note& n) { return std::ranges::find(notes, n) != notes.end(); });
}

void note_jobs(up_state& s, const std::vector<job_report>& jobs) {
    for (std::size_t i = 0; i < jobs.size() && i < s.jobs.size(); ++i) {
        up_job& to = s.jobs[i];
        const job_report& from = jobs[i];
        to.state = state_word(from.state), to.pids = from.pids, to.control = from.control;
        to.bytes_in = from.bytes_in, to.bytes_out = from.bytes_out;
        to.threads = from.threads_here, to.queues = from.queues;
        to.why = from.why ? from.why->line() : "";
    }
}

bool is_up_name(const std::string& name) {
    const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; };
    return !name.empty() && name.size() <= 64 && std::isalnum(static_cast<unsigned char>(name[0])) && std::ranges::all_of(name, plain);
}

std::string up_name_of(const std::string& spec_path) {
    std::string name = std::filesystem::path(spec_path).filename().string();
    if (name.ends_with(".toml")) name.resize(name.size() - 5);
    for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '-';
    }
    name.erase(0, std::min(name.find_first_not_of("-_."), name.size()));
    return name.empty() ? "up" : name.substr(0, 64);
}

}  // namespace cohort::group
