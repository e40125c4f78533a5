// SPDX-License-Identifier: Apache-2.0
/// A tree of cpusets as a kernel shows it, as plain data; and a model that repeats it.
///
///     snapshot s = ...;                             // read from a live tree, from JSON (group/cpuset_text.hpp), or take()n of a model
///     auto l = cpuset::load(s).value();
///     for (const difference& d : l.differences) std::puts(d.line().c_str());   // a: cpuset.cpus.effective: the kernel shows "0-2", the model says "0-3"
///     l.model.perform(*parse_operation("write a cpuset.cpus 0-1"));            // try it here first
///
/// Kernel: the files cpuset.* and cgroup.subtree_control of each directory; Cpus_allowed_list and Mems_allowed_list of /proc/PID/status.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <cohort/cpuset/model.hpp>

namespace cohort::cpuset {

/// A cgroup. One that has no cpuset of its own (its parent does not hand the controller on) has no files.
struct set_snapshot {
    std::string path = ".";  ///< from the root, "a/b"; "." the root
    bool hands_on = false;   ///< version 2: cpuset stands in cgroup.subtree_control
    /// What each cpuset file read, without the newline: lists asked for, effective ones, cpuset.cpus.partition, and the flags of version 1 (cgroup.clone_children among them).
    /// Files that the kernel has and nobody read are left out, and then not compared.
    std::map<std::string, std::string, std::less<>> files = {};

    bool has_cpuset() const { return !files.empty(); }
    bool operator==(const set_snapshot&) const = default;
};

/// A thread of user space. Kernel threads are left out: no cpuset rule counts them.
struct task_snapshot {
    std::string id = {};    ///< the thread's number in decimal; of a model: the task's name. Unique
    std::string name = {};  ///< for people; may be empty, may be the same for many
    std::string path = ".";
    cpumask cpus = {};      ///< as shown (Cpus_allowed_list); empty: not known
    nodemask mems = {};     ///< as shown (Mems_allowed_list); empty: not known
    /// What the task itself asked for (sched_setaffinity). The kernel does not show it: nullopt, unless whoever asked says so. load() then takes `cpus` for the wish when the
    /// set allows more.
    std::optional<cpumask> asked = {};
    bool operator==(const task_snapshot&) const = default;
};

struct snapshot {
    kernel profile = kernel::v6_12;  ///< the rules to judge by
    bool v1 = false;                 ///< the controller is bound to a version 1 hierarchy
    std::string release = {};        ///< for people: the kernel's own name for itself ("6.12.41+deb13-amd64"); may be empty
    machine::topology machine = {};  ///< its shape; `online` and `memory` below say what of it is there now
    cpumask online = {};             ///< active CPUs
    nodemask memory = {};            ///< nodes with memory online
    cpumask boot_isolated = {};      ///< isolcpus=domain,...
    std::vector<set_snapshot> sets = {};  ///< pre-order: a parent before its children; the first is the root
    std::vector<task_snapshot> tasks = {};

    /// Null when there is none.
    const set_snapshot* find(std::string_view path) const;
};

/// Where the model does not come to what the kernel showed.
struct difference {
    std::string path;      ///< the set; of a task: the task's set
    std::string subject;   ///< a file; "task 4711 cpus", "task 4711 mems"; or an act that the model refuses ("attach 4711")
    std::string observed;  ///< the kernel's
    std::string modelled;  ///< ours; for an act: errno and why
    std::string line() const;
    bool operator==(const difference&) const = default;
};

struct loaded {
    cpuset::model model;
    std::vector<difference> differences;
};

/// Repeats a snapshot on a model by operations: sets, controllers, lists, tasks, partitions, and CPUs and nodes that are offline. How the kernel came to its state is not
/// known; several orders are tried and the one with the fewest differences is kept. What still differs is listed, and the model goes on with its own values.
/// Errors: EINVAL, the snapshot contradicts itself (no root, a set before its parent or twice, a task in no set or twice, CPUs online that are not possible).
/// Cost: some writes per set; sets times files for the comparison.
result<loaded> load(const snapshot& s);

/// The state of a model as a snapshot. machine: the topology that the model was made for.
snapshot take(model& m, const machine::topology& machine);

}  // namespace cohort::cpuset
