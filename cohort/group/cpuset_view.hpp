// SPDX-License-Identifier: Apache-2.0
/// A machine's cpusets as a plan sees them: a model that stands where the kernel stands, and whether sets can be made there.
///
///     machine_view m = ...;                                                // view.hpp
///     if (s.wants_cpusets()) m.cpusets = view_cpusets(machine, s.cpusets_under, os).value();
///     plan p = make_plan(s, m, here);                                      // tries its writes on the model first
///
/// A machine that is not there is taken for one with kernel 6.12 and no sets. Kernel: cgroups(7), kernel/cgroup/cpuset.c.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/cpuset/live_mount.hpp>
#include <cohort/cpuset/snapshot.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

/// [const after creation]: plans share it.
struct cpuset_view {
    std::string about;                ///< "cgroup v2 at /sys/fs/cgroup"
    std::string barred;               ///< why no sets can be made; empty: they can
    cpuset::live_mount place;         ///< of the live machine
    std::string under;                ///< the set below which sets are made, from the top; "" the top
    std::string home = ".";           ///< the set of this process; "": outside of what can be seen
    machine::topology machine;
    std::unique_ptr<const cpuset::model> tree;  ///< none: barred
    std::vector<std::string> notes;   ///< where the model does not come to what the kernel shows, and what was not seen
};

/// machine: "live" (or ""), synthetic:..., a file. Whatever keeps sets from being made is said by the view. Errors: those of machine::load.
result<std::shared_ptr<const cpuset_view>> view_cpusets(std::string_view machine, const std::string& under, sys::os& os);

}  // namespace cohort::group
