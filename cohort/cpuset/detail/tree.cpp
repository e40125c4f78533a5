// SPDX-License-Identifier: Apache-2.0
// The cgroup tree under the cpusets: names, walks, controllers, and who may write.
#include <cohort/base/check.hpp>
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

/// Splits "a/b/c" into "a/b" and "c".
std::pair<std::string_view, std::string_view> split(std::string_view path) {
    const std::size_t at = path.rfind('/');
    if (at == std::string_view::npos) return {{}, path};
    return {path.substr(0, at), path.substr(at + 1)};
}

group& link(group& parent, std::string_view name) {
    auto made = std::make_unique<group>();
    group& g = *made;
    g.name = name;
    g.parent = &parent;
    g.before = parent.last;
    (parent.last ? parent.last->next : parent.first) = &g;
    parent.last = &g;
    parent.children.emplace(g.name, std::move(made));
    return g;
}

void unlink(group& g) {
    group& parent = *g.parent;
    (g.before ? g.before->next : parent.first) = g.next;
    (g.next ? g.next->before : parent.last) = g.before;
    parent.children.erase(parent.children.find(g.name));
}

/// Own tasks and a threaded controller handed on: the children are threads' homes, not domains.
bool thread_root(const group& g) { return !g.is_root() && g.hands_on && !g.tasks.empty(); }

bool populated_child(const group& g) {
    for (const group* c = g.first; c; c = c->next) {
        if (c->tasks_below) return true;
    }
    return false;
}

/// The set is about to vanish with its controller or its group.
void take_offline(world& w, group& g) {
    if (g.valid()) become(w, g, partition_state::member);
    if (w.v1 && g.balance && !g.own.cpus.empty()) w.domains_due = true;
}

std::string quoted(std::string_view path) { return "\"" + std::string(path.empty() ? "." : path) + "\""; }

}  // namespace

verdict no_such_group(std::string_view path) { return {ENOENT, "there is no cgroup " + quoted(path)}; }

group* find(world& w, std::string_view path) {
    group* at = w.root.get();
    while (at && !path.empty()) {
        const std::size_t end = std::min(path.find('/'), path.size());
        const auto it = at->children.find(path.substr(0, end));
        at = it == at->children.end() ? nullptr : it->second.get();
        path.remove_prefix(std::min(path.size(), end + 1));
    }
    return at;
}

std::string path_of(const group& g) {
    if (g.is_root()) return ".";
    std::string out = g.name;
    for (const group* p = g.parent; !p->is_root(); p = p->parent) out = p->name + "/" + out;
    return out;
}

group* next_child(group* at) {
    do at = at->next;
    while (at && !at->has_cpuset);
    return at;
}

group* first_child(const group& g) { return !g.first || g.first->has_cpuset ? g.first : next_child(g.first); }

group* next_cpuset(group* at, const group* top, bool skip) {
    if (!skip) {
        if (group* below = first_child(*at)) return below;
    }
    for (; at != top; at = at->parent) {
        if (group* beside = next_child(at)) return beside;
    }
    return nullptr;
}

group& cpuset_of(group& g) {
    group* at = &g;
    while (!at->has_cpuset) at = at->parent;
    return *at;
}

verdict may_write(const world& w, const group& g) {
    if (w.admin() || g.owner == w.user) return {};
    return {EACCES, "the files of " + quoted(path_of(g)) + " belong to root, not to the user that " + quoted(path_of(*w.user)) + " is delegated to"};
}

verdict make_group(world& w, std::string_view path) {
    const auto [above, name] = split(path);
    if (name.empty()) return {EEXIST, "the root is always there"};
    group* parent = find(w, above);
    if (!parent) return no_such_group(above);
    if (parent->children.contains(name)) return {EEXIST, quoted(path) + " exists"};
    if (!w.admin() && parent != w.user && parent->owner != w.user) return {EACCES, "the directory of " + quoted(above) + " belongs to root"};
    group& g = link(*parent, name);
    g.owner = w.user;
    if (w.v1 || parent->hands_on) bring_online(w, g);
    return {};
}

