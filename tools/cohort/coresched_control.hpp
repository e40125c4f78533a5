// SPDX-License-Identifier: Apache-2.0
/// What the commands on the kernel's core scheduling share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <cohort/coresched/control.hpp>

#include "command.hpp"

namespace cohort::cli {

/// As util-linux's coresched has them, and more.
struct core_options {
    std::optional<std::string> source, keeper;
    std::vector<std::string> dest, cgroups, program;
    std::string type = "tgid", policy = "require";
    bool json = false, verbose = false, dry_run = false, force = false, program_given = false;
};

command& with_source(command& c, core_options& o);
command& with_targets(command& c, core_options& o);
command& with_program(command& c, core_options& o);
command& with_policy(command& c, core_options& o, bool emulate);

/// Nothing: a usage error was told.
std::optional<coresched::targets> targets_of(const core_options& o, const std::string& command);
/// --source or --name; neither: the caller's own. Nothing: what is wrong was told, with its exit code.
struct chosen_source {
    std::optional<coresched::source> from;
    exit_code code = exit_code::usage;
};
chosen_source source_of(const core_options& o, const std::string& command);

/// Tags, and tells what came of it.
outcome tag_and_tell(const core_options& o, const coresched::source& from, const coresched::targets& whom);
/// This process takes the cookie, or what the policy has instead, and becomes the program. Returns when that fails.
outcome become_program(const core_options& o, const coresched::source& from);

nlohmann::ordered_json fault_json(const error& e);
/// Refusals for want of the facility end with exit_code::unsupported.
exit_code code_of_refusal(const error& e, bool unsupported);
std::string cookie_text(coresched::cookie value);

}  // namespace cohort::cli
