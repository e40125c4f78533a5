// SPDX-License-Identifier: Apache-2.0
// What core scheduling would do with a set of tasks, on a machine that need not be here, by the kernel's rules or others.
#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/coresched/picture.hpp>
#include <cohort/group/table.hpp>

#include "command.hpp"
#include "coresched_scenario.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options {
    std::string file;
    std::string policy = "kernel";
    std::optional<std::string> svg, perfetto;
    std::string profile = "6.12";
    bool json = false, trace = false;
};

double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

ordered_json json_of(const coresched::outcome& o) {
    ordered_json tasks = ordered_json::array(), cpus = ordered_json::array(), pairs = ordered_json::array();
    for (const auto& t : o.tasks) {
        tasks.push_back({{"name", t.name}, {"runtime_ms", ms(t.runtime_ns)}, {"share", t.share}, {"forceidle_ms", ms(t.forced_idle_ns)}, {"work_ms", ms(t.work_ns)}, {"switches", t.switches},
                         {"wait_p50_ms", ms(t.wait_p50_ns)}, {"wait_p99_ms", ms(t.wait_p99_ns)}});
    }
    for (const auto& c : o.cpus) cpus.push_back({{"cpu", c.cpu}, {"busy_ms", ms(c.busy_ns)}, {"idle_ms", ms(c.idle_ns)}, {"forced_idle_ms", ms(c.forced_idle_ns)}});
    for (const auto& p : o.who_forced_whom) pairs.push_back({{"ran", p.ran}, {"waited", p.waited}, {"ms", ms(p.ns)}});
    return {{"policy", o.policy}, {"duration_ms", ms(o.duration_ns)}, {"tasks", std::move(tasks)}, {"cpus", std::move(cpus)}, {"who_forced_whom", std::move(pairs)},
            {"total", {{"throughput", o.throughput}, {"forced_idle_ms", ms(o.forced_idle_ns)}, {"jain", o.jain}, {"switches", o.switches}, {"steals", o.steals}, {"picks", o.picks}}}};
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string text_of(const coresched::outcome& o) {
    using enum group::align;
    std::string out = fmt::format("policy {}: {:.3f} CPUs' worth of work, forced idle {:.1f} ms, Jain index {:.3f}, {} switches\n", o.policy, o.throughput, ms(o.forced_idle_ns), o.jain, o.switches);
    group::text_table tasks({"task", "share", "runtime ms", "work ms", "forced idle ms", "wait p50 ms", "p99 ms"}, {left, right, right, right, right, right, right});
    for (const auto& t : o.tasks) {
        tasks.row({t.name, percent(t.share), fmt::format("{:.1f}", ms(t.runtime_ns)), fmt::format("{:.1f}", ms(t.work_ns)), fmt::format("{:.1f}", ms(t.forced_idle_ns)),
                   fmt::format("{:.3f}", ms(t.wait_p50_ns)), fmt::format("{:.3f}", ms(t.wait_p99_ns))});
    }
    group::text_table cpus({"CPU", "busy", "idle", "forced idle"}, {right, right, right, right});
    const auto part = [&](std::uint64_t ns) { return percent(static_cast<double>(ns) / static_cast<double>(o.duration_ns)); };
    for (const auto& c : o.cpus) cpus.row({std::to_string(c.cpu), part(c.busy_ns), part(c.idle_ns), part(c.forced_idle_ns)});
    out += tasks.text("  ") + cpus.text("  ");
    for (const auto& p : o.who_forced_whom) out += fmt::format("  cookie {} kept cookie {} waiting for {:.1f} ms of a CPU\n", p.ran, p.waited, ms(p.ns));
    return out;
}

/// The SMT yield from which on threads pay under this policy.
std::string yield_of(const coresched::outcome& o, const coresched::outcome& nosmt) {
    const auto yield = coresched::break_even(o, nosmt);
    return yield ? fmt::format("{:.2f}", *yield) : "none";
}

/// All policies side by side.
std::string table_of(const std::vector<coresched::outcome>& all) {
    using enum group::align;
    const auto nosmt = std::ranges::find(all, "nosmt", &coresched::outcome::policy);
    group::text_table t({"policy", "throughput", "of nosmt", "forced idle ms", "Jain", "switches", "worst p99 ms", "pays from yield"},
                        {left, right, right, right, right, right, right, right});
    for (const auto& o : all) {
        std::uint64_t worst = 0;
        for (const auto& task : o.tasks) worst = std::max(worst, task.wait_p99_ns);
        t.row({o.policy, fmt::format("{:.3f}", o.throughput), nosmt->throughput > 0 ? fmt::format("{:.2f}", o.throughput / nosmt->throughput) : "", fmt::format("{:.1f}", ms(o.forced_idle_ns)), fmt::format("{:.3f}", o.jain),
               std::to_string(o.switches), fmt::format("{:.3f}", ms(worst)), o.policy == "nosmt" ? "" : yield_of(o, *nosmt)});
    }
    return t.text("");
}

/// A pick, as it is made: who asks, what each sibling would run, whose cookie wins, what each gets.
std::string text_of(const coresched::pick_step& p, const std::vector<coresched::task_spec>& tasks) {
    // Tasks that are forked later have no place in the scenario.
    const auto name = [&](coresched::task_id t) { return t == coresched::idle ? std::string("nothing") : t < tasks.size() ? tasks[t].name : "task " + std::to_string(t); };
    std::string out = fmt::format("{:.6f} ms  CPU {}", ms(p.at_ns), p.asks);
    if (p.followed) {
        const auto own = std::ranges::find(p.siblings, p.asks, &coresched::pick_step::sibling::cpu);
        return out + " takes what was picked for it: " + name(own->given) + "\n";
    }
    out += fmt::format(" chooses for its core (cookie {}{})\n", p.before, p.forced_before ? ", forced idle" : "");
    for (const auto& s : p.siblings) out += fmt::format("    CPU {}: its own choice is {}\n", s.cpu, name(s.first));
    out += fmt::format("    {} goes first: the core's cookie is {}\n", name(p.best), p.tag);
    for (const auto& s : p.siblings) out += fmt::format("    CPU {}: {}{}\n", s.cpu, s.given == coresched::idle ? "idle" : name(s.given), s.forced_idle ? ", forced" : "");
    return out;
}

outcome simulate(const options& o) {
    std::vector<coresched::policy> policies;
    if (o.policy == "all") {
        policies = coresched::all_policies();
    } else {
        auto one = coresched::parse_policy(o.policy);
        if (!one) return usage("coresched simulate: " + one.error().line() + ", all");
        policies.push_back(std::move(*one));
    }
    if (o.profile != "6.12" && o.profile != "6.1") return usage("coresched simulate: profile \"" + o.profile + "\": there are 6.12, 6.1");
    if (o.trace && (o.json || policies.size() > 1)) return usage("coresched simulate: --trace is text of one policy");
    const auto text = read_input(sys::real(), o.file);
    if (!text) return std::unexpected(text.error());
    scenario_reading read = read_scenario(input_name(o.file), *text);
    if (!read.faults.empty()) {
        tell_faults(read.faults, o.json);
        return exit_code::usage;
    }
    const bool plain = read.machine != "live" && read.machine.find(".xml") == std::string::npos && !read.machine.starts_with("synthetic:");
    const auto machine = machine::load(plain ? "synthetic:" + read.machine : read.machine, sys::real());
    if (!machine) return machine_fault(machine.error());
    read.value.timeline = o.svg || o.perfetto;
    std::vector<coresched::outcome> all;
    for (const coresched::policy& p : policies) {
        coresched::engine_options how{.rules = p, .fair = o.profile == "6.1" ? coresched::fair_class::cfs : coresched::fair_class::eevdf};
        if (o.trace) how.on_pick = [&](const coresched::pick_step& step) { print(text_of(step, read.value.tasks)); };
        auto one = coresched::simulate(read.value, *machine, how);
        if (!one) return usage(input_name(o.file) + ": " + one.error().line());
        all.push_back(std::move(*one));
    }
    if (o.svg) {
        if (auto w = write_whole(sys::real(), *o.svg, coresched::gantt_svg(all)); !w) return std::unexpected(w.error());
    }
    if (o.perfetto) {
        if (auto w = write_whole(sys::real(), *o.perfetto, coresched::perfetto_trace(all)); !w) return std::unexpected(w.error());
    }
    if (o.json) {
        ordered_json out{{"schema_version", 1}};
        if (all.size() == 1) {
            out.update(json_of(all.front()));
        } else {
            const auto nosmt = std::ranges::find(all, "nosmt", &coresched::outcome::policy);
            for (const auto& one : all) {
                out["policies"].push_back(json_of(one));
                const auto yield = coresched::break_even(one, *nosmt);
                out["policies"].back()["total"]["break_even_yield"] = yield ? ordered_json(*yield) : ordered_json(nullptr);
            }
        }
        print_json(out);
    } else {
        print(all.size() == 1 ? text_of(all.front()) : table_of(all));
    }
    return exit_code::ok;
}

}  // namespace

