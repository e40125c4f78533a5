// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/what_if.hpp>

#include <algorithm>
#include <unordered_map>

#include <cohort/cpuset/detail/words.hpp>

namespace cohort::cpuset {
namespace {

using text = std::optional<std::string>;

std::string shown(const text& t) { return t ? "\"" + *t + "\"" : "none"; }

text value_at(const set_snapshot& set, const std::string& file) {
    const auto it = set.files.find(file);
    return it == set.files.end() ? text() : text(it->second);
}

template <class Item, class Key>
std::unordered_map<std::string, const Item*> by(const std::vector<Item>& items, Key key) {
    std::unordered_map<std::string, const Item*> out;
    for (const Item& i : items) out.emplace(i.*key, &i);
    return out;
}

class comparison {
public:
    void note(const std::string& path, const std::string& subject, const text& before, const text& after) {
        if (before != after) out.push_back({path, subject, before, after});
    }
    void sets(const snapshot& before, const snapshot& after) {
        const auto old = by(before.sets, &set_snapshot::path), now = by(after.sets, &set_snapshot::path);
        for (const set_snapshot& s : before.sets) {
            if (!now.contains(s.path)) note(s.path, "set", "there", {});
        }
        for (const set_snapshot& s : after.sets) {
            const auto it = old.find(s.path);
            if (it == old.end()) note(s.path, "set", {}, "there");
            files(it == old.end() ? set_snapshot{.path = s.path} : *it->second, s);
        }
    }
    void tasks(const snapshot& before, const snapshot& after) {
        const auto old = by(before.tasks, &task_snapshot::id), now = by(after.tasks, &task_snapshot::id);
        for (const task_snapshot& t : before.tasks) {
            if (!now.contains(t.id)) note(t.path, "task " + t.id + " set", t.path, {});
        }
        for (const task_snapshot& t : after.tasks) {
            const auto it = old.find(t.id);
            const task_snapshot* was = it == old.end() ? nullptr : it->second;
            note(t.path, "task " + t.id + " set", was ? text(was->path) : text(), t.path);
            note(t.path, "task " + t.id + " cpus", was ? text(was->cpus.list()) : text(), t.cpus.list());
            note(t.path, "task " + t.id + " mems", was ? text(was->mems.list()) : text(), t.mems.list());
        }
    }
    std::vector<change> out;

private:
    void files(const set_snapshot& was, const set_snapshot& is) {
        for (const auto& [file, value] : was.files) {
            if (!is.files.contains(file)) note(is.path, file, value, {});
        }
        for (const auto& [file, value] : is.files) note(is.path, file, value_at(was, file), value);
        if (was.has_cpuset() || is.has_cpuset()) note(is.path, "cgroup.subtree_control", was.hands_on ? "cpuset" : "", is.hands_on ? "cpuset" : "");
    }
};

std::string domains_of(model& m) {
    std::string out;
    for (const std::string& d : m.perform({.what = verb::domains}).list) out += (out.empty() ? "" : " ") + d;
    return out;
}

bool reads_invalid(const text& t) { return t && detail::reads_invalid(*t); }

}  // namespace

std::string change::line() const { return (path.empty() ? "" : path + ": ") + subject + ": " + shown(before) + " -> " + shown(after); }

std::vector<change> compare(const snapshot& before, const snapshot& after) {
    comparison c;
    c.sets(before, after);
    c.tasks(before, after);
    return std::move(c.out);
}

what_if try_out(const model& m, const std::vector<operation>& operations, const machine::topology& machine) {
    what_if out;
    model trial = m.clone();
    const snapshot before = take(trial, machine);
    const std::string old_domains = domains_of(trial);
    for (const operation& op : operations) {
        const answer a = trial.perform(op);
        if (!a.ok()) {
            out.refused = refusal{out.answers.size(), op, a.code, a.why};
            break;
        }
        out.answers.push_back(a);
        if (out.hazard = a.hazard; !out.hazard.empty()) break;
    }
    out.changes = compare(before, take(trial, machine));
    if (const std::string now = domains_of(trial); now != old_domains) out.changes.push_back({"", "sched domains", old_domains, now});
    std::ranges::copy_if(out.changes, std::back_inserter(out.invalidated), [](const change& c) { return c.subject == "cpuset.cpus.partition" && reads_invalid(c.after) && !reads_invalid(c.before); });
    return out;
}

}  // namespace cohort::cpuset
