// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <cohort/base/testing/fuzz.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/difference.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/group/view.hpp>

/// Any text is a spec, or its faults have places in it; what is a spec has a plan, which does not differ from itself.
FUZZ(text) {
    using namespace cohort::group;
    static const machine_view machine = [] {
        machine_view m = view_machine("synthetic:numa:2 core:4 pu:2", cohort::sys::real()).value();
        m.cpusets = view_cpusets("synthetic:numa:2 core:4 pu:2", "", cohort::sys::real()).value();
        return m;
    }();
    if (text.size() > 8192) return;
    spec_reading read = read_spec("s.toml", text, [](std::string_view name) { return name == "HOME" ? std::optional<std::string>("/root") : std::nullopt; });
    const auto lines = std::ranges::count(text, '\n') + 1;
    for (const fault& f : read.faults) CLAIM(!f.text.empty() && f.at.line >= 0 && f.at.line <= lines + 1);
    if (!read.faults.empty()) return;
    if (!check_cpus(read.value, machine).empty()) return;
    const plan p = make_plan(read.value, machine, "/w");
    CLAIM(p.cohorts.size() == read.value.cohorts.size() && p.jobs.size() == read.value.jobs.size());
    CLAIM(difference_of(p, make_plan(read.value, machine, "/w")).nothing());
    CLAIM(!plan_text(p).empty() && !plan_json(p).empty());
}
