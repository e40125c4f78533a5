// SPDX-License-Identifier: Apache-2.0
// A script of cpuset operations against the model of a kernel: one answer a line.
#include <cohort/cpuset/model.hpp>

#include <iostream>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cpuset_input.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string kernel = "6.12", machine = "live", isolated;
    bool v1 = false, json = false, trace = false;
};

using steps = std::vector<cpuset::trace_step>;

std::string trace_text(const steps& all) {
    std::string out;
    for (const cpuset::trace_step& s : all) out += fmt::format("   {:<8} {:<12} {}\n", s.what, s.path == "." ? "/" : s.path, s.text);
    return out;
}

bool answers_with_value(cpuset::verb v) { return v == cpuset::verb::read || v == cpuset::verb::task; }
bool answers_with_list(cpuset::verb v) { return v == cpuset::verb::domains || v == cpuset::verb::tasks; }

std::string json_line(std::size_t line, const cpuset::operation& op, const cpuset::answer& a, const steps* trace) {
    nlohmann::ordered_json j{{"schema_version", 1}, {"line", line}, {"ok", a.ok()}};
    if (!a.ok()) {
        j["errno"] = errno_name(a.code);
        j["why"] = a.why;
    } else if (answers_with_list(op.what)) {
        j["value"] = a.list;
    } else if (answers_with_value(op.what)) {
        j["value"] = a.value;
    }
    if (!a.hazard.empty()) j["hazard"] = a.hazard;
    if (a.ok() && op.what == cpuset::verb::task) {
        j["mems"] = a.mems;
        j["path"] = a.path;
        j["policy"] = a.policy;
        if (!a.vma_policy.empty()) j["vma_policy"] = a.vma_policy;
    }
    if (trace) {
        j["trace"] = nlohmann::ordered_json::array();
        for (const cpuset::trace_step& s : *trace) j["trace"].push_back({{"step", s.what}, {"set", s.path}, {"text", s.text}});
    }
    // A script may hold any byte; JSON holds UTF-8.
    return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string text_line(std::size_t line, const cpuset::operation& op, const cpuset::answer& a) {
    std::string out = std::to_string(line) + ": " + cpuset::to_line(op) + ": ";
    if (!a.hazard.empty()) out += "HAZARD: " + a.hazard + ": ";
    if (!a.ok()) return out + errno_name(a.code) + ": " + a.why + "\n";
    if (op.what == cpuset::verb::task) return out + "cpus " + a.value + ", mems " + a.mems + ", in " + a.path + ", policy " + a.policy + "\n";
    if (answers_with_value(op.what)) return out + "\"" + a.value + "\"\n";
    if (!answers_with_list(op.what)) return out + "ok\n";
    std::string list;
    for (const std::string& item : a.list) list += (list.empty() ? "" : " ") + item;
    return out + (list.empty() ? "none" : list) + "\n";
}

outcome simulate(const options& o) {
    auto k = cpuset::parse_kernel(o.kernel);
    if (!k) return usage("cpuset simulate: " + k.error().line());
    auto machine = machine::load(o.machine, sys::real());
    if (!machine) return machine_fault(machine.error());
    const auto isolated = cpumask::parse_list(o.isolated);
    if (!isolated) return usage("cpuset simulate: --isolcpus \"" + o.isolated + "\": " + isolated.error().line());
    cpuset::model m(*machine, {.profile = *k, .v1 = o.v1, .boot_isolated = *isolated});
    std::ios::sync_with_stdio(false);
    steps trace;
    if (o.trace) m.trace(&trace);
    return run_script(m, [&](std::size_t line, const cpuset::operation& op, const cpuset::answer& a) {
        print(o.json ? json_line(line, op, a, o.trace ? &trace : nullptr) : text_line(line, op, a) + trace_text(trace));
        trace.clear();
        // Whoever waits for this answer before the next command gets it now.
        if (std::cin.rdbuf()->in_avail() <= 0) std::fflush(stdout);
    });
}

}  // namespace

void add_cpuset_simulate(registry& all) {
    auto o = std::make_shared<options>();
    all.add("cpuset simulate", "Run a script of cpuset operations against the model of a kernel")
        .option("--kernel", o->kernel, "VERSION", "6.1, 6.12 or 7.0; default: 6.12")
        .option("--machine", o->machine, "MACHINE", "live, synthetic:DESCRIPTION (hwloc's), or a file of hwloc's XML; default: live")
        .option("--isolcpus", o->isolated, "LIST", "CPUs outside of all sched domains since boot: the kernel's isolcpus=domain,LIST")
        .flag("--v1", o->v1, "the controller is bound to a version 1 hierarchy")
        .flag("--trace", o->trace, "after each hotplug, its steps in the kernel's order")
        .flag("--json", o->json, "print one JSON object a command")
        .notes("The script is read from standard input, one command a line:\n"
               "  mkdir P | rmdir P | write P FILE VALUE... | read P FILE | attach P TASK | fork TASK CHILD | exit TASK\n"
               "  affinity TASK LIST | mempolicy TASK MODE[+FLAGS] NODES | mbind TASK MODE NODES | controller P +cpuset|-cpuset\n"
               "  cpu N online|offline | node N online|offline | suspend | resume | bind v1|v2 | pressure TASK EVENTS\n"
               "  advance SECONDS | as root | as delegate P | domains | tasks P | task TASK\n"
               "P is a path from the root, \".\" the root. The machine starts with all CPUs and nodes online, cpuset handed on by the root.\n"
               "A refusal by the kernel's rules is an answer and the run goes on; a line outside the grammar ends it with exit code 2.\n"
               "A write of cpuset.cpus.partition succeeds whatever comes of it: read it back.\n"
               "Example:\n"
               "  printf 'mkdir a\\nwrite a cpuset.cpus 2-3\\nwrite a cpuset.cpus.partition isolated\\nread a cpuset.cpus.partition\\n' |\n"
               "    cohort cpuset simulate --machine 'synthetic:pack:2 numa:1 core:2 pu:2'")
        .run([o] { return simulate(*o); });
}

}  // namespace cohort::cli
