// SPDX-License-Identifier: Apache-2.0
// Effective CPUs, from a set to all below it. Subtrees in which nothing can change are left out.
#include <vector>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

cpumask member_cpus(const group& g) { return g.own.cpus & g.parent->effective_cpus; }

/// The grant of a partition that stays one. Where siblings' CPUs are left out (7.0) it does not grow by itself when a sibling lets go.
cpumask regranted(const world& w, const group& g) {
    const cpumask now = grantable(w, g, g.own);
    return w.kernel_rules().overlap_invalidates || !g.own.exclusive.empty() ? now : now & g.own.granted;
}

bool own_domain(const group& g) { return g.remote || (g.valid() && g.parent->valid()); }

/// A valid partition becomes invalid; its parent, which is being computed, keeps the CPUs.
void fall(world& w, group& g) {
    if (g.remote) {
        std::erase(w.remotes, &g);
        g.remote = false;
        give_back(w, *w.root, g.state, g.own.granted);
    }
    if (g.state == partition_state::isolated && g.parent->state != partition_state::isolated) w.isolated = w.isolated - g.own.granted;
    g.state = flipped(g.state);
    g.own.cpu_exclusive = false;
}

/// A partition below one that is none (any more) cannot be one either.
void follow_parent_state(world& w, group& g) {
    if (g.valid()) fall(w, g);
    g.reason = g.parent->invalid() ? partition_reason::invalid_parent : partition_reason::not_partition;
}

void publish(world& w, group& g, const cpumask& cpus) {
    g.effective_cpus = cpus;
    if (g.valid() && g.own.exclusive.empty() && !g.remote) g.own.granted = regranted(w, g);
    else if (g.invalid()) reset_to_member(g);
    update_tasks(w, g);
    if (!w.v1 && !g.valid()) g.balance = g.parent->balance;
}

/// One set of the walk. Returns false when nothing below it can change.
bool visit(world& w, group& g, bool first, bool force) {
    if (!g.own.exclusive.empty() && !first) g.own.granted = grantable(w, g, g.own);
    cpumask cpus = own_domain(g) ? partition_cpus(w, g) : member_cpus(g);
    // A partition may run empty while it has no task; update_local() finds out.
    const bool empty_partition = g.valid() && cpus.empty();
    if (!w.v1 && !g.remote && !empty_partition && cpus.empty()) cpus = g.parent->effective_cpus;
    if (g.state == partition_state::member && !force && cpus == g.effective_cpus && (w.v1 || g.balance == g.parent->balance)) return false;

    if (g.state != partition_state::member && !g.remote) {
        if (!first && !g.parent->valid()) {
            follow_parent_state(w, g);
        } else if (!first || empty_partition) {
            const partition_state before = g.state;
            update_local(w, g, nullptr);
            if (g.state != before && g.valid()) cpus = partition_cpus(w, g);
        }
    }
    publish(w, g, cpus);
    return true;
}

}  // namespace

cpumask partition_cpus(world& w, group& g) {
    const bool has_tasks = populated(w, g);
    // A remote partition keeps what it has taken; update_remote() alone changes that.
    if (!g.remote || !g.own.exclusive.empty()) g.own.granted = regranted(w, g);
    cpumask cpus = g.own.granted & w.active;
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (!c->valid()) continue;
        c->reason = partition_reason::none;
        if (!c->own.granted.subset_of(g.own.granted)) c->reason = partition_reason::invalid_cpus;
        else if (has_tasks && cpus.subset_of(c->own.granted)) c->reason = partition_reason::no_cpus;
        if (c->reason != partition_reason::none) {
            fall(w, *c);
            continue;
        }
        c->own.granted = regranted(w, *c);
        cpus = cpus - c->own.granted;
    }
    return cpus;
}

void propagate(world& w, group& top, bool force) {
    for (group* at = &top; at;) {
        const bool foreign = at->remote && at != &top;
        at = next_cpuset(at, &top, foreign || !visit(w, *at, at == &top, force));
    }
}

void propagate_siblings(world& w, group& parent, const group* changed) {
    for (group* s = first_child(parent); s; s = next_child(s)) {
        if (s == changed || s->remote) continue;
        if (!s->valid()) {
            cpumask cpus = member_cpus(*s);
            if (cpus == s->effective_cpus) continue;
        }
        propagate(w, *s, false);
    }
}

}  // namespace cohort::cpuset::detail
