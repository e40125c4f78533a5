// SPDX-License-Identifier: Apache-2.0
/// Sets of CPUs and of memory nodes.
///
///     auto mask = cpumask::parse_list("0-3,8");       // result<cpumask>
///     if (mask && mask->test(8)) use(mask->list());   // "0-3,8"
///
/// Kernel: include/linux/cpumask.h, nodemask.h; grammars of lib/bitmap-str.c (v6.12).
#pragma once

#include <cohort/base/bitmask.hpp>

namespace cohort {

inline constexpr int max_cpus = 8192;
inline constexpr int max_nodes = 1024;

using cpumask = bitmask<struct cpu_tag, max_cpus>;
using nodemask = bitmask<struct node_tag, max_nodes>;

}  // namespace cohort
