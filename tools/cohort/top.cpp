// SPDX-License-Identifier: Apache-2.0
// What is up, and what it does at this moment.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include <cohort/group/apply.hpp>
#include <cohort/group/process_figures.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>
#include <cohort/padata/control.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

#include "looks.hpp"
#include "pool.hpp"
#include "up.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;
using enum group::align;

struct options {
    bool once = false, json = false;
    std::int64_t interval_ms = 1'000;
};

/// Clock ticks since boot that a CPU was busy, and that it was there.
struct cpu_ticks {
    std::uint64_t busy = 0, all = 0;
};

/// /proc/stat: "cpu0 user nice system idle iowait irq softirq steal guest guest_nice"; a guest's time is in user's, too.
result<std::map<int, cpu_ticks>> read_cpus(sys::os& os) {
    auto text = sys::read_file(os, "/proc/stat");
    if (!text) return std::unexpected(text.error());
    std::map<int, cpu_ticks> out;
    for (std::size_t at = 0, end; at < text->size(); at = end + 1) {
        end = std::min(text->find('\n', at), text->size());
        const std::string line = text->substr(at, end - at);
        if (!line.starts_with("cpu") || line.starts_with("cpu ")) continue;
        const std::vector<std::uint64_t> n = sys::numbers_in(line.substr(3));
        if (n.size() < 6) continue;
        cpu_ticks& c = out[static_cast<int>(n[0])];
        c.all = std::accumulate(n.begin() + 1, n.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(n.size(), 9)), std::uint64_t{0});
        c.busy = c.all - n[4] - n[5];
    }
    return out;
}

ordered_json number_or_null(const std::optional<double>& n) { return n ? ordered_json(*n) : ordered_json(); }

/// What a pipe's instance says of itself; null: it has none, or has just ended.
ordered_json padata_of(const group::up_job& j) {
    if (j.control.empty()) return {};
    const auto text = padata::ask_control(std::filesystem::path(j.control).filename().string(), {"show"});
    const auto said = text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json();
    if (!said.is_object()) return {};
    return {{"id", said.value("id", "")}, {"in_flight", said.value("in_flight", 0u)}, {"shells", said.value("shells", 0u)}};
}

/// As of the last second; empty: it has none, or does not run.
ordered_json queues_of(const group::up_job& j) {
    const std::vector<const char*> names = group::queue_names(j.kind);
    ordered_json out = ordered_json::array();
    for (std::size_t i = 0; i < names.size() && i < j.queues.size(); ++i) out.push_back({{"name", names[i]}, {"depth", j.queues[i]}});
    return out;
}

/// "31 in flight"; of several: "2 for the workers, 6 with the workers, 0 for the consumer".
std::string queues_text(const ordered_json& queues) {
    std::string out;
    for (const ordered_json& q : queues) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", q["depth"].get<std::uint64_t>(), q["name"].get<std::string>());
    return out;
}

ordered_json pool_of(const group::up_cohort& c) {
    ordered_json out{{"id", c.pool->id}, {"bytes", c.pool->bytes}, {"allocated", nullptr}, {"resident", nullptr}, {"members", nullptr}};
    auto broker = sharepool::broker_client::connect(c.pool->socket, std::chrono::seconds(1));
    if (!broker) return out;
    const auto v = view_of(*broker, c.pool->id);
    if (!v) return out;
    out["members"] = v->members.size();
    if (v->readable) out["allocated"] = v->used, out["resident"] = v->resident;
    return out;
}

/// One look: lists of what is up, and of what it does.
class view {
public:
    explicit view(sys::os& os) : os_(os) {}

