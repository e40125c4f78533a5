// SPDX-License-Identifier: Apache-2.0
/// What the commands on the live tree share.
#pragma once

#include <memory>
#include <span>
#include <string>

#include <cohort/cpuset/live_apply.hpp>

#include "command.hpp"

namespace cohort::cli {

struct live_tree {
    cpuset::live_mount place;
    std::unique_ptr<cpuset::backend> tree;
    std::string path;  ///< the set that the command is about
};
/// Errors: EINVAL, the path is none; EOPNOTSUPP, no cpusets are mounted.
result<live_tree> open_live(const std::string& path);
/// A path that is none is a usage error.
outcome stopped(const error& e);

/// Applies and reports: a refusal by the kernel's rules is "no"; a lack of permission, a set that is not there and a system that fails have their own codes.
/// verbose: each step is told.
outcome run_steps(cpuset::backend& tree, std::span<const cpuset::operation> steps, bool json, bool verbose, cpuset::apply_options o = {});

/// A positive number, or a usage error told as such.
std::optional<int> pid_of(const std::string& text, const std::string& command);

}  // namespace cohort::cli
