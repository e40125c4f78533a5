// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live_watch.hpp>

#include <algorithm>

#include <cohort/sys/uevents.hpp>

namespace cohort::cpuset {
namespace {

constexpr std::size_t most_watches = 64;

using by_path = std::map<std::string_view, const set_snapshot*>;
by_path index(const snapshot& s) {
    by_path out;
    for (const set_snapshot& set : s.sets) out[set.path] = &set;
    return out;
}

template <class Mask>
Mask list_of(const set_snapshot& set, const char* file) {
    const auto it = set.files.find(file);
    return it == set.files.end() ? Mask{} : Mask::parse_list(it->second).value_or(Mask{});
}

std::string operation_path(const std::string& path) { return path == "." ? "" : path; }

bool is_above(const std::string& above, const std::string& path) { return above == "." || path.starts_with(above + "/"); }

}  // namespace

std::string live_change::line() const {
    if (file.empty()) return path + ": " + (was.empty() ? now : was + " -> " + now);
    return path + ": " + file + ": \"" + was + "\" -> \"" + now + "\"";
}

std::vector<live_change> changes_between(const snapshot& before, const snapshot& now) {
    std::vector<live_change> out;
    if (before.online != now.online) out.push_back({".", "", "CPUs " + before.online.list() + " online", "CPUs " + now.online.list() + " online"});
    if (before.memory != now.memory) out.push_back({".", "", "nodes " + before.memory.list() + " online", "nodes " + now.memory.list() + " online"});
    const by_path old = index(before), fresh = index(now);
    for (const set_snapshot& s : before.sets) {
        if (!fresh.contains(s.path)) out.push_back({s.path, "", "", "removed"});
    }
    for (const set_snapshot& s : now.sets) {
        const auto was = old.find(s.path);
        if (was == old.end()) {
            out.push_back({s.path, "", "", "made"});
            continue;
        }
        std::set<std::string_view> files;
        for (const auto* side : {was->second, &s}) {
            for (const auto& f : side->files) files.insert(f.first);
        }
        for (std::string_view f : files) {
            const auto a = was->second->files.find(f), b = s.files.find(f);
            const std::string old_text = a == was->second->files.end() ? "" : a->second, new_text = b == s.files.end() ? "" : b->second;
            if (old_text != new_text) out.push_back({s.path, std::string(f), old_text, new_text});
        }
    }
    return out;
}

live_watch::live_watch(sys::os& os) : os_(os) {
    if (auto fd = sys::open_uevents()) uevents_ = sys::owned_fd(sys::real(), *fd);
}

void live_watch::follow(const live_mount& place, const snapshot& now) {
    const by_path all = index(now);
    std::erase_if(watches_, [&](const auto& w) { return !all.contains(w.first); });
    for (const set_snapshot& s : now.sets) {
        if (watches_.size() >= most_watches) break;
        if (watches_.contains(s.path)) continue;
        if (auto w = sys::dir_watch::create(place.directory(operation_path(s.path)))) watches_.emplace(s.path, std::move(*w));
    }
}

result<bool> live_watch::wait(std::uint64_t timeout_ns, int extra) {
    std::vector<sys::poll_item> items;
    const auto add = [&](int fd) {
        if (fd >= 0) items.push_back({.fd = fd, .want_read = true});
    };
    add(extra);
    add(uevents_.get());
    for (const auto& w : watches_) add(w.second.fd());
    const auto n = os_.poll(items, timeout_ns);
    if (!n) return std::unexpected(n.error());
    std::byte block[8192];
    if (uevents_) {
        while (os_.read(uevents_.get(), block).value_or(0) > 0) {
        }
    }
    for (auto& w : watches_) (void)w.second.news();
    return *n > 0;
}

void restorer::learn(const snapshot& now) {
    const by_path all = index(now);
    std::erase_if(sets_, [&](const auto& s) { return !all.contains(s.first); });
    std::map<std::string, std::string> homes;
    std::map<std::string, std::set<std::string>> inside;
    for (const task_snapshot& t : now.tasks) {
        homes[t.id] = t.path;
        inside[t.path].insert(t.id);
    }
    for (const set_snapshot& s : now.sets) {
        const auto cpus = list_of<cpumask>(s, "cpuset.cpus");
        const auto mems = list_of<nodemask>(s, "cpuset.mems");
        const auto it = sets_.find(s.path);
        if (it == sets_.end()) {
            sets_[s.path] = {{cpus, cpus}, {mems, mems}, inside[s.path]};
            continue;
        }
        memory& m = it->second;
        m.cpus.learn(cpus, now.online);
        m.mems.learn(mems, now.memory);
        // Threads of an emptied set are in one above it, by the kernel's doing; while it is empty they are still its own.
        std::set<std::string> own = inside[s.path];
        if (cpus.empty() || mems.empty()) {
            for (const std::string& t : m.tasks) {
                if (homes.contains(t) && homes[t] != s.path && is_above(homes[t], s.path)) own.insert(t);
            }
        }
        m.tasks = std::move(own);
    }
}

std::vector<operation> restorer::steps(const snapshot& now) const {
    std::vector<operation> out, moves;
    if (!now.v1) return out;
    std::map<std::string, std::string> homes;
    for (const task_snapshot& t : now.tasks) homes[t.id] = t.path;
    for (const set_snapshot& s : now.sets) {
        const auto it = sets_.find(s.path);
        if (s.path == "." || it == sets_.end()) continue;
        const cpumask cpus = it->second.cpus.wish & now.online;
        const nodemask mems = it->second.mems.wish & now.memory;
        if (cpus != list_of<cpumask>(s, "cpuset.cpus")) out.push_back({.what = verb::write, .path = s.path, .file = "cpuset.cpus", .text = cpus.list()});
        if (mems != list_of<nodemask>(s, "cpuset.mems")) out.push_back({.what = verb::write, .path = s.path, .file = "cpuset.mems", .text = mems.list()});
        if (cpus.empty() || mems.empty()) continue;
        for (const std::string& t : it->second.tasks) {
            if (homes.contains(t) && homes[t] != s.path) moves.push_back({.what = verb::attach, .path = s.path, .task = "thread:" + t});
        }
    }
    out.insert(out.end(), moves.begin(), moves.end());
    return out;
}

}  // namespace cohort::cpuset
