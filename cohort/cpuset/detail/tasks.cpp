// SPDX-License-Identifier: Apache-2.0
// Tasks: where they are, which CPUs and nodes they may use, and their own wishes.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

verdict no_such_task(const std::string& name) { return {ESRCH, "there is no task \"" + name + "\""}; }

/// The scheduler takes a mask that has an active CPU, and keeps the task's own wish within it where it can.
void give_cpus(const world& w, task& t, cpumask cpus) {
    if (w.kernel_rules().keeps_affinity && t.asked) {
        if (const cpumask wished = cpus & *t.asked; !wished.empty()) cpus = wished;
    }
    if (cpus.intersects(w.active)) t.cpus = cpus;
}

/// A task that runs, with no CPU of its mask active: the scheduler's last resort, the list of its set (version 2) or all there may be. Its own wish is forgotten.
void wake(world& w, task& t) {
    if (t.cpus.intersects(w.active)) return;
    const cpumask& list = cpuset_of(*t.at).own.cpus;
    t.cpus = !w.v1 && list.intersects(w.active) ? list : w.possible;
    t.asked.reset();
}

void give_mems(task& t, const nodemask& mems) {
    if (t.mems == mems) return;
    t.mems = mems;
    rebind(t.policy, mems);
    if (t.vma) rebind(*t.vma, mems);
}

/// Tasks of the set and of the cgroups below that have no cpuset of their own.
template <class Visit>
void each_task(world& w, group& g, Visit visit) {
    for (const std::string& name : g.tasks) visit(w.tasks.find(name)->second);
    for (group* c = g.first; c; c = c->next) {
        if (!c->has_cpuset && c->tasks_below) each_task(w, *c, visit);
    }
}

cpumask root_cpus(const world& w) { return w.possible - w.sub_cpus; }

void count(group& g, int change) {
    for (group* at = &g; at; at = at->parent) at->tasks_below += static_cast<std::size_t>(change);
}

task& put(world& w, group& g, task t) {
    t.at = &g;
    g.tasks.insert(t.name);
    count(g, 1);
    return w.tasks.insert_or_assign(t.name, std::move(t)).first->second;
}

/// A task that is named for the first time: a process of the user.
task newborn(const world& w, const std::string& name, const group& home) {
    const group& set = cpuset_of(const_cast<group&>(home));
    return {.name = name, .at = nullptr, .cpus = set.is_root() ? w.starter_cpus : allowed_cpus(w, set), .mems = allowed_mems(w, set), .owner = w.user};
}

bool thread_root(const group& g) { return !g.is_root() && g.hands_on && !g.tasks.empty(); }

bool populated_child(const group& g) {
    for (const group* c = g.first; c; c = c->next) {
        if (c->tasks_below) return true;
    }
    return false;
}

/// The rules of cgroup itself for a process that comes to `to`.
verdict may_host(const world& w, const group& to) {
    if (w.v1 || to.is_root()) return {};
    for (const group* p = to.parent; p; p = p->parent) {
        if (thread_root(*p)) return {EOPNOTSUPP, "\"" + path_of(*p) + "\" has tasks beside its children: what is below takes threads only"};
    }
    if (to.hands_on && populated_child(to)) return {EBUSY, "\"" + path_of(to) + "\" hands cpuset on and a child has tasks"};
    return {};
}

bool is_inside(const group& top, const group& g) {
    for (const group* at = &g; at; at = at->parent) {
        if (at == &top) return true;
    }
    return false;
}

verdict leaves_delegation(const world& w) { return {EACCES, "the move leaves what is delegated to the user of \"" + path_of(*w.user) + "\""}; }

verdict may_move(const world& w, const task& t, const group& to) {
    if (w.admin()) return {};
    if (t.owner != w.user) return {EACCES, "task \"" + t.name + "\" belongs to another user"};
    return is_inside(*w.user, *t.at) && is_inside(*w.user, to) ? verdict{} : leaves_delegation(w);
}

verdict has_resources(const world& w, const group& set) {
    if (set.effective_cpus.empty()) return {ENOSPC, "\"" + path_of(set) + "\" has no CPU"};
    if (w.v1 && set.own.mems.empty()) return {ENOSPC, "\"" + path_of(set) + "\" has no memory node"};
    return {};
}

/// The delegate's first sight of a task: it is started in `to`, as by clone3() with CLONE_INTO_CGROUP.
verdict start_in(world& w, group& to, const std::string& name) {
    if (!is_inside(*w.user, to)) return leaves_delegation(w);
    verdict v = may_host(w, to);
    if (!v.refused()) v = has_resources(w, cpuset_of(to));
    if (!v.refused()) put(w, to, newborn(w, name, to));
    return v;
}

verdict may_govern(const world& w, const task& t) {
    if (w.admin() || t.owner == w.user) return {};
    return {EPERM, "task \"" + t.name + "\" belongs to another user"};
}

}  // namespace

cpumask allowed_cpus(const world& w, const group& g) {
    const bool any = w.kernel_rules().root_tasks_any_possible;
    if (!g.is_root()) {
        for (const group* at = &g; at; at = at->parent) {
            if (at->has_cpuset && at->effective_cpus.intersects(w.active)) return at->effective_cpus & w.active;
        }
    }
    if (!any) return w.root->effective_cpus & w.active;
    const cpumask rest = root_cpus(w);
    return rest.intersects(w.active) ? rest : w.possible;
}

nodemask allowed_mems(const world& w, const group& g) {
    for (const group* at = &g; at; at = at->parent) {
        if (at->has_cpuset && at->effective_mems.intersects(w.memory_nodes)) return at->effective_mems & w.memory_nodes;
    }
    return w.memory_nodes;
}

