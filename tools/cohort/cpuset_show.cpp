// SPDX-License-Identifier: Apache-2.0
// Looking at the live tree: show, get, tasks, of. None needs privilege.
#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/cpuset/live.hpp>
#include <cohort/group/cpuset_show.hpp>
#include <cohort/sys/fd.hpp>

#include "cpuset_live.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options {
    std::string path, file, pid;
    bool json = false, all = false;
};

ordered_json place_json(const cpuset::live_mount& m) {
    const char* kind = m.what == cpuset::live_mount::form::v2 ? "v2" : m.v1() ? "v1" : "none";
    ordered_json out{{"kind", kind}, {"about", m.about}};
    if (m.mounted()) out.update({{"point", m.point}, {"root", m.root}, {"whole", m.whole}, {"hybrid", m.hybrid}});
    return out;
}

/// No cpusets: what there is instead.
outcome show_none(const cpuset::live_mount& place, const options& o) {
    sys::os& os = sys::real();
    auto t = machine::load("live", os);
    if (!t) return std::unexpected(t.error());
    const auto mine = os.sched_getaffinity(0);
    if (!mine) return std::unexpected(mine.error());
    if (o.json) {
        print_json({{"schema_version", 1}, {"mount", place_json(place)}, {"online", t->online.list()}, {"affinity", mine->list()}, {"sets", ordered_json::array()}});
        return exit_code::ok;
    }
    print(place.about + "\n" + fmt::format("{} CPUs are online ({}), {} memory node{}; this process may run on {}\n", t->online.weight(), t->online.list(), t->nodes.size(),
                                           t->nodes.size() == 1 ? "" : "s", mine->list()));
    return exit_code::ok;
}

std::string parent_of(const std::string& path) { return path.find('/') == path.npos ? "." : path.substr(0, path.rfind('/')); }

/// Without groups that have no cpuset themselves nor below, nor threads; how many were left out.
std::size_t leave_out_bare(cpuset::snapshot& s) {
    std::vector<std::string> keep;
    for (auto it = s.sets.rbegin(); it != s.sets.rend(); ++it) {
        if (it->has_cpuset() || std::ranges::find(keep, it->path) != keep.end()) keep.insert(keep.end(), {it->path, parent_of(it->path)});
    }
    std::ranges::sort(keep);
    return std::erase_if(s.sets, [&](const auto& set) { return !std::ranges::binary_search(keep, set.path); });
}

ordered_json reading_json(const cpuset::live_reading& live) {
    const auto tree = cpuset::open_cgroup(sys::real(), live.place);
    ordered_json out{{"schema_version", 1}, {"mount", place_json(live.place)},
                     {"kernel", {{"release", live.profile.release}, {"profile", cpuset::kernel_name(live.profile.profile)}, {"evidence", live.profile.evidence}}},
                     {"online", live.what.online.list()}, {"memory_nodes", live.what.memory.list()}, {"boot_isolated", live.what.boot_isolated.list()},
                     {"vanished_sets", live.vanished_sets}, {"vanished_tasks", live.vanished_tasks}, {"unseen_tasks", live.unseen_tasks}, {"notes", live.notes}, {"sets", ordered_json::array()}};
    std::map<std::string, std::size_t> threads;
    for (const auto& t : live.what.tasks) ++threads[t.path];
    for (const auto& set : live.what.sets) {
        ordered_json one{{"path", set.path}, {"has_cpuset", set.has_cpuset()}, {"hands_on", set.hands_on}, {"threads", threads[set.path]}};
        if (set.has_cpuset()) {
            const group::set_view v = group::view_of(set);
            one.update({{"cpus", v.cpus.list()}, {"effective_cpus", v.effective_cpus.list()}, {"mems", v.mems.list()}, {"effective_mems", v.effective_mems.list()}});
            if (!v.partition.empty()) one["partition"] = v.partition;
            one["files"] = set.files;
            if (const auto p = tree ? (*tree)->memory_pressure(set.path == "." ? "" : set.path) : result<cpuset::pressure>(std::unexpect)) {
                one["memory_pressure"] = {{"value", p->value}, {"substitute", p->substitute}};
            }
        }
        out["sets"].push_back(std::move(one));
    }
    return out;
}

outcome show(const options& o) {
    sys::os& os = sys::real();
    const auto place = cpuset::find_mount(os);
    if (!place) return std::unexpected(place.error());
    if (!place->mounted()) return show_none(*place, o);
    auto live = cpuset::read_live(os);
    if (!live) return std::unexpected(live.error());
    if (o.json) {
        print_json(reading_json(*live));
        return exit_code::ok;
    }
    const std::size_t bare = o.all ? 0 : leave_out_bare(live->what);
    print(fmt::format("{}; rules of kernel {} ({})\n", place->about, cpuset::kernel_name(live->profile.profile), live->profile.evidence));
    print(group::cpuset_tree_text(live->what, static_cast<std::size_t>(os.terminal_width(1).value_or(160))));
    if (bare) complain(fmt::format("{} control groups without a cpuset of their own are left out (--all shows them)", bare));
    if (live->vanished_sets) complain(fmt::format("{} sets vanished while they were read", live->vanished_sets));
    if (live->unseen_tasks) complain(fmt::format("{} threads are in sets that cannot be seen from here", live->unseen_tasks));
    for (const std::string& n : live->notes) complain(n);
    return exit_code::ok;
}

