// SPDX-License-Identifier: Apache-2.0
/// What is wrong with a tree of cpusets, and what will be when one CPU or node goes offline.
///
///     for (const finding& f : lint(m, machine)) std::puts(f.line().c_str());
///     // error: cpu-offline-invalidates: "rt": when CPU 3 goes offline it becomes root invalid (...); give it a second CPU
///
/// Kernel: none; there, it happens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <cohort/cpuset/model.hpp>

namespace cohort::cpuset {

enum class severity { info, warning, error };
std::string_view severity_name(severity s);

struct finding {
    std::string_view rule;  ///< one of lint_rules()
    severity level = severity::info;
    std::string path;       ///< the set
    std::string reason, remedy;
    std::string line() const;
    bool operator==(const finding&) const = default;
};

struct lint_rule {
    std::string_view name, text;
};
const std::vector<lint_rule>& lint_rules();

/// Errors first, then by path. machine: the topology that the model was made for. Cost: a copy of the model and a hotplug for each active CPU and each node with memory.
std::vector<finding> lint(const model& m, const machine::topology& machine);

}  // namespace cohort::cpuset
