// SPDX-License-Identifier: Apache-2.0
/// A scenario of `coresched simulate` from TOML.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/coresched/scenario.hpp>
#include <cohort/group/spec.hpp>

namespace cohort::cli {

struct scenario_reading {
    coresched::scenario value;
    std::string machine = "pack:1 core:1 pu:2";  ///< hwloc's synthetic description, or what machine::load() takes
    std::vector<group::fault> faults;            ///< every one, in the order of the file
};

/// file: for messages.
scenario_reading read_scenario(const std::string& file, std::string_view text);

}  // namespace cohort::cli
