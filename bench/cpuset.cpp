// SPDX-License-Identifier: Apache-2.0
// The model of cpusets on 1,024 CPUs: one CPU goes offline and comes back, and what lint says, over the number of sets. Linear: the time per set stays the same.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <cohort/cpuset/lint.hpp>

#include "cpuset_tree.hpp"
#include "support.hpp"

namespace cohort::bench {

void perform(cpuset::model& m, const cpuset::operation& op) {
    if (const cpuset::answer a = m.perform(op); !a.ok()) {
        std::fprintf(stderr, "cpuset: refused: %s: %s\n", cpuset::to_line(op).c_str(), a.why.c_str());
        std::exit(1);
    }
}

void build_tree(cpuset::model& m, int sets, bool tasks) {
    using cpuset::verb;
    for (int i = 0; i < sets; ++i) {
        const bool parent = i % 10 == 0;
        const std::string top = "p" + std::to_string(i / 10), path = parent ? top : top + "/s" + std::to_string(i);
        const int cpu = i / 10 * 4 % 1024;
        perform(m, {.what = verb::mkdir, .path = path});
        if (parent) perform(m, {.what = verb::controller, .path = path, .on = true});
        perform(m, {.what = verb::write, .path = path, .file = "cpuset.cpus", .text = parent ? std::to_string(cpu) + "-" + std::to_string(cpu + 3) : std::to_string(cpu + i % 4)});
        if (tasks && !parent) perform(m, {.what = verb::attach, .path = path, .task = "t" + std::to_string(i)});
    }
}

namespace {

const int sizes[] = {10'000, 1'000, 3'000, 30'000};

void told(const settings& s, int sets, const figures& f, const std::string& note, const std::vector<double>& also) {
    const std::string title = "cohort, " + std::to_string(sets) + " sets";
    print_line(s, {title, sets == sizes[0] ? "ours" : "shown", sets == sizes[0] ? "" : title, {}, {}, note}, f, also);
    std::fflush(stdout);
}

/// What breaks if any one CPU or node goes offline, and all else that lint looks at; every CPU matters here, as each is the only one of some set.
void run_lint(const settings& s, const machine::topology& machine) {
    const std::string bench = "cpuset/lint";
    if (bench.find(s.only) == std::string::npos) return;
    for (const int sets : {sizes[0], sizes[1], sizes[2]}) {
        cpuset::model m(machine);
        build_tree(m, sets, true);
        figures f{bench, "ms", 1, {}, {}};
        std::vector<double> found;
        for (int round = 0; round < std::min(s.rounds, 3); ++round) {
            const double from = seconds_now(), cpu_from = cpu_seconds_now();
            const auto all = cpuset::lint(m, machine);
            f.values.push_back((seconds_now() - from) * 1e3);
            f.cpu.push_back((cpu_seconds_now() - cpu_from) * 1e3);
            found.push_back(static_cast<double>(all.size()));
        }
        told(s, sets, f, "findings", found);
    }
}

}  // namespace

void run_cpuset(const settings& s) {
    const auto machine = must(machine::load("synthetic:pack:2 numa:1 core:256 pu:2", sys::real()));
    run_lint(s, machine);
    const std::string bench = "cpuset/hotplug";
    if (bench.find(s.only) == std::string::npos) return;
    for (const int sets : sizes) {
        cpuset::model m(machine);
        std::vector<double> build_ms;
        const double began = seconds_now();
        build_tree(m, sets, false);
        build_ms.push_back((seconds_now() - began) * 1e3);
        constexpr std::uint32_t pairs = 5;
        figures f{bench, "ms", pairs, {}, {}};
        for (int round = 0; round < s.rounds; ++round) {
            const double from = seconds_now(), cpu_from = cpu_seconds_now();
            for (std::uint32_t i = 0; i < pairs; ++i) {
                for (const bool on : {false, true}) perform(m, {.what = cpuset::verb::cpu, .number = 5, .on = on});
            }
            f.values.push_back((seconds_now() - from) / pairs * 1e3);
            f.cpu.push_back((cpu_seconds_now() - cpu_from) / pairs * 1e3);
        }
        told(s, sets, f, "ms to build", build_ms);
    }
}

}  // namespace cohort::bench
