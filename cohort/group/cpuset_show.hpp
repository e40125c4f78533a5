// SPDX-License-Identifier: Apache-2.0
/// A tree of cpusets, drawn over the CPUs of its machine.
///
///     auto live = cpuset::read_live(os);
///     print(cpuset_tree_text(live->what, 120));
///     //                 0   2  |4   6
///     //  /              ## ..  |## ##   0-1,4-7  mems 0-1              12 threads
///     //    a            .. ##  |.. ..   2-3      mems 0-1    isolated   3 threads
#pragma once

#include <string>

#include <cohort/cpuset/snapshot.hpp>

namespace cohort::group {

/// What the files of a set say, whatever the version of the hierarchy.
struct set_view {
    cpumask cpus, effective_cpus, exclusive, granted;
    nodemask mems, effective_mems;
    std::string partition = {};  ///< "" where there is none
};
set_view view_of(const cpuset::set_snapshot& set);

/// A line a set, a mark a CPU: '#' its threads may run there, 'o' asked for and not given, 'p' taken by a partition below, '-' offline, '.' not its own. Cores are apart by a
/// blank, nodes by a bar. Where that is wider than `width` a mark stands for a core ('+': some of its CPUs), and where that is too wide for lists alone.
std::string cpuset_tree_text(const cpuset::snapshot& s, std::size_t width);

}  // namespace cohort::group