    result<ordered_json> look() {
        auto there = group::ups(os_, group::run_directory(os_));
        if (!there) return std::unexpected(there.error());
        auto cpus = read_cpus(os_);
        if (!cpus) return std::unexpected(cpus.error());
        ordered_json out{{"schema_version", 1}, {"kind", "top"}, {"seconds", before_at_ ? static_cast<double>(os_.now() - before_at_) / 1e9 : 0.0}};
        for (const char* list : {"ups", "cohorts", "cpus", "jobs"}) out[list] = ordered_json::array();
        shown_ = {};
        whose_.clear();
        for (const group::up_state& s : there->all) add(out, s);
        for (const int cpu : shown_) {
            if (const auto it = cpus->find(cpu); it != cpus->end()) out["cpus"].push_back({{"cpu", cpu}, {"use", number_or_null(use_of(cpu, it->second))}, {"cohorts", whose_[cpu]}});
        }
        for (ordered_json& c : out["cohorts"]) c["use"] = use_of_cohort(out["cpus"], c);
        before_ = std::move(*cpus), before_at_ = os_.now();
        return out;
    }

private:
    void add(ordered_json& out, const group::up_state& s) {
        const bool lives = alive(os_, s);
        out["ups"].push_back({{"name", s.name}, {"pid", s.who.pid}, {"alive", lives}, {"phase", phase_name(s.phase)}, {"seconds", static_cast<double>(os_.now() - s.since_ns) / 1e9},
                              {"cpu_seconds", number_or_null(lives ? group::cpu_seconds(os_, s.who.pid) : std::nullopt)}});
        if (!lives) return;
        for (const group::up_cohort& c : s.cohorts) {
            const cpumask cpus = cpumask::parse_list(c.cpus).value_or(cpumask{});
            for (const int cpu : cpus) {
                whose_[cpu].push_back(c.name);
                shown_.set(cpu);
            }
            out["cohorts"].push_back({{"name", c.name}, {"up", s.name}, {"cpus", c.cpus}, {"use", nullptr}, {"kept", c.kept}, {"cookie", c.cookie}, {"pool", c.pool ? pool_of(c) : ordered_json()}});
        }
        for (const group::up_job& j : s.jobs) out["jobs"].push_back(job_of(j, s));
    }

    ordered_json job_of(const group::up_job& j, const group::up_state& s) {
        return {{"name", j.name}, {"cohort", j.cohort}, {"up", s.name}, {"kind", j.kind}, {"state", j.state}, {"cpus", j.cpus}, {"pids", j.pids}, {"threads", j.threads}, {"cpu_seconds", number_or_null(group::cpu_seconds(os_, s, j))},
                {"forced_idle_seconds", number_or_null(group::forced_idle_seconds(os_, j))}, {"bytes_in", j.bytes_in}, {"bytes_out", j.bytes_out}, {"padata", padata_of(j)}, {"queues", queues_of(j)}};
    }

    /// Part of the time since the look before, 0 .. 1. A CPU that came online meanwhile has none.
    std::optional<double> use_of(int cpu, const cpu_ticks& now) const {
        const auto was = before_.find(cpu);
        if (was == before_.end() || now.all <= was->second.all) return std::nullopt;
        // Counters of idleness may go back a little.
        const double busy = now.busy > was->second.busy ? static_cast<double>(now.busy - was->second.busy) : 0.0;
        return std::min(1.0, busy / static_cast<double>(now.all - was->second.all));
    }
    static ordered_json use_of_cohort(const ordered_json& cpus, const ordered_json& cohort) {
        double sum = 0;
        int known = 0;
        const cpumask mine = cpumask::parse_list(cohort["cpus"].get<std::string>()).value_or(cpumask{});
        for (const ordered_json& c : cpus) {
            if (!mine.test(c["cpu"].get<int>()) || c["use"].is_null()) continue;
            sum += c["use"].get<double>();
            ++known;
        }
        return known ? ordered_json(sum / known) : ordered_json();
    }

    sys::os& os_;
    cpumask shown_;
    std::map<int, std::vector<std::string>> whose_;
    std::map<int, cpu_ticks> before_;
    std::uint64_t before_at_ = 0;
};

std::string percent(const ordered_json& part) { return part.is_null() ? "" : fmt::format("{:.0f} %", 100 * part.get<double>()); }
std::string size(const ordered_json& bytes) { return bytes.is_null() || bytes == 0 ? "" : group::human_bytes(bytes.get<double>()); }
std::string seconds(const ordered_json& s) { return s.is_null() ? "" : group::human_seconds(s.get<double>()); }

