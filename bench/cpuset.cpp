// SPDX-License-Identifier: Apache-2.0
// The model of cpusets on 1,024 CPUs: one CPU goes offline and comes back, over the number of sets. Linear: the time per set stays the same.
#include <cstdio>
#include <cstdlib>

#include <cohort/cpuset/model.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

void perform(cpuset::model& m, const cpuset::operation& op) {
    if (m.perform(op).ok()) return;
    std::fprintf(stderr, "cpuset/hotplug: refused: %s\n", cpuset::to_line(op).c_str());
    std::exit(1);
}

/// A tenth of the sets are parents of ten, each with four CPUs of its own; nine of ten have one.
void build(cpuset::model& m, int sets) {
    using cpuset::verb;
    for (int i = 0; i < sets; ++i) {
        const bool parent = i % 10 == 0;
        const std::string top = "p" + std::to_string(i / 10), path = parent ? top : top + "/s" + std::to_string(i);
        const int cpu = i / 10 * 4 % 1024;
        perform(m, {.what = verb::mkdir, .path = path});
        if (parent) perform(m, {.what = verb::controller, .path = path, .on = true});
        perform(m, {.what = verb::write, .path = path, .file = "cpuset.cpus", .text = parent ? std::to_string(cpu) + "-" + std::to_string(cpu + 3) : std::to_string(cpu + i % 4)});
    }
}

}  // namespace

void run_cpuset(const settings& s) {
    const std::string bench = "cpuset/hotplug";
    if (bench.find(s.only) == std::string::npos) return;
    const auto machine = must(machine::load("synthetic:pack:2 numa:1 core:256 pu:2", sys::real()));
    for (const int sets : {10'000, 1'000, 3'000, 30'000}) {
        cpuset::model m(machine);
        std::vector<double> build_ms;
        const double began = seconds_now();
        build(m, sets);
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
        const std::string title = "cohort, " + std::to_string(sets) + " sets";
        print_line(s, {title, sets == 10'000 ? "ours" : "shown", sets == 10'000 ? "" : title, {}, {}, "ms to build"}, f, build_ms);
        std::fflush(stdout);
    }
}

}  // namespace cohort::bench
