// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/snapshot.hpp>

#include <algorithm>
#include <set>

#include <cohort/cpuset/detail/words.hpp>
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset {
namespace {

using detail::plain;


std::string parent_of(const std::string& path) {
    const std::size_t at = path.rfind('/');
    return at == std::string::npos ? "." : path.substr(0, at);
}

auto contradiction(std::string object, std::string reason) { return fail(EINVAL, "snapshot", "load " + std::move(object), std::move(reason)); }

bool is_path(std::string_view path) {
    while (!path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        const std::string_view name = path.substr(0, end);
        if (name.empty() || name == "." || name == "..") return false;
        if (end == path.size()) return true;
        path.remove_prefix(end + 1);
    }
    return false;
}

result<void> check_sets(const snapshot& s) {
    std::set<std::string, std::less<>> seen;
    for (const set_snapshot& one : s.sets) {
        const std::string object = "set \"" + one.path + "\"";
        if (seen.empty() != (one.path == ".")) return contradiction(object, "the first set, and no other, is the root \".\"");
        if (!seen.empty() && !is_path(one.path)) return contradiction(object, "it is no path from the root, such as a/b");
        if (!seen.empty() && !seen.contains(parent_of(one.path))) return contradiction(object, "its parent does not stand before it");
        if (!seen.insert(one.path).second) return contradiction(object, "it is there twice");
    }
    if (seen.empty()) return contradiction("sets", "there is no root");
    std::set<std::string, std::less<>> ids;
    for (const task_snapshot& t : s.tasks) {
        const std::string object = "task \"" + t.id + "\"";
        if (t.id.empty() || !ids.insert(t.id).second) return contradiction(object, "each task has a number of its own");
        if (!seen.contains(t.path)) return contradiction(object, "its set \"" + t.path + "\" is not there");
    }
    return {};
}

result<void> check(const snapshot& s) {
    if (s.machine.possible.empty() || s.machine.nodes.empty()) return contradiction("machine", "it has no CPU or no node");
    if (s.online.empty() || !s.online.subset_of(s.machine.possible)) return contradiction("online \"" + s.online.list() + "\"", "CPUs " + s.machine.possible.list() + " are possible");
    const nodemask nodes = s.machine.node_numbers();
    if (s.memory.empty() || !s.memory.subset_of(nodes)) return contradiction("nodes \"" + s.memory.list() + "\"", "there are " + nodes.list());
    return check_sets(s);
}

/// One way in which the state may have come to be.
struct order {
    bool hotplug_first = false;
    bool partitions_backwards = false;
};

/// Performs what a snapshot says, in an order, and notes what is refused.
class replay {
public:
    replay(const snapshot& s, order o) : s_(s), order_(o), model_(s.machine, {.profile = s.profile, .v1 = s.v1, .boot_isolated = s.boot_isolated}) {
        if (o.hotplug_first) hotplug();
        for (const set_snapshot& one : s.sets) make(one);
        for (const set_snapshot& one : s.sets) lists(one);
        for (const task_snapshot& t : s.tasks) place(t);
        for (const bool valid : {true, false}) partitions(valid);
        if (!o.hotplug_first) hotplug();
        for (const task_snapshot& t : s.tasks) wish(t);
    }

    loaded finish() {
        for (const set_snapshot& one : s_.sets) compare(one);
        for (const task_snapshot& t : s_.tasks) compare(t);
        return {std::move(model_), std::move(differences_)};
    }

private:
    void perform(const operation& op, const std::string& subject, const std::string& observed) {
        const answer a = model_.perform(op);
        if (!a.ok()) differences_.push_back({op.path.empty() ? "." : op.path, subject, observed, errno_name(a.code) + ": " + a.why});
    }
    void write(const set_snapshot& set, const std::string& file) {
        const auto it = set.files.find(file);
        if (it == set.files.end()) return;
        const operation read{.what = verb::read, .path = plain(set.path), .file = file};
        const answer now = model_.perform(read);
        if (now.ok() && now.value == it->second) return;
        perform({.what = verb::write, .path = plain(set.path), .file = file, .text = it->second}, "write " + file + " \"" + it->second + "\"", "it was taken");
    }

    void hotplug() {
        for (int cpu : s_.machine.possible - s_.online) model_.perform({.what = verb::cpu, .number = cpu});
        for (int n : s_.memory) model_.perform({.what = verb::node, .number = n, .on = true});
        for (int n : s_.machine.node_numbers() - s_.memory) model_.perform({.what = verb::node, .number = n});
    }
    void make(const set_snapshot& set) {
        if (set.path == ".") {
            if (!s_.v1 && !set.hands_on) model_.perform({.what = verb::controller});
            return;
        }
        perform({.what = verb::mkdir, .path = plain(set.path)}, "mkdir", "it is there");
        if (!s_.v1 && set.hands_on) perform({.what = verb::controller, .path = plain(set.path), .on = true}, "controller +cpuset", "cpuset is handed on");
    }
    /// Parents come first, so that version 1 takes the lists; exclusive flags after them, cloning last.
    void lists(const set_snapshot& set) {
        for (const char* file : {"cpuset.cpus", "cpuset.mems", "cpuset.cpus.exclusive"}) {
            if (set.path != "." || !s_.v1) write(set, file);
        }
        if (!s_.v1) return;
        for (const auto& [file, text] : set.files) {
            const bool list = file.starts_with("cpuset.cpus") || file.starts_with("cpuset.mems") || file.starts_with("cpuset.effective_");
            if (!list && file != "cpuset.memory_pressure") write(set, file);
        }
    }
    void place(const task_snapshot& t) {
        const operation op{.what = verb::attach, .path = plain(t.path), .task = t.id};
        model_.perform({.what = verb::attach, .task = t.id});
        if (t.path != ".") perform(op, "attach " + t.id, "it is there");
    }
    void partitions(bool valid) {
        std::vector<const set_snapshot*> sets;
        for (const set_snapshot& one : s_.sets) sets.push_back(&one);
        if (order_.partitions_backwards) std::ranges::reverse(sets);
        for (const set_snapshot* one : sets) {
            const auto it = one->files.find("cpuset.cpus.partition");
            if (it == one->files.end() || it->second == "member") continue;
            const bool invalid = it->second.find("invalid") != std::string::npos;
            if (invalid == valid) continue;
            const std::string type = it->second.substr(0, it->second.find(' '));
            perform({.what = verb::write, .path = plain(one->path), .file = "cpuset.cpus.partition", .text = type}, "write cpuset.cpus.partition \"" + type + "\"", "it was taken");
        }
    }
    void wish(const task_snapshot& t) {
        const answer now = model_.perform({.what = verb::task, .task = t.id});
        cpumask asked = t.asked.value_or(t.cpus);
        if (asked.empty() || (!t.asked && now.value == asked.list())) return;
        model_.perform({.what = verb::affinity, .task = t.id, .cpus = asked});
    }

    void compare(const set_snapshot& set) {
        for (const auto& [file, observed] : set.files) {
            const answer a = model_.perform({.what = verb::read, .path = plain(set.path), .file = file});
            const std::string says = a.ok() ? a.value : errno_name(a.code) + ": " + a.why;
            if (says != observed && file != "cpuset.memory_pressure") differences_.push_back({set.path, file, observed, says});
        }
    }
    void compare(const task_snapshot& t) {
        const answer a = model_.perform({.what = verb::task, .task = t.id});
        if (!t.cpus.empty() && a.value != t.cpus.list()) differences_.push_back({t.path, "task " + t.id + " cpus", t.cpus.list(), a.value});
        if (!t.mems.empty() && a.mems != t.mems.list()) differences_.push_back({t.path, "task " + t.id + " mems", t.mems.list(), a.mems});
    }

    const snapshot& s_;
    order order_;
    model model_;
    std::vector<difference> differences_;
};

}  // namespace

const set_snapshot* snapshot::find(std::string_view path) const {
    const auto it = std::ranges::find_if(sets, [&](const set_snapshot& s) { return s.path == path; });
    return it == sets.end() ? nullptr : &*it;
}

std::string difference::line() const { return path + ": " + subject + ": the kernel shows \"" + observed + "\", the model says \"" + modelled + "\""; }

result<loaded> load(const snapshot& s) {
    if (auto sound = check(s); !sound) return std::unexpected(sound.error());
    std::optional<loaded> best;
    for (const order o : {order{}, order{true, false}, order{false, true}, order{true, true}}) {
        loaded now = replay(s, o).finish();
        if (!best || now.differences.size() < best->differences.size()) best = std::move(now);
        if (best->differences.empty()) break;
    }
    return std::move(*best);
}

snapshot take(model& m, const machine::topology& machine) {
    const detail::world& w = m.state();
    snapshot out{.profile = w.profile, .v1 = w.v1, .machine = machine, .online = w.active, .memory = w.memory_nodes, .boot_isolated = w.boot_isolated};
    for (const std::string& path : m.paths()) {
        const detail::group& g = *detail::find(w, plain(path));
        set_snapshot set{.path = path, .hands_on = !w.v1 && g.hands_on};
        for (const std::string& file : m.files(path)) set.files[file] = m.perform({.what = verb::read, .path = plain(path), .file = file}).value;
        out.sets.push_back(std::move(set));
        for (const std::string& name : g.tasks) {
            const detail::task& t = w.tasks.find(name)->second;
            out.tasks.push_back({.id = name, .path = path, .cpus = t.cpus, .mems = t.mems, .asked = t.asked});
        }
    }
    return out;
}

}  // namespace cohort::cpuset