std::string bar(const ordered_json& part) {
    constexpr int width = 20;
    const int full = part.is_null() ? 0 : static_cast<int>(std::lround(part.get<double>() * width));
    std::string out;
    for (int i = 0; i < width; ++i) out += i < full ? "█" : "░";
    return out;
}

std::string text_of(const ordered_json& v) {
    if (v["ups"].empty()) return "nothing is up\n";
    std::string out;
    for (const ordered_json& u : v["ups"]) {
        const bool lives = u["alive"];
        out += fmt::format("{}: {}, process {}, {}\n", u["name"].get<std::string>(), lives ? u["phase"].get<std::string>() : "its process was killed", u["pid"].get<int>(), seconds(u["seconds"]));
    }
    group::text_table cohorts({"cohort", "CPUs", "use", "", "kept by", "cookie", "pool", "allocated", "members"}, {left, left, right, left, left, left, right, right, right});
    for (const ordered_json& c : v["cohorts"]) {
        const ordered_json& p = c["pool"];
        cohorts.row({c["name"], c["cpus"], percent(c["use"]), bar(c["use"]), c["kept"], c["cookie"], p.is_null() ? "" : size(p["bytes"]), p.is_null() ? "" : size(p["allocated"]),
                     p.is_null() || p["members"].is_null() ? "" : std::to_string(p["members"].get<int>())});
    }
    group::text_table jobs({"job", "cohort", "state", "CPU time", "forced idle", "queues", "read", "written", "processes"}, {left, left, left, right, right, left, right, right, left});
    for (const ordered_json& j : v["jobs"]) {
        jobs.row({j["name"], j["cohort"], j["state"], seconds(j["cpu_seconds"]), seconds(j["forced_idle_seconds"]), j["padata"].is_null() ? queues_text(j["queues"]) : fmt::format("{} in flight", j["padata"]["in_flight"].get<unsigned>()),
                  size(j["bytes_in"]), size(j["bytes_out"]), pids_text(j["pids"])});
    }
    return out + "\n" + cohorts.text("") + "\n" + jobs.text("");
}

outcome top(const options& o) {
    sys::os& os = sys::real();
    view v(os);
    // Use is that between two looks: where there is but one, a short one comes before it.
    const bool one = o.once || (!os.isatty(1) && !o.json);
    if (one) {
        auto first = v.look();
        if (!first) return std::unexpected(first.error());
        if (!(*first)["ups"].empty()) os.sleep_until(os.now() + static_cast<std::uint64_t>(std::min<std::int64_t>(o.interval_ms, 200)) * 1'000'000);
    }
    return look_again({one ? 1 : o.json ? -1 : 0, o.interval_ms, o.json}, [&](std::int64_t) -> result<std::string> {
        auto now = v.look();
        if (!now) return std::unexpected(now.error());
        return o.json ? now->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n" : text_of(*now);
    });
}

}  // namespace

void add_top(registry& all) {
    auto o = std::make_shared<options>();
    all.add("top", "Watch what is up: use of its CPUs, jobs, blocks in flight, pools, forced idleness")
        .flag("--once", o->once, "look once")
        .flag("--json", o->json, "a line of JSON for each look")
        .number("--interval", o->interval_ms, 10, 3'600'000, "milliseconds between looks (1000)")
        .notes("Looks again and again until Ctrl-C; elsewhere than on a terminal once, unless --json is given. The use of a CPU is everybody's there,\n"
               "not the cohort's alone. A pipe's CPU time is that of its reader and workers, threads of `cohort up`; its commands'\n"
               "comes when it has ended. Queues: blocks in a pipe, records in a flow, as of the last second.\n"
               "Forced idleness is what the kernel tells of cookies that it keeps; empty where it does not.\n\n"
               "Example:\n  cohort top --once --json")
        .run([o] { return top(*o); });
}

}  // namespace cohort::cli
