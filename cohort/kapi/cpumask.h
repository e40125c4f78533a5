// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for sets of CPUs, over cohort::cpumask.
///
///     cpumask_var_t mask;
///     if (!zalloc_cpumask_var(&mask, GFP_KERNEL)) return -ENOMEM;
///     cpumask_set_cpu(0, mask);
///     for_each_cpu(cpu, mask) visit(cpu);
///     free_cpumask_var(mask);
///
/// Kernel: include/linux/cpumask.h (v6.12). Differences: a mask has room for 8192 CPUs on every machine (so there is none at max_cpus or above,
/// not at nr_cpu_ids), and it is a class, not `struct cpumask`.
#pragma once

#include <new>

#include <cohort/base/cpumask.hpp>
#include <cohort/kapi/percpu.h>

using cpumask_var_t = cohort::cpumask*;

/// False: no memory.
inline bool alloc_cpumask_var(cpumask_var_t* mask, gfp_t) { return (*mask = new (std::nothrow) cohort::cpumask) != nullptr; }
/// As alloc_cpumask_var(): a new one is always empty.
inline bool zalloc_cpumask_var(cpumask_var_t* mask, gfp_t gfp) { return alloc_cpumask_var(mask, gfp); }
inline void free_cpumask_var(cpumask_var_t mask) { delete mask; }

inline void cpumask_set_cpu(unsigned cpu, cohort::cpumask* mask) { mask->set(static_cast<int>(cpu)); }
inline void cpumask_clear_cpu(unsigned cpu, cohort::cpumask* mask) { mask->clear(static_cast<int>(cpu)); }
inline bool cpumask_test_cpu(unsigned cpu, const cohort::cpumask* mask) { return mask->test(static_cast<int>(cpu)); }
inline void cpumask_clear(cohort::cpumask* mask) { *mask = {}; }
inline void cpumask_copy(cohort::cpumask* to, const cohort::cpumask* from) { *to = *from; }
inline bool cpumask_and(cohort::cpumask* to, const cohort::cpumask* a, const cohort::cpumask* b) { return !(*to = *a & *b).empty(); }
inline void cpumask_or(cohort::cpumask* to, const cohort::cpumask* a, const cohort::cpumask* b) { *to = *a | *b; }
inline bool cpumask_andnot(cohort::cpumask* to, const cohort::cpumask* a, const cohort::cpumask* b) { return !(*to = *a - *b).empty(); }
inline bool cpumask_equal(const cohort::cpumask* a, const cohort::cpumask* b) { return *a == *b; }
inline bool cpumask_intersects(const cohort::cpumask* a, const cohort::cpumask* b) { return a->intersects(*b); }
inline bool cpumask_subset(const cohort::cpumask* a, const cohort::cpumask* b) { return a->subset_of(*b); }
inline bool cpumask_empty(const cohort::cpumask* mask) { return mask->empty(); }
inline unsigned cpumask_weight(const cohort::cpumask* mask) { return static_cast<unsigned>(mask->weight()); }
/// max_cpus: there is none.
inline unsigned cpumask_first(const cohort::cpumask* mask) { return static_cast<unsigned>(mask->empty() ? cohort::max_cpus : mask->first()); }
inline unsigned cpumask_next(int after, const cohort::cpumask* mask) {
    const int cpu = mask->next(after + 1);
    return static_cast<unsigned>(cpu < 0 ? cohort::max_cpus : cpu);
}
#define for_each_cpu(cpu, mask) for ((cpu) = cpumask_first(mask); static_cast<unsigned>(cpu) < static_cast<unsigned>(::cohort::max_cpus); (cpu) = cpumask_next(static_cast<int>(cpu), (mask)))
