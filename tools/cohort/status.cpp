// SPDX-License-Identifier: Apache-2.0
// What is up.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cohort/group/apply.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>

#include "up.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options {
    std::string name;
    bool json = false;
};

std::string text_of(sys::os& os, const group::up_state& s) {
    const bool lives = alive(os, s);
    std::string out = fmt::format("{}  {}\n", s.name, s.spec);
    if (lives) out += fmt::format("  {}{}, process {}, {}\n", phase_name(s.phase), s.detached ? ", detached" : "", s.who.pid, group::human_seconds(static_cast<double>(os.now() - s.since_ns) / 1e9));
    else out += fmt::format("  its process {} was killed; `cohort down {}`, or the next `cohort up`, removes what it left\n", s.who.pid, s.name);
    for (const group::up_cohort& c : s.cohorts) {
        out += fmt::format("  cohort {}: CPUs {}; kept by {}", c.name, c.cpus, c.kept);
        if (!c.cookie.empty()) out += fmt::format("; cookie {} ({})", c.cookie, c.cookie_kept);
        if (c.pool) out += fmt::format("; pool {} of {}", c.pool->id, group::human_bytes(static_cast<double>(c.pool->bytes)));
        out += "\n";
    }
    group::text_table table({"cohort", "job", "CPUs", "state", "processes", "read", "written"}, {group::align::left, group::align::left, group::align::left, group::align::left, group::align::left, group::align::right, group::align::right});
    const auto size = [](std::uint64_t bytes) { return bytes ? group::human_bytes(static_cast<double>(bytes)) : std::string(); };
    for (const group::up_job& j : s.jobs) table.row({j.cohort, j.name, j.cpus, j.state, pids_text(j.pids), size(j.bytes_in), size(j.bytes_out)});
    return out + (s.jobs.empty() ? "" : "\n" + table.text("  "));
}

outcome status(const options& o) {
    sys::os& os = sys::real();
    auto there = group::ups(os, group::run_directory(os));
    if (!there) return std::unexpected(there.error());
    if (!o.name.empty()) {
        std::erase_if(there->all, [&](const group::up_state& s) { return s.name != o.name; });
        if (there->all.empty()) {
            if (o.json) print_json(ordered_json{{"schema_version", 1}, {"kind", "status"}, {"ups", ordered_json::array()}});
            complain("\"" + o.name + "\" is not up");
            return exit_code::no;
        }
    }
    for (const error& e : there->unread) complain(e.line());
    if (o.json) {
        ordered_json out{{"schema_version", 1}, {"kind", "status"}, {"ups", ordered_json::array()}};
        for (const group::up_state& s : there->all) out["ups"].push_back(status_value(os, s));
        print_json(out);
    } else {
        std::string text;
        for (const group::up_state& s : there->all) text += (text.empty() ? "" : "\n") + text_of(os, s);
        print(text.empty() ? "nothing is up\n" : text);
    }
    return there->unread.empty() ? exit_code::ok : exit_code::failed;
}

}  // namespace

std::string pids_text(const std::vector<int>& pids) { return fmt::format("{}", fmt::join(pids, " ")); }

ordered_json status_value(sys::os& os, const group::up_state& s) {
    ordered_json out = group::state_value(s);
    out["alive"] = alive(os, s);
    out["seconds"] = static_cast<double>(os.now() - s.since_ns) / 1e9;
    for (const char* inner : {"since_ns", "patience_ns", "undo"}) out.erase(inner);
    return out;
}

void add_status(registry& all) {
    auto o = std::make_shared<options>();
    all.add("status", "Show what is up: cohorts, by what they are kept, their jobs and processes")
        .argument("NAME", o->name, "one up; without it all", false)
        .flag("--json", o->json, "print JSON")
        .notes("`alive` is false where the process that had brought it up was killed; `cohort down` puts in order what it left.\n\n"
               "Exit code 0 also when nothing is up; 1: NAME is not up.")
        .run([o] { return status(*o); });
}

}  // namespace cohort::cli
