// SPDX-License-Identifier: Apache-2.0
/// The target of a cpuset plan, read from TOML; every fault of the file in one run.
///
///     prune = false                  # true: sets that are not named are removed
///     [[set]]
///     path = "rt"                    # from the root of the tree; made when it is not there
///     cpus = "2-3"                   # lists in the kernel's form; "" inherits
///     mems = "0"
///     exclusive = "2-3"              # cpuset.cpus.exclusive
///     partition = "isolated"         # member, root, isolated
///     tasks = ["4711"]               # ids as a snapshot has them
///     flags = { "cpuset.cpu_exclusive" = "1" }     # other files, of version 1
///
///     auto read = read_cpuset_target("target.toml", text);
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/cpuset/plan.hpp>
#include <cohort/group/spec.hpp>

namespace cohort::group {

struct cpuset_target {
    cpuset::target value;
    std::vector<fault> faults;  ///< not empty: value is not to be used
};

/// file: its name, for faults. Whether the machine has the CPUs, and whether a task is there, is seen by cpuset::make_plan().
cpuset_target read_cpuset_target(const std::string& file, std::string_view text);

}  // namespace cohort::group
