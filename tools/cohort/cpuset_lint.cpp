// SPDX-License-Identifier: Apache-2.0
// What is wrong with a tree of cpusets, and what one CPU or node less would do to it.
#include <cohort/cpuset/lint.hpp>

#include <algorithm>

#include "cpuset_input.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

void tell(const std::vector<cpuset::finding>& all, bool json) {
    if (!json) {
        for (const cpuset::finding& f : all) print(f.line() + "\n");
        return;
    }
    ordered_json out{{"schema_version", 1}, {"findings", ordered_json::array()}};
    for (const cpuset::finding& f : all) {
        out["findings"].push_back({{"rule", f.rule}, {"severity", cpuset::severity_name(f.level)}, {"path", f.path}, {"reason", f.reason}, {"remedy", f.remedy}});
    }
    print_json(out);
}

outcome run(const tree_options& o) {
    auto chosen = choose_tree(o, "cpuset lint");
    if (!chosen) return std::unexpected(chosen.error());
    if (!chosen->found) return chosen->code;
    const auto all = cpuset::lint(chosen->found->model(), chosen->found->machine);
    tell(all, o.json);
    const auto errors = std::ranges::count(all, cpuset::severity::error, &cpuset::finding::level);
    if (!o.json) complain("cpuset lint: " + std::to_string(all.size()) + " findings, " + std::to_string(errors) + " of them errors");
    return errors ? exit_code::no : exit_code::ok;
}

std::string rules_text() {
    std::string out = "Rules:\n";
    for (const cpuset::lint_rule& r : cpuset::lint_rules()) out += "  " + std::string(r.name) + std::string(24 - std::min<std::size_t>(23, r.name.size()), ' ') + std::string(r.text) + "\n";
    return out;
}

}  // namespace

void add_cpuset_lint(registry& all) {
    auto o = std::make_shared<tree_options>();
    command& c = all.add("cpuset lint", "Find what is wrong with a tree of cpusets, and what breaks when any one CPU or node goes offline");
    add_tree_options(c, *o);
    c.notes(rules_text() + "Exit code 1: there are errors among the findings.").run([o] { return run(*o); });
}

}  // namespace cohort::cli
