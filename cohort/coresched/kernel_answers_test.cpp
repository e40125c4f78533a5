// SPDX-License-Identifier: Apache-2.0
// Random hogs with cookies, in groups, at several weights, on one core: the shares and the forced idleness that a real kernel gave them (lab/shares), against the engine's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/coresched/scenario.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::coresched {
namespace {

scenario scenario_of(const nlohmann::json& j) {
    scenario s{.duration_ms = j["wall_ns"].get<std::uint64_t>() / 1'000'000, .seed = 0, .groups = {}, .tasks = {}};
    for (const auto& g : j["groups"]) s.groups.push_back({g[0], g[1]});
    for (const auto& t : j["tasks"]) s.tasks.push_back({.name = t[0], .tag = t[3], .cpus = {t[1].get<int>()}, .weight = t[2], .group = t[4]});
    return s;
}

struct difference {
    std::vector<double> shares;         // of each task, in points of the duration
    double forced = 0;                  // of the CPUs that have work
    double worst() const { return *std::ranges::max_element(shares); }
};

difference compare(const nlohmann::json& j, fair_class which) {
    const scenario s = scenario_of(j);
    const auto machine = machine::load("synthetic:" + j["machine"].get<std::string>(), sys::real()).value();
    const outcome o = simulate(s, machine, {.fair = which}).value();
    const auto wall = j["wall_ns"].get<double>();
    difference d;
    std::set<int> cpus;
    std::uint64_t charged = 0;
    for (std::size_t i = 0; i < s.tasks.size(); ++i) {
        d.shares.push_back(std::abs(100 * o.tasks[i].share - 100 * j["ran_ns"][i].get<double>() / wall));
        cpus.insert(s.tasks[i].cpus.first());
        charged += o.tasks[i].forced_idle_ns;
    }
    EXPECT_EQ(charged, o.forced_idle_ns);
    d.forced = 100 * std::abs(static_cast<double>(o.forced_idle_ns) / static_cast<double>(o.duration_ns) - j["forced_ns"].get<double>() / wall) / static_cast<double>(cpus.size());
    return d;
}

struct tally {
    std::size_t scenarios = 0, tasks = 0, near = 0, far = 0, forced_far = 0;
};

/// COHORT_VERBOSE: each scenario that differs is told.
tally compare_all(const std::string& file, fair_class which) {
    std::ifstream in(file);
    EXPECT_TRUE(in) << file << ": run from the top of the source tree";
    tally sum;
    for (std::string line; std::getline(in, line); ++sum.scenarios) {
        const auto j = nlohmann::json::parse(line);
        const difference d = compare(j, which);
        sum.tasks += d.shares.size();
        sum.near += static_cast<std::size_t>(std::ranges::count_if(d.shares, [](double x) { return x <= 3; }));
        sum.far += static_cast<std::size_t>(std::ranges::count_if(d.shares, [](double x) { return x > 6; }));
        sum.forced_far += d.forced > 6;
        if (std::getenv("COHORT_VERBOSE") && (d.worst() > 3 || d.forced > 3)) std::printf("seed %d: a share differs by %.1f, forced idleness by %.1f points\n", j["seed"].get<int>(), d.worst(), d.forced);
    }
    std::printf("%s: %zu scenarios, %zu shares: %.1f %% within 3 points, %zu beyond 6; forced idleness beyond 6 in %zu\n", file.c_str(), sum.scenarios, sum.tasks,
                100.0 * static_cast<double>(sum.near) / static_cast<double>(sum.tasks), sum.far, sum.forced_far);
    return sum;
}

TEST(kernel_answers, of_6_12_are_the_engines) {
    const tally t = compare_all("lab/shares-answers/6.12.jsonl", fair_class::eevdf);
    EXPECT_GE(t.scenarios, 100u);
    EXPECT_GE(t.near * 100, t.tasks * 95) << "within 3 points";
    EXPECT_LE(t.far * 100, t.tasks * 3) << "beyond 6 points";
    EXPECT_LE(t.forced_far * 100, t.scenarios * 4) << "forced idleness beyond 6 points";
}

}  // namespace
}  // namespace cohort::coresched
