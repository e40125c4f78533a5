// SPDX-License-Identifier: Apache-2.0
// Effective CPUs, from a set to all below it. Subtrees in which nothing can change are left out.
//
// A walk has one mask at work (world::at_work), the effective CPUs of the set it stands at. A partition of that set that rises or falls makes siblings' walks run in
// between, with the same mask: the set then gets what they left in it. That is the kernel's doing, and shows in what a revived partition reads.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {
namespace {

bool hosts_tasks(const group& g) {
    if (!g.tasks.empty()) return true;
    for (const group* c = g.first; c; c = c->next) {
        if (!c->has_cpuset && c->tasks_below) return true;
    }
    return false;
}

/// 7.0: the grant of a partition that stays one leaves siblings' claims out, and without an exclusive list it does not grow by itself when a sibling lets go.
cpumask settled_grant(const world& w, const group& g) {
    const cpumask now = grant_for(w, g, g.own).cpus;
    return g.own.exclusive.empty() ? now & g.own.granted : now;
}

/// Before, siblings' claims did not count again.
cpumask kept_grant(const world& w, const group& g) { return w.kernel_rules().overlap_invalidates ? g.own.cpus & g.parent->own.granted : settled_grant(w, g); }

void publish(world& w, group& g, bool first, partition_state before) {
    g.effective_cpus = w.at_work;
    if (!g.own.exclusive.empty() && !first) g.own.granted = grant_for(w, g, g.own).cpus;
    if (g.valid() && g.own.exclusive.empty()) g.own.granted = kept_grant(w, g);
    else if (g.invalid()) reset_to_member(g);
    if (g.valid() && g.state != before) g.reason = partition_reason::none;
    update_tasks(w, g);
    if (hosts_tasks(g)) w.at_work = g.effective_cpus;
    if (!w.v1 && !g.valid()) g.balance = g.parent->balance;
    if (!g.own.cpus.empty() && g.balance && (w.v1 || g.valid())) w.domains_due = true;
}

/// A partition below one that is none (any more) cannot be one either; what it had is the parent's again. One that has run empty is overlooked: it stays valid, with nothing.
void follow_parent_state(group& g, bool empty) {
    if (!empty) g.state = made_invalid(g.state);
    g.reason = g.parent->invalid() ? partition_reason::invalid_parent : partition_reason::not_partition;
}

/// One set of the walk. Returns false when nothing below it can change.
bool visit(world& w, group& g, bool first, bool force) {
    const partition_state before = g.state;
    if (g.remote && !first) {
        const cpumask now = grant_for(w, g, g.own).cpus;
        if (now == g.own.granted) return false;
        update_remote(w, g, now);
    }
    const bool remote = g.remote;
    cpumask& cpus = w.at_work;
    cpus = remote || (g.valid() && g.parent->valid()) ? partition_cpus(w, g) : member_cpus(g);
    if (!remote) {
        // A partition may run empty while it has no task; update_local() finds out.
        const bool empty_partition = g.valid() && cpus.empty();
        if (!w.v1 && !empty_partition && cpus.empty()) cpus = g.parent->effective_cpus;
        if (g.state == partition_state::member && !force && cpus == g.effective_cpus && (w.v1 || g.balance == g.parent->balance)) return false;
        const bool followed = !first && before != partition_state::member;
        if (followed && !g.parent->valid()) follow_parent_state(g, empty_partition);
        else if (followed || empty_partition) update_local(w, g, nullptr);
    }
    publish(w, g, first, before);
    return true;
}

}  // namespace

cpumask member_cpus(const group& g) { return g.own.cpus & g.parent->effective_cpus; }

cpumask partition_cpus(world& w, group& g) {
    const bool has_tasks = populated(w, g), settles = !w.kernel_rules().overlap_invalidates;
    if (settles && (!g.remote || !g.own.exclusive.empty())) g.own.granted = settled_grant(w, g);
    cpumask cpus = (settles ? g.own.granted : grant_for(w, g, g.own).cpus) & w.active;
    for (group* c = first_child(g); c; c = next_child(c)) {
        if (!c->valid()) continue;
        c->reason = partition_reason::none;
        if (!c->own.granted.subset_of(g.own.granted)) c->reason = partition_reason::invalid_cpus;
        else if (has_tasks && cpus.subset_of(c->own.granted)) c->reason = partition_reason::no_cpus;
        if (c->reason != partition_reason::none) {
            c->state = flipped(c->state);
            continue;
        }
        if (settles) c->own.granted = settled_grant(w, *c);
        cpus = cpus - c->own.granted;
    }
    return cpus;
}

void propagate(world& w, group& top, bool force) {
    for (group* at = &top; at;) at = next_cpuset(at, &top, !visit(w, *at, at == &top, force));
}

void propagate_siblings(world& w, group& parent, const group* changed) {
    for (group* s = first_child(parent); s; s = next_child(s)) {
        if (s == changed) continue;
        if (!s->valid()) {
            w.at_work = member_cpus(*s);
            if (w.at_work == s->effective_cpus) continue;
        } else if (s->remote) {
            continue;
        }
        propagate(w, *s, false);
    }
}

}  // namespace cohort::cpuset::detail