void add_coresched_simulate(registry& all) {
    auto o = std::make_shared<options>();
    all.add("coresched simulate", "Run tasks with cookies on a machine of siblings, and tell who waited for whom")
        .argument("SCENARIO", o->file, "a TOML file; - is standard input")
        .option("--policy", o->policy, "POLICY", "kernel, unprotected, nosmt, search0, steal0, gang, or all of them side by side; default: kernel")
        .option("--profile", o->profile, "KERNEL", "whose fair class: 6.12 (EEVDF) or 6.1 (CFS); default: 6.12")
        .flag("--trace", o->trace, "print each core-wide pick, step by step")
        .option("--svg", o->svg, "FILE", "draw the first 200 ms: a lane for each CPU, forced idleness hatched")
        .option("--perfetto", o->perfetto, "FILE", "write a trace for ui.perfetto.dev")
        .flag("--json", o->json, "print JSON")
        .notes("machine = \"pack:1 core:2 pu:2\"; duration_ms, seed (0: tasks begin at once), smt_yield (a core with all siblings busy, against one alone)\n"
               "ticks (any, ascending, descending: whose of siblings comes first), tick_seed (of any)\n"
               "[[group]] name (\"a\", \"a/b\"), weight (cpu.weight 100 is 1024)\n"
               "[[task]]  name, cookie (0: none), cpus (\"0-1\"), group, class (fair, rr, fifo, deadline, idle), weight,\n"
               "          priority, runtime_us, deadline_us, period_us, kind (hog, periodic, pingpong), run_us, sleep_us, with\n"
               "[[event]] at_ms, op (create, share_to, share_from, clear, fork, exit, offline, online), task, target, cpu\n"
               "Example:\n  cohort coresched simulate examples/coresched/one-against-four.toml --policy all")
        .run([o] { return simulate(*o); });
}

}  // namespace cohort::cli
