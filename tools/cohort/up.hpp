// SPDX-License-Identifier: Apache-2.0
/// From a plan to its report, with the state file that says what is up: what `up` and `run` share.
///
///     up_options o{.name = "two-tenants", .spec = "/w/two-tenants.toml"};
///     return bring_up_plan(std::move(planned), o);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <cohort/group/state.hpp>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {

struct up_options {
    std::string name, spec;      ///< name: of the up; spec: where it comes from
    std::optional<std::string> report, html, perfetto, log;
    std::int64_t patience = 3;   ///< seconds between SIGTERM and SIGKILL
    bool json = false;
    bool quiet = false;
    bool command = false;        ///< one command, which has the terminal: no report, and its exit code is ours
    bool owner = false;          ///< the process that --detach leaves: one line on stdout once all is up; stays until it is told to end
};

/// Carries the plan out and reports. Errors: those of writing the report.
outcome bring_up_plan(const planned& planned, const up_options& o);

/// Starts this program again with these words, as the owner of what it brings up, and returns when that is up, or has failed: with its exit code, its talk and its data.
outcome start_detached(const std::vector<std::string>& words, bool reads_input, bool json);

/// What a detached owner's first line begins with; status_value() of it follows.
inline const std::string started_word = "up ";

/// No name of an up: usage, with the reason. `command`: who was given it.
std::optional<outcome> wrong_name(const char* command, const std::string& name);

/// Removes what killed ones left, so that a plan finds its CPUs. The name is not free: refused, as it was told. `file` is what the report calls the spec.
std::optional<outcome> in_the_way(sys::os& os, const up_options& o, const std::string& file);

/// "12 13 14"; of none: empty.
std::string pids_text(const std::vector<int>& pids);

/// An up as `status` shows it: its state, whether its owner is alive, and how long it has been there.
nlohmann::ordered_json status_value(sys::os& os, const group::up_state& s);

}  // namespace cohort::cli
