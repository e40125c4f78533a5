// SPDX-License-Identifier: Apache-2.0
// A second world like the first: every pointer leads into the copy.
#include <unordered_map>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

using twins = std::unordered_map<const group*, group*>;

using filter = std::function<bool(const group&)>;

std::unique_ptr<group> copy_tree(const group& from, group* parent, twins& known, const filter& keep) {
    auto made = std::make_unique<group>();
    static_cast<group_data&>(*made) = from;
    made->parent = parent;
    known[&from] = made.get();
    for (const group* c = from.first; c; c = c->next) {
        if (from.is_root() && keep && !keep(*c)) continue;
        auto child = copy_tree(*c, made.get(), known, keep);
        child->before = made->last;
        (made->last ? made->last->next : made->first) = child.get();
        made->last = child.get();
        made->children.emplace(child->name, std::move(child));
    }
    return made;
}

}  // namespace

std::unique_ptr<world> copy(const world& w) { return copy_part(w, {}); }

std::unique_ptr<world> copy_part(const world& w, const std::function<bool(const group&)>& keep) {
    auto made = std::make_unique<world>();
    static_cast<world_data&>(*made) = w;
    twins known{{nullptr, nullptr}};
    made->root = copy_tree(*w.root, nullptr, known, keep);
    // An owner that has been removed since is nobody's equal any more, and so is null: both are only compared with a user that is there.
    const auto twin = [&](const group* g) { return known.contains(g) ? known[g] : nullptr; };
    for (const auto& [from, to] : known) {
        if (to) to->owner = twin(to->owner);
    }
    for (const auto& [from, to] : known) {
        if (!to) continue;
        for (const std::string& name : to->tasks) {
            task& t = made->tasks.emplace(name, w.tasks.find(name)->second).first->second;
            t.at = to;
            t.owner = twin(t.owner);
        }
    }
    made->user = twin(w.user);
    return made;
}

}  // namespace cohort::cpuset::detail
