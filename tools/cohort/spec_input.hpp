// SPDX-License-Identifier: Apache-2.0
/// What plan and up do first: read the spec, look at the machine, make the plan, and tell every fault.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include <cohort/group/plan.hpp>
#include <cohort/group/spec.hpp>
#include <cohort/sys/os.hpp>

#include "command.hpp"

namespace cohort::cli {

struct planned {
    std::optional<group::plan> plan;       // set: the spec has no fault; the plan may still not hold
    std::string about;                     // the spec's own words
    exit_code code = exit_code::ok;        // when there is no plan: faults were told, this is the exit code
};

/// `path` "-" is standard input. `machine` wins over the spec's own [machine]. bare: without its cohorts (group::without_cohorts()). Errors: those of reading the file and the machine.
result<planned> plan_of(sys::os& os, const std::string& path, const std::optional<std::string>& machine, bool json, bool bare = false);

/// The same of a spec that was read.
result<planned> plan_of_spec(sys::os& os, group::spec_reading read, const std::optional<std::string>& machine, bool json, bool bare = false);

/// The machine's picture (SVG) with the cohorts' colours. Errors: those of reading the machine.
result<std::string> map_of_plan(sys::os& os, const group::plan& p);

/// Tells each fault on stderr; with json also as data on stdout.
void tell_faults(const std::vector<group::fault>& faults, bool json);

/// The text of a file; "-" is standard input. And what to call it.
result<std::string> read_input(sys::os& os, const std::string& path, std::size_t limit = std::size_t{64} << 20);
std::string input_name(const std::string& path);

/// A machine that is named wrongly is the fault of whoever named it (usage); one that cannot be read is the system's.
outcome machine_fault(const error& e);

/// The whole file or none of it; "-" is standard output, devices are written as they are.
result<void> write_whole(sys::os& os, const std::string& path, const std::string& text);

/// Writes to stdout.
void print(const std::string& text);
/// One value, indented, any byte made UTF-8.
template <class Json = nlohmann::ordered_json>
void print_json(const Json& j) {
    print(j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace cohort::cli
