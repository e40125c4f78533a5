// SPDX-License-Identifier: Apache-2.0
/// What explain, what-if, lint and plan look at: a snapshot's file, a script on a machine that may not be there, or the live tree.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <cohort/cpuset/snapshot.hpp>

#include "command.hpp"

namespace cohort::cli {

struct tree_options {
    std::optional<std::string> snapshot, kernel, machine;
    bool v1 = false, json = false;
};

/// Adds --snapshot, --kernel, --machine, --v1 and --json, and says in the notes which of them chooses what.
void add_tree_options(command& c, tree_options& o);

struct tree {
    machine::topology machine;
    cpuset::loaded loaded;
    cpuset::model& model() { return loaded.model; }
};

/// The tree that the options choose; null: what is wrong with them was told, and `code` is the exit code. Differences between a snapshot and the model are told on stderr.
struct chosen_tree {
    std::unique_ptr<tree> found;
    exit_code code = exit_code::ok;
};
result<chosen_tree> choose_tree(const tree_options& o, const std::string& command);

/// Performs a script on standard input; each(line, operation, answer) after every command. A line outside of the grammar ends it as a usage error.
outcome run_script(cpuset::model& m, const std::function<void(std::size_t, const cpuset::operation&, const cpuset::answer&)>& each);

/// "/a/b", "a/b/", "a/b" -> "a/b"; "/", ".", "" -> ".".
std::string tree_path(std::string text);

nlohmann::ordered_json lines_json(const std::vector<cpuset::operation>& operations);

}  // namespace cohort::cli
