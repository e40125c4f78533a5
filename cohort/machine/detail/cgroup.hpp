// SPDX-License-Identifier: Apache-2.0
/// Where this process stands in the control group hierarchies.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/sys/os.hpp>

namespace cohort::machine::detail {

struct hierarchy {
    bool v2 = false;
    std::vector<std::string> controllers;  ///< v1 only
    /// Directories from the process's own group up to the top that is mounted here. Empty: the hierarchy is not mounted.
    std::vector<std::string> dirs;
};

/// From the text of /proc/self/cgroup and /proc/self/mountinfo; lines that are not understood are passed over.
std::vector<hierarchy> parse_hierarchies(std::string_view cgroup, std::string_view mountinfo);

/// The v1 hierarchy of a controller; null when there is none.
const hierarchy* find_v1(const std::vector<hierarchy>& all, std::string_view controller);
const hierarchy* find_v2(const std::vector<hierarchy>& all);

}  // namespace cohort::machine::detail