outcome get(const options& o) {
    auto live = open_live(o.path);
    if (!live) return stopped(live.error());
    const std::string& path = live->path;
    std::vector<std::string> files;
    if (!o.file.empty()) {
        files.push_back(o.file);
    } else {
        auto names = sys::real().list_dir(live->place.directory(path));
        if (!names) return std::unexpected(error{names.error().code, cpuset::set_name(path), "list", "there is no such set"});
        for (const std::string& n : *names) {
            if (n.starts_with("cpuset.") || !live->place.prefixed) files.push_back(n);
        }
        if (files.empty()) return std::unexpected(error{ENOENT, cpuset::set_name(path), "read", "it has no cpuset of its own: the set above does not hand it on"});
    }
    ordered_json j{{"schema_version", 1}, {"path", path.empty() ? "." : path}, {"files", ordered_json::object()}};
    if (!live->place.v1() && (o.file.empty() || o.file == "cpuset.memory_pressure")) {
        const auto p = live->tree->memory_pressure(path);
        if (!p && !o.file.empty()) return std::unexpected(p.error());
        if (p && o.json) j["memory_pressure"] = {{"value", p->value}, {"substitute", p->substitute}};
        if (p && !o.json && !o.file.empty()) print(fmt::format("{}\n", p->value));
        if (p && !o.json) complain((o.file.empty() ? fmt::format("memory pressure {}, ", p->value) : std::string()) + "a substitute: " + p->substitute);
        std::erase(files, "cpuset.memory_pressure");
    }
    for (const std::string& f : files) {
        auto text = live->tree->read(path, f);
        if (!text && o.file.empty()) continue;  // write-only, or gone meanwhile
        if (!text) return std::unexpected(text.error());
        if (o.json) j["files"][f] = *text;
        else print(o.file.empty() ? f + " " + *text + "\n" : *text + "\n");
    }
    if (o.json) print_json(j);
    return exit_code::ok;
}

outcome tasks(const options& o) {
    auto live = open_live(o.path);
    if (!live) return stopped(live.error());
    const std::string& path = live->path;
    auto all = o.all ? live->tree->threads(path) : live->tree->tasks(path);
    if (!all) return std::unexpected(all.error());
    ordered_json j{{"schema_version", 1}, {"path", path.empty() ? "." : path}, {o.all ? "threads" : "processes", ordered_json::array()}};
    for (int pid : *all) {
        const std::string name = sys::read_line(sys::real(), "/proc/" + std::to_string(pid) + "/comm").value_or("");
        if (o.json) j.back().push_back({{"pid", pid}, {"name", name}});
        else print(fmt::format("{} {}\n", pid, name));
    }
    if (o.json) print_json(j);
    return exit_code::ok;
}

outcome of(const options& o) {
    const auto pid = pid_of(o.pid, "cpuset of");
    if (!pid) return exit_code::usage;
    auto live = open_live("/");
    if (!live) return std::unexpected(live.error());
    auto path = live->tree->home(*pid);
    if (!path) return std::unexpected(path.error());
    const std::string shown = path->empty() ? "." : *path;
    const auto mask = sys::real().sched_getaffinity(*pid);
    // The set itself, or the nearest above that has a cpuset.
    const auto effective = [&](const char* v2, const char* v1) {
        for (std::string at = *path;; at = at.find('/') == at.npos ? "" : at.substr(0, at.rfind('/'))) {
            auto text = live->tree->read(at, live->place.v1() ? v1 : v2);
            if (text || at.empty()) return text.value_or("");
        }
    };
    const std::string cpus = effective("cpuset.cpus.effective", "cpuset.effective_cpus"), mems = effective("cpuset.mems.effective", "cpuset.effective_mems");
    if (o.json) print_json({{"schema_version", 1}, {"pid", *pid}, {"path", shown}, {"effective_cpus", cpus}, {"effective_mems", mems}, {"affinity", mask ? mask->list() : ""}});
    else print(fmt::format("{}\n", shown));
    if (!o.json && o.all) print(fmt::format("cpus {} mems {} affinity {}\n", cpus, mems, mask ? mask->list() : "unknown"));
    return exit_code::ok;
}

constexpr const char* path_note = "PATH: from the top (a/b; / is the top), or a directory below the mount point.";

}  // namespace

void add_cpuset_show(registry& all) {
    auto s = std::make_shared<options>();
    all.add("cpuset show", "Show the live tree of cpusets, drawn over the machine's CPUs")
        .flag("--all", s->all, "control groups without a cpuset of their own, too")
        .flag("--json", s->json, "print JSON")
        .notes("Needs no privilege. Where no cpusets are mounted it says so and tells what is there.")
        .run([s] { return show(*s); });

    auto g = std::make_shared<options>();
    all.add("cpuset get", "Read a file of a set, or all of them")
        .argument("PATH", g->path, "the set")
        .argument("FILE", g->file, "cpuset.cpus, cpuset.cpus.partition, ...", false)
        .flag("--json", g->json, "print JSON")
        .notes(path_note)
        .run([g] { return get(*g); });

    auto t = std::make_shared<options>();
    all.add("cpuset tasks", "List the processes of a set")
        .argument("PATH", t->path, "the set")
        .flag("--threads", t->all, "threads instead of processes")
        .flag("--json", t->json, "print JSON")
        .notes(path_note)
        .run([t] { return tasks(*t); });

    auto p = std::make_shared<options>();
    all.add("cpuset of", "Tell in which set a process or thread is")
        .argument("PID", p->pid, "its number")
        .flag("--masks", p->all, "the set's effective CPUs and nodes and the thread's own affinity, too")
        .flag("--json", p->json, "print JSON, masks included")
        .run([p] { return of(*p); });
}

}  // namespace cohort::cli
