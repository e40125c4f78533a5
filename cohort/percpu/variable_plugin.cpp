// SPDX-License-Identifier: Apache-2.0
// A library that is loaded and unloaded while a program runs, with per-CPU variables of its own; for variable_test.
#include <cohort/percpu/variable.hpp>

static COHORT_DEFINE_PER_CPU(long, plugin_counter, 5);
static COHORT_DEFINE_PER_CPU(long, plugin_other);

extern "C" void plugin_add(long n) { cohort::this_cpu::add(plugin_counter, n); }
extern "C" long plugin_sum() { return cohort::percpu::sum(plugin_counter) + cohort::percpu::sum(plugin_other); }
extern "C" int plugin_bound() { return plugin_counter.bound() ? 0 : plugin_counter.bound().error().code; }
