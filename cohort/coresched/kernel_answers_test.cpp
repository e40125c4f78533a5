// SPDX-License-Identifier: Apache-2.0
// Random hogs with cookies, in groups, at several weights, on one core: the shares and the forced idleness that a real kernel gave them (lab/shares-diff), against the engine's.
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

constexpr std::uint64_t chances = 8;
constexpr double wide = 6, narrow = 3;  // points of a CPU: the bounds

scenario scenario_of(const nlohmann::json& j) {
    scenario s{.duration_ms = j["runs"][0]["wall_ns"].get<std::uint64_t>() / 1'000'000, .seed = 0, .groups = {}, .tasks = {}};
    for (const auto& g : j["groups"]) s.groups.push_back({g[0], g[1]});
    for (const auto& t : j["tasks"]) s.tasks.push_back({.name = t[0], .tag = t[3], .cpus = {t[1].get<int>()}, .weight = t[2], .group = t[4]});
    return s;
}

/// Shares in points, and last what the CPUs with hogs did not run: they never sleep, so that they were forced to idle.
using figures = std::vector<double>;

figures with_idleness(figures shares, std::size_t cpus) {
    double idle = 100;
    for (const double x : shares) idle -= x / static_cast<double>(cpus);
    shares.push_back(std::max(0.0, idle));
    return shares;
}

figures mean_of(const std::vector<figures>& all) {
    figures sum(all.front().size());
    for (const figures& f : all) {
        for (std::size_t i = 0; i < f.size(); ++i) sum[i] += f[i] / static_cast<double>(all.size());
    }
    return sum;
}

struct difference {
    figures apart;           // of means: the kernel's over its runs, the engine's over the chance in siblings' ticks
    bool open = false;       // one order of ticks for ever gives quite other figures than another: the kernel's are its machine's
    double outside = 0;      // of the range of what orders and chances give
    bool good() const { return open ? outside <= narrow : *std::ranges::max_element(apart) <= wide; }
};

difference compare(const nlohmann::json& j, fair_class which) {
    scenario s = scenario_of(j);
    std::set<int> cpus;
    for (const task_spec& t : s.tasks) cpus.insert(t.cpus.first());
    std::vector<figures> kernel, chance, all;
    for (const auto& run : j["runs"]) {
        figures f;
        for (const auto& ran : run["ran_ns"]) f.push_back(100 * ran.get<double>() / run["wall_ns"].get<double>());
        kernel.push_back(with_idleness(f, cpus.size()));
    }
    const auto machine = machine::load("synthetic:" + j["machine"].get<std::string>(), sys::real()).value();
    const auto simulated = [&] {
        const outcome o = simulate(s, machine, {.fair = which}).value();
        figures f;
        std::uint64_t charged = 0;
        for (const task_result& t : o.tasks) f.push_back(100 * t.share), charged += t.forced_idle_ns;
        EXPECT_EQ(charged, o.forced_idle_ns);
        f = with_idleness(f, cpus.size());
        EXPECT_NEAR(f.back(), 100 * static_cast<double>(o.forced_idle_ns) / static_cast<double>(o.duration_ns * cpus.size()), 1e-6) << "hogs' CPUs idle for no other reason";
        return f;
    };
    for (; s.tick_seed < chances; ++s.tick_seed) chance.push_back(simulated());
    all = chance;
    for (const tick_order order : {tick_order::ascending, tick_order::descending}) s.ticks = order, all.push_back(simulated());
    const figures k = mean_of(kernel), e = mean_of(chance);
    difference d;
    for (std::size_t i = 0; i < k.size(); ++i) {
        const auto [low, high] = std::ranges::minmax(all, {}, [i](const figures& f) { return f[i]; });
        d.apart.push_back(std::abs(k[i] - e[i]));
        d.open = d.open || high[i] - low[i] > wide;
        d.outside = std::max({d.outside, k[i] - high[i], low[i] - k[i]});
    }
    return d;
}

/// COHORT_VERBOSE: each scenario that differs is told. too_far: seeds known to be beyond the bounds, which have to be, so that the list stays true.
void expect_the_engines(const std::string& file, fair_class which, std::size_t at_least, const std::set<int>& too_far = {}) {
    std::ifstream in(file);
    ASSERT_TRUE(in) << file << ": run from the top of the source tree";
    std::size_t scenarios = 0, tasks = 0, near = 0, open = 0;
    for (std::string line; std::getline(in, line); ++scenarios) {
        const auto j = nlohmann::json::parse(line);
        const difference d = compare(j, which);
        tasks += d.apart.size() - 1;
        near += static_cast<std::size_t>(std::count_if(d.apart.begin(), d.apart.end() - 1, [](double x) { return x <= narrow; }));
        open += d.open;
        const double worst = *std::max_element(d.apart.begin(), d.apart.end() - 1);
        EXPECT_EQ(d.good(), !too_far.contains(j["seed"].get<int>())) << "seed " << j["seed"] << ": a share differs by " << worst << ", forced idleness by " << d.apart.back() << ", outside of the range by " << d.outside;
        if (std::getenv("COHORT_VERBOSE") && (worst > narrow || d.apart.back() > narrow || d.open)) {
            std::printf("seed %d: a share differs by %.1f, forced idleness by %.1f points%s\n", j["seed"].get<int>(), worst, d.apart.back(), d.open ? ", open" : "");
        }
    }
    std::printf("%s: %zu scenarios, %zu of them open, %zu shares: %.1f %% within 3 points\n", file.c_str(), scenarios, open, tasks, 100.0 * static_cast<double>(near) / static_cast<double>(tasks));
    EXPECT_GE(scenarios, at_least);
    EXPECT_GE(near * 100, tasks * 95) << "within 3 points";
    EXPECT_LE(open * 10, scenarios) << "the rest would say little";
}

TEST(kernel_answers, of_6_12_are_the_engines) { expect_the_engines("lab/shares-answers/6.12.jsonl", fair_class::eevdf, 200); }

// Seed 39: shares are within 2.6 points, forced idleness by 7.0. Two groups, seven tasks; with 6.12's class it depends on the order of ticks. The rule is not found.
TEST(kernel_answers, of_6_1_are_the_engines) { expect_the_engines("lab/shares-answers/6.1.jsonl", fair_class::cfs, 30, {39}); }

}  // namespace
}  // namespace cohort::coresched
