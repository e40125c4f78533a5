// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/shared_model.hpp>

#include <set>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset {
namespace {

/// The meter of memory_pressure moves when it is read.
bool only_looks(const operation& op) {
    switch (op.what) {
        case verb::read: return op.file != "cpuset.memory_pressure";
        case verb::task:
        case verb::tasks:
        case verb::domains: return true;
        default: return false;
    }
}

std::unexpected<error> no_task(std::string_view task) { return fail(ESRCH, "task \"" + std::string(task) + "\"", "look at its cpuset", "there is no such task"); }

}  // namespace

result<std::unique_ptr<shared_model>> shared_model::create(model m) {
    auto tree = percpu::rwsem::create();
    if (!tree) return std::unexpected(tree.error());
    std::unique_ptr<shared_model> out(new shared_model(std::move(m), std::move(*tree)));
    out->publish();
    return out;
}

shared_model::shared_model(model m, std::unique_ptr<percpu::rwsem> tree) : tree_(std::move(tree)), model_(std::move(m)) {}

answer shared_model::perform(const operation& op) {
    if (only_looks(op)) {
        const std::shared_lock hold(*tree_);
        return model_.perform(op);
    }
    const std::unique_lock hold(*tree_);
    answer out = model_.perform(op);
    if (out.ok()) publish();
    return out;
}

void shared_model::rebuild_domains() {
    const std::unique_lock hold(*tree_);
    model_.rebuild_domains();
}

/// What is new or different takes the place of what was; what is replaced is left in `fresh`, and goes with it.
template <class Entry>
void shared_model::replace(table<Entry>& in, table<Entry>& fresh, const std::vector<std::string>& gone) {
    table<Entry> old;
    for (const std::string& name : gone) old.insert(in.extract(name));
    while (!fresh.empty()) {
        auto node = fresh.extract(fresh.begin());
        if (auto was = in.find(node.key()); was != in.end()) old.insert(in.extract(was));
        in.insert(std::move(node));
    }
    fresh.swap(old);
}

void shared_model::publish() COHORT_NO_THREAD_SAFETY_ANALYSIS {
    // Tables are read without published_lock_ here: they change under tree_ alone, and we have it.
    const detail::world& w = model_.state();
    table<set_entry> sets;
    std::map<std::string, table<task_entry>> by_set;  // of sets with new nodes
    table<task_entry> tasks;                          // of the others
    std::vector<std::string> gone_sets, gone_tasks;
    std::set<std::string, std::less<>> there;
    for (const detail::group* g = w.root.get(); g; g = detail::next_cpuset(const_cast<detail::group*>(g), w.root.get())) {
        const std::string path = detail::path_of(*g);
        there.insert(path);
        const detail::group* above = g->parent ? &detail::cpuset_of(*g->parent) : g;
        set_entry now{{g->effective_cpus, g->effective_mems}, detail::path_of(*above), g->own.mem_exclusive || g->hardwall || g->is_root()};
        const auto was = sets_.find(path);
        if (was != sets_.end() && was->second.now == now.now && was->second.hardwall == now.hardwall && was->second.above == now.above) continue;
        if (was != sets_.end() && was->second.now.mems != now.now.mems) by_set[path];
        sets.emplace(path, std::move(now));
    }
    for (const auto& s : sets_) {
        if (!there.contains(s.first)) gone_sets.push_back(s.first);
    }
    for (const auto& [name, t] : w.tasks) {
        detail::group& set = detail::cpuset_of(*t.at);
        task_entry now{{detail::allowed_cpus(w, set), t.mems}, detail::path_of(set), 0};
        const auto was = tasks_.find(name);
        if (was != tasks_.end()) {
            now.seq = was->second.seq + (was->second.now.mems != now.now.mems);
            if (was->second.now == now.now && was->second.home == now.home) continue;
        }
        const auto rebound = by_set.find(now.home);
        (rebound == by_set.end() ? tasks : rebound->second).emplace(name, std::move(now));
    }
    for (const auto& t : tasks_) {
        if (!w.tasks.contains(t.first)) gone_tasks.push_back(t.first);
    }
    {
        const lock_guard hold(published_lock_);
        replace(sets_, sets, gone_sets);
        isolated_ = w.isolated;
        if (!by_set.empty()) rebound_ = &by_set.begin()->first;
    }
    for (auto& [path, those] : by_set) {
        const lock_guard hold(published_lock_);
        rebound_ = &path;
        replace(tasks_, those, {});
    }
    const lock_guard hold(published_lock_);
    rebound_ = nullptr;
    replace(tasks_, tasks, gone_tasks);
}

result<shared_model::masks> shared_model::set_masks(std::string_view path) const {
    const lock_guard hold(published_lock_);
    const auto it = sets_.find(path.empty() ? "." : path);
    if (it == sets_.end()) return fail(ENOENT, "cpuset \"" + std::string(path) + "\"", "look", "there is no such set");
    return it->second.now;
}
result<shared_model::masks> shared_model::task_masks(std::string_view task) const {
    const lock_guard hold(published_lock_);
    const auto it = tasks_.find(task);
    if (it == tasks_.end()) return no_task(task);
    return it->second.now;
}
result<std::string> shared_model::home(std::string_view task) const {
    const lock_guard hold(published_lock_);
    const auto it = tasks_.find(task);
    if (it == tasks_.end()) return no_task(task);
    return it->second.home;
}
result<nodemask> shared_model::hardwall_mems(std::string_view task) const {
    const lock_guard hold(published_lock_);
    const auto it = tasks_.find(task);
    if (it == tasks_.end()) return no_task(task);
    auto set = sets_.find(it->second.home);
    while (set != sets_.end() && !set->second.hardwall) set = sets_.find(set->second.above);
    return set == sets_.end() ? it->second.now.mems : set->second.now.mems;
}
bool shared_model::being_rebound(std::string_view task) const {
    const lock_guard hold(published_lock_);
    const auto it = tasks_.find(task);
    return it != tasks_.end() && rebound_ && it->second.home == *rebound_;
}
bool shared_model::any_set() const {
    const lock_guard hold(published_lock_);
    return sets_.size() > 1;
}
cpumask shared_model::isolated() const {
    const lock_guard hold(published_lock_);
    return isolated_;
}
unsigned shared_model::mems_begin(std::string_view task) const {
    const lock_guard hold(published_lock_);
    const auto it = tasks_.find(task);
    return it == tasks_.end() ? 0 : it->second.seq;
}

}  // namespace cohort::cpuset
