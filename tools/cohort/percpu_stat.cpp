// SPDX-License-Identifier: Apache-2.0
// What per-CPU allocators hold: this program's own, filled for show, or those of another process.
#include <cohort/percpu/stat_export.hpp>
#include <cohort/percpu/stats.hpp>

#include <charconv>
#include <memory>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string pid;
    bool demo = false, json = false;
};

/// Objects of many sizes, some of them gone, on the CPUs this thread meets.
result<void> fill(percpu::allocator& a, std::vector<std::uintptr_t>& live) {
    for (unsigned i = 0; i < 3000; ++i) {
        const std::size_t size = 4u << (i % 10);  // 4 .. 2048
        auto v = a.alloc(i % 97 == 0 ? 8192 : size, i % 50 == 0 ? 256 : 8);
        if (!v) return std::unexpected(v.error());
        if (i % 50 != 0) this_cpu::add(percpu::handle<std::uint32_t>(*v), i);
        if (i % 3 == 0) (void)a.free(*v);
        else live.push_back(*v);
    }
    return {};
}

outcome stat_demo(const options& o) {
    auto a = percpu::allocator::create({.name = "demo"});
    if (!a) return std::unexpected(a.error());
    std::vector<std::uintptr_t> live;
    const auto filled = fill(**a, live);
    if (filled) print(o.json ? percpu::process_stats_json() + "\n" : percpu::process_stats_text());
    for (const std::uintptr_t v : live) (void)(*a)->free(v);
    if (!filled) return std::unexpected(filled.error());
    return exit_code::ok;
}

outcome stat(const options& o) {
    if (o.demo == !o.pid.empty()) return usage("percpu stat: give a PID or --demo");
    if (o.demo) return stat_demo(o);
    int pid = 0;
    const auto [end, fault] = std::from_chars(o.pid.data(), o.pid.data() + o.pid.size(), pid);
    if (fault != std::errc() || end != o.pid.data() + o.pid.size() || pid < 1) return usage("percpu stat: \"" + o.pid + "\" is no process ID");
    auto answer = percpu::ask_stats(pid, o.json);
    if (!answer) return std::unexpected(answer.error());
    print(*answer);
    return exit_code::ok;
}

}  // namespace

void add_percpu_stat(registry& all) {
    auto o = std::make_shared<options>();
    all.add("percpu stat", "Show what the per-CPU allocators of a running process hold")
        .argument("PID", o->pid, "the process; it was started with COHORT_PERCPU_STAT=1, or has called cohort::percpu::export_stats()", false)
        .flag("--demo", o->demo, "this program's own allocator, filled for show")
        .flag("--json", o->json, "print JSON")
        .notes("The figures of /sys/kernel/debug/percpu_stats, of each allocator, and some more. The process must be of the same user, or the caller root, and in\n"
               "the same network and PID namespaces.")
        .run([o] { return stat(*o); });
}

}  // namespace cohort::cli
