// SPDX-License-Identifier: Apache-2.0
// Who has which cookie; names for cookies.
#include <map>

#include <fmt/format.h>

#include <cohort/coresched/keeper.hpp>
#include <cohort/group/table.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/signals.hpp>

#include "coresched_control.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct keep_options {
    std::string name;
    core_options core;
    bool end = false;
};

/// Processes of one cookie: pid -> threads that have it.
struct group_of_cookie {
    std::map<int, std::pair<std::string, std::vector<int>>> processes;
    std::size_t threads = 0;
};

outcome ls(const core_options& o) {
    std::vector<std::string> directories;
    for (const std::string& text : o.cgroups) {
        const auto d = coresched::cgroup_directory(sys::real(), text);
        if (!d) return usage(d.error().line());
        directories.push_back(*d);
    }
    const auto here = coresched::facility(sys::real());
    const auto found = coresched::list(sys::real(), directories);
    if (!found) {
        if (o.json) print_json(ordered_json{{"schema_version", 1}, {"ok", false}, {"failure", fault_json(found.error())}});
        complain(found.error().line());
        return code_of_refusal(found.error(), !here.there());
    }
    for (const std::string& d : here.dangers) complain("danger: " + d);
    std::map<coresched::cookie, group_of_cookie> cookies;
    for (const auto& t : found->threads) {
        auto& g = cookies[t.after];
        g.processes[t.pid].first = t.name;
        g.processes[t.pid].second.push_back(t.id);
        ++g.threads;
    }
    std::map<coresched::cookie, std::string> names;
    for (const auto& k : coresched::all_kept().value_or(std::vector<coresched::kept>{})) names[k.value] = k.name;
    if (o.json) {
        ordered_json out{{"schema_version", 1}, {"ok", true}, {"cookies", ordered_json::array()}, {"untagged", found->untagged}, {"hidden", found->hidden}, {"dangers", here.dangers}, {"notes", here.notes}};
        for (const auto& [value, g] : cookies) {
            ordered_json one{{"cookie", cookie_text(value)}, {"threads", g.threads}, {"processes", ordered_json::array()}};
            if (names.contains(value)) one["name"] = names[value];
            for (const auto& [pid, p] : g.processes) one["processes"].push_back({{"pid", pid}, {"name", p.first}, {"tids", p.second}});
            out["cookies"].push_back(std::move(one));
        }
        print_json(out);
        return exit_code::ok;
    }
    using enum group::align;
    group::text_table table({"cookie", "name", "threads", "processes"}, {left, left, right, left});
    for (const auto& [value, g] : cookies) {
        std::string who;
        std::size_t shown = 0;
        for (const auto& [pid, p] : g.processes) {
            if (++shown <= 4) who += fmt::format("{}{} {}", who.empty() ? "" : ", ", pid, p.first);
        }
        if (shown > 4) who += fmt::format(" and {} more", shown - 4);
        table.row({cookie_text(value), names.contains(value) ? names[value] : "", std::to_string(g.threads), who});
    }
    print(table.text("") + fmt::format("{} thread{} without a cookie{}\n", found->untagged, found->untagged == 1 ? "" : "s", found->hidden ? fmt::format(", {} not ours to look at", found->hidden) : ""));
    return exit_code::ok;
}

outcome keep(const keep_options& o) {
    if (auto good = coresched::check_keeper_name(o.name); !good) return usage(good.error().line());
    if (o.end) {
        if (auto r = coresched::end_kept(o.name); !r) return std::unexpected(r.error());
        return exit_code::ok;
    }
    auto catcher = sys::signal_catcher::create();
    if (!catcher) return std::unexpected(catcher.error());
    coresched::source from;
    if (o.core.source) {
        const auto chosen = source_of(o.core, "coresched keep");
        if (!chosen.from) return chosen.code;
        from = *chosen.from;
    }
    const auto here = coresched::facility(sys::real());
    auto k = coresched::keeper::create(sys::real(), o.name, from, {.even_if_unsafe = o.core.force});
    if (!k) {
        if (o.core.json) print_json(ordered_json{{"schema_version", 1}, {"ok", false}, {"failure", fault_json(k.error())}});
        complain(k.error().line());
        return code_of_refusal(k.error(), !here.there() || k.error().code == EOPNOTSUPP);
    }
    const auto& about = (*k)->about();
    // One line, at once: who starts a keeper waits for it.
    const std::string line = o.core.json ? ordered_json{{"schema_version", 1}, {"ok", true}, {"name", about.name}, {"pid", about.id}, {"cookie", cookie_text(about.value)}}.dump() + "\n"
                                         : fmt::format("keeping cookie {} as \"{}\", pid {}\n", cookie_text(about.value), about.name, about.id);
    if (auto w = sys::write_all(sys::real(), 1, line); !w) return std::unexpected(w.error());
    if (auto served = (*k)->serve(catcher->fd()); !served) return std::unexpected(served.error());
    return exit_code::ok;
}

}  // namespace

void add_coresched_ls(registry& all) {
    auto l = std::make_shared<core_options>();
    all.add("coresched ls", "List cookies and who has them")
        .option("--cgroup", l->cgroups, "PATH", "only threads of this cgroup and of those below it; may be given again")
        .flag("--json", l->json, "print JSON")
        .run([l] { return ls(*l); });

    auto k = std::make_shared<keep_options>();
    all.add("coresched keep", "Hold a cookie under a name, until told to end")
        .argument("NAME", k->name, "letters, digits, '.', '_' and '-'")
        .option("-s,--source", k->core.source, "PID", "keep this process's cookie; default: a new one")
        .flag("--end", k->end, "tell the keeper of NAME to end; who has the cookie keeps it")
        .flag("--force", k->core.force, "go on where core scheduling can stop this machine (sched_ext)")
        .flag("--json", k->core.json, "print JSON")
        .notes("A cookie lives as long as somebody carries it. The keeper is that somebody, and says so in one line when it is ready; SIGTERM and SIGINT end it, too.\nExample:\n"
               "  cohort coresched keep web & cohort coresched copy --name web --cgroup web")
        .run([k] { return keep(*k); });
}

}  // namespace cohort::cli