void bring_online(world& w, group& g) {
    g.own = {};
    g.effective_cpus = {};
    g.effective_mems = {};
    g.state = partition_state::member;
    g.reason = partition_reason::none;
    g.handed_down = {};
    g.follows_parent = true;
    g.has_cpuset = true;
    group& parent = *g.parent;
    g.spread_page = parent.spread_page;
    g.spread_slab = parent.spread_slab;
    if (!w.v1) {
        g.balance = parent.balance;
        g.effective_cpus = parent.effective_cpus;
        g.old_mems = g.effective_mems = parent.effective_mems;
        return;
    }
    g.balance = true;
    g.clone_children = parent.clone_children;
    if (!g.clone_children) return;
    for (group* s = first_child(parent); s; s = next_child(s)) {
        if (s->own.cpu_exclusive || s->own.mem_exclusive) return;
    }
    g.own.cpus = g.effective_cpus = parent.own.cpus;
    g.own.mems = g.effective_mems = g.old_mems = parent.own.mems;
}

verdict remove_group(world& w, std::string_view path) {
    group* g = find(w, path);
    if (!g) return no_such_group(path);
    if (g->is_root()) return {EBUSY, "the root stays"};
    if (!w.admin() && g->parent != w.user && g->parent->owner != w.user) return {EACCES, "the directory above " + quoted(path) + " belongs to root"};
    if (g->tasks_below) return {EBUSY, quoted(path) + " has " + std::to_string(g->tasks_below) + (g->tasks_below == 1 ? " task" : " tasks")};
    if (g->first) return {EBUSY, quoted(path) + " has the child \"" + g->first->name + "\""};
    if (g->has_cpuset) take_offline(w, *g);
    if (g == w.user) w.user = nullptr;
    unlink(*g);
    return {};
}

namespace {

verdict enable(world& w, group& g, std::string_view path) {
    if (!g.has_cpuset) return {ENOENT, "cpuset is not among the controllers of " + quoted(path) + ": its parent does not hand it on"};
    if (g.hands_on) return {};
    for (const group* p = g.parent; p; p = p->parent) {
        if (thread_root(*p)) return {EOPNOTSUPP, quoted(path_of(*p)) + " has tasks beside its children: what is below takes threads only"};
    }
    if (!g.is_root() && !g.tasks.empty() && populated_child(g)) return {EBUSY, quoted(path) + " has tasks, and so has a child"};
    g.hands_on = true;
    for (group* c = g.first; c; c = c->next) {
        bring_online(w, *c);
        receive_tasks(w, *c);
    }
    return {};
}

verdict disable(world& w, group& g, std::string_view path) {
    if (!g.hands_on) return {};
    for (const group* c = g.first; c; c = c->next) {
        if (c->hands_on) return {EBUSY, "the child \"" + c->name + "\" of " + quoted(path) + " hands cpuset on"};
    }
    g.hands_on = false;
    for (group* c = g.first; c; c = c->next) {
        const bool partition = c->valid();
        take_offline(w, *c);
        c->has_cpuset = false;
        adopt_tasks(w, *c, partition);
        c->own = {};
    }
    return {};
}

}  // namespace

verdict set_controller(world& w, std::string_view path, bool on) {
    group* g = find(w, path);
    if (!g) return no_such_group(path);
    if (w.v1) return {ENOENT, "a hierarchy of version 1 has no cgroup.subtree_control"};
    if (!w.admin() && g != w.user && g->owner != w.user) return may_write(w, *g);
    return on ? enable(w, *g, path) : disable(w, *g, path);
}

verdict bind(world& w, bool to_v2) {
    if (!w.admin()) return {EPERM, "only root mounts hierarchies"};
    if (w.v1 != to_v2) return {};
    if (w.root->first) return {EBUSY, "the hierarchy has the cgroup \"" + w.root->first->name + "\""};
    group& r = *w.root;
    w.v1 = !to_v2;
    r.hands_on = to_v2;
    r.own.cpus = to_v2 ? w.possible : r.effective_cpus;
    r.own.mems = to_v2 ? w.possible_nodes : r.effective_mems;
    return {};
}

}  // namespace cohort::cpuset::detail
