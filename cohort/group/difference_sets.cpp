// SPDX-License-Identifier: Apache-2.0
// What a change does to sets, tried on the model.
#include <algorithm>

#include <cohort/group/difference.hpp>

namespace cohort::group {
namespace {

using cpuset::operation;
using cpuset::verb;

/// A set goes once nothing runs in it, and what we run there ends before.
void perform(cpuset::model& m, const operation& op) {
    if (op.what == verb::rmdir) {
        for (const std::string& task : m.perform({.what = verb::tasks, .path = op.path}).list) m.perform({.what = verb::exit, .task = task});
    }
    m.perform(op);
}

void carry_out(cpuset::model& m, const difference& d) {
    for (const step& s : d.undo) {
        for (const operation& op : s.undo) perform(m, op);
    }
    for (const step& s : d.steps) {
        if (s.kind == step::form::change_cpuset) perform(m, s.change);
    }
}

std::string reads(cpuset::model& m, const std::string& path, const char* file) { return m.perform({.what = verb::read, .path = path, .file = file}).value; }

/// Whether the sets of a plan are the same in both.
bool same_sets(const plan& p, cpuset::model& a, cpuset::model& b) {
    const char* effective = a.is_v1() ? "cpuset.effective_cpus" : "cpuset.cpus.effective";
    return std::ranges::all_of(p.cohorts, [&](const cohort_plan& c) {
        if (c.keep.by != keeping::form::kernel) return true;
        return reads(a, c.keep.set, effective) == reads(b, c.keep.set, effective) && reads(a, c.keep.set, "cpuset.cpus.partition") == reads(b, c.keep.set, "cpuset.cpus.partition");
    });
}

}  // namespace

machine_view without_own(const machine_view& seen, const plan& now) {
    machine_view out = seen;
    // CPUs of our partitions are kept from where this process stands.
    cpumask ours;
    for (const cohort_plan& c : now.cohorts) {
        if (c.keep.by == keeping::form::kernel && !c.keep.partition.empty()) ours |= c.cpus;
    }
    for (const unusable& u : seen.not_usable) {
        if (u.reason == offline_reason) ours = ours - u.cpus;
    }
    out.usable |= ours & now.machine.usable;
    for (unusable& u : out.not_usable) u.cpus = u.cpus - out.usable;
    std::erase_if(out.not_usable, [](const unusable& u) { return u.cpus.empty(); });
    if (!seen.cpusets || !seen.cpusets->tree) return out;
    const cpuset_view& was = *seen.cpusets;
    auto view = std::make_shared<cpuset_view>();
    view->about = was.about, view->barred = was.barred, view->place = was.place, view->under = was.under, view->home = was.home, view->machine = was.machine, view->notes = was.notes;
    cpuset::model tree = was.tree->clone();
    for (auto s = now.steps.rbegin(); s != now.steps.rend(); ++s) {
        for (const operation& op : s->undo) perform(tree, op);
    }
    view->tree = std::make_unique<cpuset::model>(std::move(tree));
    out.cpusets = std::move(view);
    return out;
}

difference change_of(const plan& now, const plan& next, const machine_view& seen) {
    difference d = difference_of(now, next);
    if (!seen.cpusets || !seen.cpusets->tree || !next.machine.cpusets || !next.machine.cpusets->tree) return d;
    cpuset::model changed = seen.cpusets->tree->clone(), made = next.machine.cpusets->tree->clone();
    carry_out(changed, d);
    for (const step& s : next.steps) {
        if (s.kind == step::form::change_cpuset) perform(made, s.change);
    }
    return same_sets(next, changed, made) ? d : difference_of(now, next, true);
}

}  // namespace cohort::group
