// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for what its other parts ask a task's cpuset, over a model of the machine: code that is written in them compiles as C++ and behaves as there.
///
///     struct task_struct worker = {"worker"};                                      // a task of the model, by its name
///     set_current(&worker);
///     cpumask_var_t mask; alloc_cpumask_var(&mask, GFP_KERNEL);
///     cpuset_cpus_allowed(current, mask);                                          // what sched_setaffinity() would leave of a request
///     do { seq = read_mems_allowed_begin(); page = alloc(); } while (!page && read_mems_allowed_retry(seq));
///     if (!cpuset_node_allowed(node, GFP_USER)) node = first_node(cpuset_current_mems_allowed);
///
/// The machine is this one as it is when it is first asked about; cohort::kapi::use_cpusets() puts another in its place, and cpusets() changes it (cpuset/shared_model.hpp).
/// Kernel: include/linux/cpuset.h, kernel/cgroup/cpuset.c (v6.12). Differences: a task is a name in the model; `current` is whom the thread has last been made to be; one that
/// the model does not know may use all that the root has; there are no interrupts, OOM victims and zones.
#pragma once

#include <memory>

#include <cohort/cpuset/shared_model.hpp>
#include <cohort/kapi/cpumask.h>

using nodemask_t = cohort::nodemask;

inline constexpr gfp_t __GFP_HARDWALL = 1u << 6;  ///< of the set's own nodes only
inline constexpr gfp_t GFP_USER = GFP_KERNEL | __GFP_HARDWALL;

struct task_struct {
    const char* comm;  ///< its name in the model
};

/// NULL: none; then as one that the model does not know. The thread's own.
void set_current(struct task_struct* task);
struct task_struct* get_current();
#define current (get_current())

namespace cohort::kapi {
/// Everybody's machine. Any thread.
cpuset::shared_model& cpusets();
/// NULL: this machine again, looked at anew. While no function of this header is running.
void use_cpusets(std::unique_ptr<cpuset::shared_model> machine);
}  // namespace cohort::kapi

/// Whether there is a set besides the root.
bool cpusets_enabled();
/// What the task's set allows it; never empty.
void cpuset_cpus_allowed(struct task_struct* task, cohort::cpumask* mask);
nodemask_t cpuset_mems_allowed(struct task_struct* task);
/// Whether the CPU belongs to an isolated partition.
bool cpuset_cpu_is_isolated(int cpu);
/// Whether current may use one of these nodes.
bool cpuset_nodemask_valid_mems_allowed(const nodemask_t* nodes);
/// Whether current may allocate there: on its own nodes; with __GFP_HARDWALL nowhere else, without it on those of the nearest set that is mem_exclusive or mem_hardwall, too.
bool cpuset_node_allowed(int node, gfp_t gfp);
/// Whether the tasks have a node in common: whether ending the one helps the other.
bool cpuset_mems_allowed_intersects(const struct task_struct* a, const struct task_struct* b);
/// Whether the nodes of current's set are new, and its tasks are being given them.
bool current_cpuset_is_being_rebound();

nodemask_t cpuset_current_mems();
#define cpuset_current_mems_allowed (cpuset_current_mems())
/// Around a look at current's nodes that must be of one piece: again while retry answers true.
unsigned int read_mems_allowed_begin();
bool read_mems_allowed_retry(unsigned int seq);

/// No set changes meanwhile; the functions above may be called. Not recursive.
void cpuset_lock() COHORT_NO_THREAD_SAFETY_ANALYSIS;
void cpuset_unlock() COHORT_NO_THREAD_SAFETY_ANALYSIS;
/// Likewise, with others; of kernels 5.4 to 6.4.
void cpuset_read_lock() COHORT_NO_THREAD_SAFETY_ANALYSIS;
void cpuset_read_unlock() COHORT_NO_THREAD_SAFETY_ANALYSIS;

/// Not under the locks above. An allocation of current had to wait for memory.
void cpuset_memory_pressure_bump();
/// Nor this. Makes the sched domains anew.
void rebuild_sched_domains();
