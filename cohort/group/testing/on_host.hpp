// SPDX-License-Identifier: Apache-2.0
/// Plans for a machine of eight CPUs and two nodes whose kernel is the model (cpuset/testing/cgroup_host.hpp).
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group::testing {

inline spec spec_of(const std::string& text) {
    auto read = read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    return read.value;
}

inline std::string cohort_text(const std::string& name, const std::string& cpus, const std::string& more = "") {
    return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + more + "\n";
}

inline machine_view seen_on(sys::os& host, const std::string& under = "") {
    machine_view m;
    m.name = "live";
    m.live = true;
    m.possible = m.usable = cpumask::range(0, 7);
    for (int cpu : m.possible) m.order.push_back(cpu);
    m.core.assign(8, -1);
    m.cpusets = view_cpusets("live", under, host).value();
    return m;
}

inline plan plan_on(sys::os& host, const std::string& text) {
    const spec s = spec_of(text);
    return make_plan(s, seen_on(host, s.cpusets_under), "/w");
}

inline std::vector<std::string> refusals_of(const plan& p) {
    std::vector<std::string> out;
    for (const refusal& r : p.refusals) out.push_back(r.line());
    return out;
}

}  // namespace cohort::group::testing
