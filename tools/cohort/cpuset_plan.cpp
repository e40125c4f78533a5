// SPDX-License-Identifier: Apache-2.0
// From a tree of cpusets to a target: which writes, in which order, and the way back.
#include <cohort/cpuset/plan.hpp>

#include <cohort/group/cpuset_target.hpp>
#include <cohort/sys/fd.hpp>

#include "cpuset_input.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options : tree_options {
    std::string target;
    bool script = false;
};

ordered_json json_of(const cpuset::plan& p) {
    ordered_json out{{"schema_version", 1}, {"holds", p.holds()}, {"states", p.states}, {"steps", ordered_json::array()}, {"refusals", p.refusals}, {"roll_back_faults", p.roll_back_faults},
                     {"not_restored", ordered_json::array()}};
    for (const cpuset::plan_step& s : p.steps) out["steps"].push_back({{"operation", cpuset::to_line(s.what)}, {"reads", s.expect}, {"undo", lines_json(s.undo)}, {"note", s.note}});
    for (const cpuset::change& c : p.not_restored) out["not_restored"].push_back(c.line());
    return out;
}

std::string text_of(const cpuset::plan& p) {
    std::string out;
    for (const cpuset::plan_step& s : p.steps) out += cpuset::to_line(s.what) + (s.note.empty() ? "" : "    # " + s.note) + "\n";
    if (p.steps.empty()) return "# nothing is to be done\n";
    out += "# roll back:\n";
    for (auto s = p.steps.rbegin(); s != p.steps.rend(); ++s) {
        for (const cpuset::operation& op : s->undo) out += "#   " + cpuset::to_line(op) + "\n";
    }
    for (const std::string& f : p.roll_back_faults) out += "# no way back: " + f + "\n";
    for (const cpuset::change& c : p.not_restored) out += "# not restored: " + c.line() + "\n";
    return out;
}

outcome run(const options& o) {
    if (o.json && o.script) return usage("cpuset plan: --json and --script exclude each other");
    auto text = sys::read_file(sys::real(), o.target, std::size_t{64} << 20);
    if (!text) return std::unexpected(text.error());
    const auto target = group::read_cpuset_target(o.target, *text);
    for (const group::fault& f : target.faults) complain(f.line());
    if (!target.faults.empty()) return exit_code::usage;
    auto chosen = choose_tree(o, "cpuset plan");
    if (!chosen) return std::unexpected(chosen.error());
    if (!chosen->found) return chosen->code;
    const cpuset::plan p = cpuset::make_plan(chosen->found->model(), chosen->found->machine, target.value);
    for (const std::string& r : p.refusals) complain("cpuset plan: " + r);
    if (o.json) print_json(json_of(p));
    else if (p.holds()) print(o.script ? cpuset::plan_script(p, chosen->found->model().is_v1()) : text_of(p));
    return p.holds() ? exit_code::ok : exit_code::no;
}

}  // namespace

void add_cpuset_plan(registry& all) {
    auto o = std::make_shared<options>();
    command& c = all.add("cpuset plan", "Order the writes that lead from a tree to a target, so that nothing on the way is empty or invalid");
    c.argument("TARGET", o->target, "a TOML file: [[set]] with path, cpus, mems, exclusive, partition, tasks, flags; prune = true removes what is not named");
    add_tree_options(c, *o);
    c.flag("--script", o->script, "print a shell script that carries the plan out, checks each step and goes back when one fails")
        .notes("Each step was performed on the model; after each, every set with tasks has CPUs and nodes, and no partition has become invalid.\n"
               "The lines are those of `cohort cpuset simulate`; the way back stands below them as comments.\n"
               "Exit code 1: the target cannot be reached so; standard error says what cannot be.")
        .run([o] { return run(*o); });
}

}  // namespace cohort::cli
