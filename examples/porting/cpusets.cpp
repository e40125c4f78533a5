// SPDX-License-Identifier: Apache-2.0
/// What libcgroup's cgroup_create_cgroup, cgroup_set_value_string and cgroup_attach_task become: docs/porting.md. Two sets, whole or not at all, tried on a model of the machine first.
///
///     cpusets                       tries it on the model of a machine of eight CPUs
///     cpusets --live PID            does it on this machine, and moves PID there; where a step fails, all before it are undone
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <cohort/cpuset/live_apply.hpp>
#include <cohort/cpuset/live_mount.hpp>
#include <cohort/cpuset/model.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/sys/os.hpp>

namespace {

namespace cpuset = cohort::cpuset;

std::vector<cpuset::operation> steps() {
    std::vector<cpuset::operation> out;
    for (const char* line : {"mkdir packets", "write packets cpuset.cpus 2-3", "write packets cpuset.mems 0", "write packets cpuset.cpus.partition root"}) out.push_back(*cpuset::parse_operation(line));
    return out;
}

int on_the_model() {
    auto machine = cohort::machine::load("synthetic:core:4 pu:2", cohort::sys::real()).value();
    cpuset::model m(machine);
    for (const cpuset::operation& op : steps()) {
        const cpuset::answer a = m.perform(op);
        std::printf("%s: %s\n", cpuset::to_line(op).c_str(), a.ok() ? "ok" : a.why.c_str());
        if (!a.ok()) return 1;
    }
    const auto left = m.perform(*cpuset::parse_operation("read . cpuset.cpus.effective"));
    std::printf("the others keep %s\n", left.value.c_str());
    return left.value == "0-1,4-7" ? 0 : 1;
}

int on_this_machine(const std::string& pid) {
    auto& os = cohort::sys::real();
    auto place = cpuset::find_mount(os);
    auto tree = place ? cpuset::open_cgroup(os, *place) : std::unexpected(place.error());
    if (!tree) return std::fprintf(stderr, "cpusets: %s\n", tree.error().line().c_str()), 3;
    std::vector<cpuset::operation> all = steps();
    all.push_back(*cpuset::parse_operation("attach packets " + pid));
    const cpuset::apply_report done = cpuset::apply_steps(**tree, all);
    if (!done.ok()) return std::fprintf(stderr, "cpusets: %s\n", done.failure->line().c_str()), 5;
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--live") return on_this_machine(argv[2]);
    return on_the_model();
}
