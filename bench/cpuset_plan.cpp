// SPDX-License-Identifier: Apache-2.0
/// A plan for 1,000 cpusets on 1,024 CPUs, and for 300: 10 (3) partitions of 100 CPUs, in each 9 sets of 11, in each of those 10 leaves with a task; every list moves on by five CPUs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <cohort/cpuset/plan.hpp>

#include "cpuset_tree.hpp"
#include "support.hpp"

namespace cohort::bench {
namespace {

constexpr int middles = 9, leaves = 10, shift = 5;

struct plot {
    std::string path;
    int first = 0, last = 0;
    bool partition = false, leaf = false;
};

std::vector<plot> plots(int tops) {
    std::vector<plot> out;
    for (int i = 0; i < tops; ++i) {
        const std::string top = "p" + std::to_string(i);
        out.push_back({top, i * 100, i * 100 + 99, true, false});
        for (int j = 0; j < middles; ++j) {
            const std::string middle = top + "/m" + std::to_string(j);
            const int first = i * 100 + j * 11;
            out.push_back({middle, first, first + 10, false, false});
            for (int k = 0; k < leaves; ++k) out.push_back({middle + "/l" + std::to_string(k), first, first + k, false, true});
        }
    }
    return out;
}

cpuset::model tree_of(const machine::topology& machine, const std::vector<plot>& plots) {
    using cpuset::verb;
    cpuset::model m(machine);
    int task = 0;
    for (const plot& p : plots) {
        perform(m, {.what = verb::mkdir, .path = p.path});
        if (!p.leaf) perform(m, {.what = verb::controller, .path = p.path, .on = true});
        perform(m, {.what = verb::write, .path = p.path, .file = "cpuset.cpus", .text = cpumask::range(p.first, p.last).list()});
        if (p.partition) perform(m, {.what = verb::write, .path = p.path, .file = "cpuset.cpus.partition", .text = "root"});
        if (p.leaf) perform(m, {.what = verb::attach, .path = p.path, .task = "t" + std::to_string(task++)});
    }
    return m;
}

}  // namespace

void run_cpuset_plan(const settings& s) {
    const std::string bench = "cpuset/plan";
    if (bench.find(s.only) == std::string::npos) return;
    const auto machine = must(machine::load("synthetic:pack:4 numa:2 core:64 pu:2", sys::real()));
    for (const int tops : {10, 3}) {
        const std::vector<plot> all = plots(tops);
        const cpuset::model m = tree_of(machine, all);
        cpuset::target t;
        for (const plot& p : all) t.sets.push_back({.path = p.path, .cpus = cpumask::range(p.first + shift, p.last + shift)});
        figures f{bench, "ms", static_cast<std::uint32_t>(t.sets.size()), {}, {}};
        std::size_t steps = 0;
        for (int round = 0; round < std::min(s.rounds, 5); ++round) {
            const double wall = seconds_now(), cpu = cpu_seconds_now();
            const cpuset::plan p = cpuset::make_plan(m, machine, t);
            f.values.push_back((seconds_now() - wall) * 1e3);
            f.cpu.push_back((cpu_seconds_now() - cpu) * 1e3);
            steps = p.steps.size();
            if (!p.holds() || !p.roll_back_faults.empty()) {
                std::fprintf(stderr, "cpuset/plan: %s\n", p.holds() ? p.roll_back_faults[0].c_str() : p.refusals[0].c_str());
                std::exit(1);
            }
        }
        const std::string title = "cohort, " + std::to_string(tops * 100) + " sets";
        print_line(s, {title + ", " + std::to_string(steps) + " steps, each state checked, and the way back", tops == 10 ? "ours" : "shown", tops == 10 ? "" : title, {}}, f);
    }
}

}  // namespace cohort::bench
