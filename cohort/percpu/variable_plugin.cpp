// SPDX-License-Identifier: Apache-2.0
// A library that is loaded and unloaded while a program runs, with per-CPU variables of its own; for variable_test.
#include <cohort/percpu/detail/magazine.hpp>
#include <cohort/percpu/variable.hpp>

static COHORT_DEFINE_PER_CPU(long, plugin_counter, 5);
static COHORT_DEFINE_PER_CPU(long, plugin_other);

extern "C" void plugin_add(long n) { cohort::this_cpu::add(plugin_counter, n); }
extern "C" long plugin_sum() { return cohort::percpu::sum(plugin_counter) + cohort::percpu::sum(plugin_other); }
extern "C" int plugin_bound() { return plugin_counter.bound() ? 0 : plugin_counter.bound().error().code; }

#if COHORT_HAS_SEQUENCES
// What the kernel would read of this thread after a sequence of this library has ended, and after one was left early: 0, or an address in it.
extern "C" unsigned long plugin_named(int left_early) {
    static cohort::percpu::detail::magazine_table nothing;
    std::uint64_t item;
    if (left_early) (void)cohort::percpu::detail::sequence::stack_pop(nothing.block, 0, item);
    else plugin_add(0);
    return *reinterpret_cast<volatile unsigned long*>(static_cast<char*>(__builtin_thread_pointer()) + cohort::sys::rseq_offset() + cohort::sys::rseq_cs_at);
}
#endif