void update_tasks(world& w, group& g) {
    if (!g.tasks_below && !g.is_root()) return;
    const bool widely = g.is_root() && w.kernel_rules().root_tasks_any_possible;
    const cpumask cpus = widely ? root_cpus(w) : g.effective_cpus;
    if (g.is_root() && cpus.intersects(w.active)) w.starter_cpus = cpus;
    each_task(w, g, [&](task& t) { give_cpus(w, t, cpus); });
}

void update_task_mems(world& w, group& g) {
    g.old_mems = allowed_mems(w, g);
    if (!g.tasks_below) return;
    each_task(w, g, [&](task& t) { give_mems(t, g.old_mems); });
}

namespace {

/// A task that was in `from` is in `to` now.
void settle_in(world& w, task& t, const group& from, const group& to) {
    // Between sets of version 2 that have the same, nothing is touched.
    if (!w.v1 && !w.kernel_rules().attach_always_sets && from.effective_cpus == to.effective_cpus && from.effective_mems == to.effective_mems) return;
    const cpumask root_tasks = w.kernel_rules().root_tasks_any_possible ? root_cpus(w) : w.possible;
    give_cpus(w, t, to.is_root() ? root_tasks : allowed_cpus(w, to));
    give_mems(t, allowed_mems(w, to));
}

}  // namespace

void receive_tasks(world& w, group& g) {
    const group& from = cpuset_of(*g.parent);
    each_task(w, g, [&](task& t) { settle_in(w, t, from, g); });
}

void adopt_tasks(world& w, group& g, bool moved) {
    group& to = cpuset_of(g);
    if (moved) {
        update_tasks(w, to);
        update_task_mems(w, to);
    } else {
        each_task(w, g, [&](task& t) { settle_in(w, t, g, to); });
    }
}

void move_task(world& w, task& t, group& to) {
    group &from_set = cpuset_of(*t.at), &to_set = cpuset_of(to);
    t.at->tasks.erase(t.name);
    count(*t.at, -1);
    t.at = &to;
    to.tasks.insert(t.name);
    count(to, 1);
    if (&from_set != &to_set) settle_in(w, t, from_set, to_set);
}

verdict attach(world& w, std::string_view path, const std::string& name) {
    group* to = find(w, path);
    if (!to) return no_such_group(path);
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end() && !w.admin()) return start_in(w, *to, name);
    task& t = it == w.tasks.end() ? put(w, *w.root, newborn(w, name, *w.root)) : it->second;
    if (verdict v = may_move(w, t, *to); v.refused()) return v;
    if (t.at == to) return {};
    if (verdict v = may_host(w, *to); v.refused()) return v;
    if (const group& set = cpuset_of(*to); &set != &cpuset_of(*t.at)) {
        if (verdict v = has_resources(w, set); v.refused()) return v;
    }
    move_task(w, t, *to);
    return {};
}

verdict fork(world& w, const std::string& name, const std::string& child) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) return no_such_task(name);
    if (w.tasks.contains(child)) return {EEXIST, "there is a task \"" + child + "\""};
    wake(w, it->second);
    task t = it->second;
    t.name = child;
    put(w, *it->second.at, std::move(t));
    return {};
}

verdict exit(world& w, const std::string& name) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) return no_such_task(name);
    it->second.at->tasks.erase(name);
    count(*it->second.at, -1);
    w.tasks.erase(it);
    return {};
}

verdict set_affinity(world& w, const std::string& name, const cpumask& cpus) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) return no_such_task(name);
    task& t = it->second;
    if (verdict v = may_govern(w, t); v.refused()) return v;
    const group& set = cpuset_of(*t.at);
    const cpumask allowed = allowed_cpus(w, set), now = cpus & allowed;
    // The mask that a task has already is taken unseen.
    const bool useless = now != t.cpus && !now.intersects(w.active);
    if (now.empty() || useless) return {EINVAL, "none of CPUs " + cpus.list() + " is active and allowed in \"" + path_of(set) + "\", which allows " + allowed.list()};
    t.cpus = now;
    t.asked = cpus;
    return {};
}

verdict set_policy(world& w, const std::string& name, const memory_policy& p, bool vma) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) return no_such_task(name);
    task& t = it->second;
    if (verdict v = may_govern(w, t); v.refused()) return v;
    wake(w, t);
    if (p.mode == policy_mode::weighted_interleave && !w.kernel_rules().weighted_interleave) return {EINVAL, "this kernel has no weighted interleaving"};
    if (!p.nodes.subset_of(nodemask::range(0, w.node_ids - 1))) return {EINVAL, "node " + std::to_string(p.nodes.last()) + " is beyond the last of the kernel"};
    auto made = contextualize(p, t.mems & w.memory_nodes);
    if (!made) return {made.error().code, made.error().object + ": " + made.error().reason};
    if (!vma) t.policy = *made;
    else if (made->mode == policy_mode::none) t.vma.reset();
    else t.vma = *made;
    return {};
}

answer show_task(const world& w, const std::string& name) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) {
        verdict v = no_such_task(name);
        return {.code = v.code, .why = v.why};
    }
    const task& t = it->second;
    return {.value = t.cpus.list(), .mems = t.mems.list(), .path = path_of(*t.at), .policy = t.policy.text(), .vma_policy = t.vma ? t.vma->text() : ""};
}

answer list_tasks(world& w, std::string_view path) {
    const group* g = find(w, path);
    if (!g) {
        verdict v = no_such_group(path);
        return {.code = v.code, .why = v.why};
    }
    return {.list = {g->tasks.begin(), g->tasks.end()}};
}

}  // namespace cohort::cpuset::detail
