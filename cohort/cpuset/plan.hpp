// SPDX-License-Identifier: Apache-2.0
/// From a tree of cpusets to another one: ordered writes that leave no task without what it needs on the way, each with its undo.
///
///     target t{.sets = {{.path = "web", .cpus = cpumask{0, 1}, .partition = "root"}}};
///     plan p = make_plan(m, machine, t);
///     for (const plan_step& s : p.steps) std::puts(to_line(s.what).c_str());       // mkdir web, write web cpuset.cpus 0-1, ...
///     for (const std::string& r : p.refusals) std::puts(r.c_str());                // what cannot be, and why
///
/// Kernel: none; there, an order that does not fit is EBUSY, EACCES, ENOSPC, EINVAL, or "root invalid".
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <cohort/cpuset/what_if.hpp>

namespace cohort::cpuset {

/// What is not given is left as it is; a set that is not there is made.
struct target_set {
    std::string path = {};                        ///< from the root, "a/b"; not the root
    std::optional<cpumask> cpus = {}, exclusive = {};  ///< empty lists: the set inherits; claims nothing
    std::optional<nodemask> mems = {};
    std::optional<std::string> partition = {};    ///< member, root, isolated
    std::map<std::string, std::string> flags = {};///< other files, such as cpuset.cpu_exclusive of version 1
    std::vector<std::string> tasks = {};          ///< ids of tasks that are to be there
};

struct target {
    bool prune = false;  ///< sets that are neither named nor above a named one are removed
    std::vector<target_set> sets = {};
};

struct plan_step {
    operation what;
    std::string expect = {};              ///< what the file reads afterwards; "" for other operations
    std::vector<operation> undo = {};     ///< one operation; for a removed set several
    std::string note = {};                ///< of a step that is only for the way
};

struct plan {
    std::vector<plan_step> steps;
    std::vector<std::string> refusals;    ///< not empty: the target cannot be reached so; steps are those that could be done
    /// What is not as before when all undos have been performed, last step first: the kernel has no way back there (6.12: a populated set does not give its list up).
    std::vector<change> not_restored;
    std::vector<std::string> roll_back_faults;  ///< undos that are refused, or that would leave a task without what it needs
    std::size_t states = 0;               ///< states of the model that were looked at

    bool holds() const { return refusals.empty(); }
};

/// What a populated set must have, step by step: CPUs and nodes; of those that it asks for, at least one where it had one before; and no partition that was not invalid
/// before is invalid. "" when it holds for `now`.
std::string unsafe(const model& before, const model& now);

/// Rules order the writes: give up before taking, widen before narrowing, parents first when growing, children first when shrinking, tasks between. Each write is performed on a
/// copy of m and taken only when it is not refused and the state is safe; one that is not waits for the others. Where all wait, a bounded search tries detours: a partition, an
/// exclusive list or a list that is given up for a time, of sets that the target names. Nothing of m changes. Cost: steps times sets.
plan make_plan(const model& m, const machine::topology& machine, const target& t);

/// The plan as a shell script: each step checked by reading back, undone in the reverse order when one fails. $CGROUP is the mount point, in the first lines.
std::string plan_script(const plan& p, bool v1);

}  // namespace cohort::cpuset
