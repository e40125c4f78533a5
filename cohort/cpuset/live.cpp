// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live.hpp>

#include <algorithm>
#include <charconv>
#include <set>

#include <cohort/cpuset/detail/words.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::cpuset {
namespace {

bool is_gone(const error& e) { return e.code == ENOENT || e.code == ENODEV || e.code == ESRCH; }
bool is_number(const std::string& text) { return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; }); }
std::string dotted(const std::string& path) { return path.empty() ? "." : path; }

/// The rest of the line that begins with `key`, without blanks around it.
std::string_view field(std::string_view text, std::string_view key) {
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        if (text.substr(at, end - at).starts_with(key)) {
            std::string_view rest = text.substr(at + key.size(), end - at - key.size());
            const std::size_t from = rest.find_first_not_of(" \t");
            return from == rest.npos ? std::string_view{} : rest.substr(from);
        }
        at = end + 1;
    }
    return {};
}

/// CPUs that the command line takes out of all sched domains: isolcpus=[flags,]list, the flag domain being the default.
cpumask isolated_at_boot(std::string_view command_line) {
    constexpr std::string_view key = "isolcpus=";
    const std::size_t at = command_line.find(key);
    if (at == command_line.npos || (at > 0 && command_line[at - 1] != ' ')) return {};
    std::string_view rest = command_line.substr(at + key.size());
    rest = rest.substr(0, rest.find_first_of(" \n"));
    bool flags = false, domain = false;
    while (!rest.empty() && (rest[0] < '0' || rest[0] > '9')) {
        const std::size_t comma = std::min(rest.find(','), rest.size());
        flags = true;
        domain |= rest.substr(0, comma) == "domain";
        rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    if (flags && !domain) return {};
    return cpumask::parse_list(rest).value_or(cpumask{});
}

class reader {
public:
    reader(sys::os& os, live_reading& out) : os_(os), out_(out) {}

    result<void> machine() {
        auto t = machine::load("live", os_);
        if (!t) return std::unexpected(t.error());
        snapshot& s = out_.what;
        s.profile = out_.profile.profile;
        s.release = out_.profile.release;
        s.v1 = out_.place.v1();
        s.online = t->online;
        s.memory = nodes_with_memory(*t);
        s.boot_isolated = isolated_at_boot(sys::read_line(os_, sys::paths::cmdline).value_or("")) & t->possible;
        s.machine = std::move(*t);
        return {};
    }

    result<void> sets() {
        set_snapshot top{.path = "."};
        auto names = os_.list_dir(out_.place.point);
        if (!names) return std::unexpected(names.error());
        if (auto r = fill(top, "", *names); !r) return r;
        if (!out_.place.whole) adopt(top);
        out_.what.sets.push_back(std::move(top));
        below("", *names);
        return {};
    }

    void tasks() {
        for (const set_snapshot& s : out_.what.sets) known_.insert(s.path);
        for (const std::string& pid : os_.list_dir("/proc").value_or(std::vector<std::string>{})) {
            if (is_number(pid)) process(pid);
        }
    }

private:
    nodemask nodes_with_memory(const machine::topology& t) {
        for (const char* file : {"/has_memory", "/has_normal_memory", "/online"}) {
            const auto text = sys::read_line(os_, sys::paths::node + file);
            const auto mask = text ? nodemask::parse_list(*text) : result<nodemask>(std::unexpect);
            if (mask && !mask->empty()) return *mask;
        }
        return t.node_numbers();
    }

    /// The topmost set we see is somebody's child: what it has is all there is for us.
    void adopt(set_snapshot& top) {
        const auto take = [&]<class Mask>(Mask& into, std::initializer_list<const char*> files) {
            for (const char* name : files) {
                const auto it = top.files.find(name);
                const auto mask = it == top.files.end() ? result<Mask>(std::unexpect) : Mask::parse_list(it->second);
                if (mask && !mask->empty()) into = *mask;
            }
        };
        take(out_.what.online, {"cpuset.effective_cpus", "cpuset.cpus.effective"});
        take(out_.what.memory, {"cpuset.effective_mems", "cpuset.mems.effective"});
        std::erase_if(top.files, [](const auto& f) { return f.first != "cpuset.cpus.effective" && f.first != "cpuset.mems.effective" && f.first != "cpuset.effective_cpus" && f.first != "cpuset.effective_mems"; });
        out_.notes.push_back("the topmost set is one below the hierarchy's root: CPUs and nodes outside of it count as not there");
    }

    /// Errors: ENOENT, ENODEV, the set vanished.
    result<void> fill(set_snapshot& set, const std::string& path, const std::vector<std::string>& names) {
        for (const std::string& name : names) {
            std::string full = name;
            if (out_.place.v1() && !out_.place.prefixed && is_ours(name)) full = "cpuset." + name;
            if (!full.starts_with("cpuset.") && full != "cgroup.clone_children") continue;
            if (full == "cpuset.memory_pressure" || (full == "cgroup.clone_children" && !out_.what.v1)) continue;  // the meter moves by itself
            auto text = sys::read_line(os_, out_.place.directory(path) + "/" + name);
            if (text) set.files[full] = *text;
            else if (is_gone(text.error())) return std::unexpected(text.error());
            else out_.notes.push_back(text.error().line());
        }
        if (!out_.what.v1) {
            auto text = sys::read_line(os_, out_.place.directory(path) + "/cgroup.subtree_control");
            if (!text && is_gone(text.error())) return std::unexpected(text.error());
            set.hands_on = text && detail::has_word(*text, "cpuset");
        }
        return {};
    }
    static bool is_ours(const std::string& name) {
        static const std::set<std::string, std::less<>> ours{"cpus", "mems", "effective_cpus", "effective_mems", "cpu_exclusive", "mem_exclusive", "mem_hardwall", "memory_migrate", "memory_spread_page",
                                                             "memory_spread_slab", "memory_pressure", "memory_pressure_enabled", "sched_load_balance", "sched_relax_domain_level"};
        return ours.contains(name);
    }

    void below(const std::string& path, const std::vector<std::string>& names) {
        for (const std::string& name : names) {
            const std::string child = path.empty() ? name : path + "/" + name;
            const auto info = os_.stat(out_.place.directory(child));
            if (info && info->kind != sys::file_kind::directory) continue;
            const auto inside = os_.list_dir(out_.place.directory(child));
            set_snapshot set{.path = child};
            if (!info || !inside || !fill(set, child, *inside)) {
                ++out_.vanished_sets;
                continue;
            }
            out_.what.sets.push_back(std::move(set));
            below(child, *inside);
        }
    }

    void process(const std::string& pid) {
        const auto stat = sys::stat_of(os_, pid);
        if (!stat) {
            ++out_.vanished_tasks;
            return;
        }
        if (stat->kernel_thread || stat->over()) return;
        for (const std::string& tid : os_.list_dir(sys::paths::of_process(pid, "task")).value_or(std::vector<std::string>{})) thread(pid, tid);
    }

    void thread(const std::string& pid, const std::string& tid) {
        const auto status = sys::read_file(os_, sys::paths::of_process(pid + "/task/" + tid, "status"));
        int number = 0;
        std::from_chars(tid.data(), tid.data() + tid.size(), number);
        const auto home = home_of(os_, out_.place, number);
        if (!status || (!home && home.error().code == ESRCH)) {
            ++out_.vanished_tasks;
            return;
        }
        if (!home || !known_.contains(dotted(*home))) {
            ++out_.unseen_tasks;
            return;
        }
        task_snapshot t{.id = tid, .name = std::string(field(*status, "Name:")), .path = dotted(*home), .cpus = {}, .mems = {}, .asked = {}};
        t.cpus = cpumask::parse_list(field(*status, "Cpus_allowed_list:")).value_or(cpumask{});
        t.mems = nodemask::parse_list(field(*status, "Mems_allowed_list:")).value_or(nodemask{});
        out_.what.tasks.push_back(std::move(t));
    }

    sys::os& os_;
    live_reading& out_;
    std::set<std::string> known_;
};

result<live_reading> read_once(sys::os& os, const live_mount& place, read_options o) {
    live_reading out{.what = {}, .place = place, .profile = probe_profile(os, place), .notes = {}};
    reader r(os, out);
    if (auto done = r.machine(); !done) return std::unexpected(done.error());
    if (auto done = r.sets(); !done) return std::unexpected(done.error());
    if (o.tasks) r.tasks();
    return out;
}

}  // namespace

result<live_reading> read_live(sys::os& os, read_options o) {
    const auto place = find_mount(os);
    if (!place) return std::unexpected(place.error());
    if (!place->mounted()) return fail(EOPNOTSUPP, "cpuset", "read the live tree", place->about);
    const auto online = [&] { return sys::read_line(os, sys::paths::cpu + "/online").value_or(""); };
    for (int again = 2;; --again) {
        const std::string before = online();
        auto out = read_once(os, *place, o);
        if (again == 0 || before == online()) return out;
    }
}

}  // namespace cohort::cpuset
