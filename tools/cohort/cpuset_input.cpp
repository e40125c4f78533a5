// SPDX-License-Identifier: Apache-2.0
#include "cpuset_input.hpp"

#include <iostream>

#include <cohort/cpuset/live.hpp>
#include <cohort/group/cpuset_snapshot.hpp>

#include "spec_input.hpp"

namespace cohort::cli {
namespace {

constexpr std::size_t largest_snapshot = std::size_t{256} << 20;

chosen_tree wrong(const outcome& told) { return {nullptr, *told}; }

/// A script of the simulator's grammar; a refusal by the kernel's rules is told and the script goes on.
result<chosen_tree> by_script(const tree_options& o, const std::string& command) {
    auto k = cpuset::parse_kernel(o.kernel.value_or("6.12"));
    if (!k) return wrong(usage(command + ": " + k.error().line()));
    auto machine = machine::load(o.machine.value_or("live"), sys::real());
    if (!machine) {
        const outcome code = machine_fault(machine.error());
        if (!code) return std::unexpected(code.error());
        return wrong(code);
    }
    cpuset::model m(*machine, {.profile = *k, .v1 = o.v1});
    const outcome read = run_script(m, [](std::size_t line, const cpuset::operation& op, const cpuset::answer& a) {
        if (!a.ok()) complain("standard input:" + std::to_string(line) + ": " + cpuset::to_line(op) + ": " + errno_name(a.code) + ": " + a.why);
    });
    if (!read || *read != exit_code::ok) return wrong(read);
    return chosen_tree{std::make_unique<tree>(tree{std::move(*machine), {std::move(m), {}}})};
}

result<chosen_tree> by_snapshot(cpuset::snapshot s, const std::string& name) {
    auto l = cpuset::load(s);
    if (!l) return fail(l.error().code, name, l.error().act, l.error().reason);
    constexpr std::size_t most = 10;
    for (std::size_t i = 0; i < l->differences.size() && i < most; ++i) complain("observed differs: " + l->differences[i].line());
    if (l->differences.size() > most) complain("observed differs: " + std::to_string(l->differences.size() - most) + " more");
    return chosen_tree{std::make_unique<tree>(tree{std::move(s.machine), std::move(*l)})};
}

}  // namespace

void add_tree_options(command& c, tree_options& o) {
    c.option("--snapshot", o.snapshot, "FILE", "look at a snapshot (JSON, as `cohort cpuset snapshot` writes it); - is standard input")
        .option("--kernel", o.kernel, "VERSION", "6.1, 6.12 or 7.0: look at the tree that a script on standard input makes")
        .option("--machine", o.machine, "MACHINE", "the script's machine: live, synthetic:DESCRIPTION (hwloc's), or a file of hwloc's XML")
        .flag("--v1", o.v1, "the script's tree is of version 1")
        .flag("--json", o.json, "print JSON")
        .notes("The tree is that of --snapshot; with --kernel, or a --machine other than live, that of a script of\n"
               "`cohort cpuset simulate` on standard input; else the live one, which is only read.\n"
               "Where the model does not come to what a kernel shows, a line \"observed differs\" says so on standard error.");
}

result<chosen_tree> choose_tree(const tree_options& o, const std::string& command) {
    const bool script = o.kernel || (o.machine && *o.machine != "live") || o.v1;
    if (o.snapshot && script) return wrong(usage(command + ": --snapshot excludes --kernel, --machine and --v1: a snapshot has its own"));
    if (script) return by_script(o, command);
    if (!o.snapshot) {
        auto live = cpuset::read_live(sys::real());
        if (!live) return std::unexpected(live.error());
        for (const std::string& note : live->notes) complain(note);
        return by_snapshot(std::move(live->what), "the live tree");
    }
    const std::string name = input_name(*o.snapshot);
    auto text = read_input(sys::real(), *o.snapshot, largest_snapshot);
    if (!text) return std::unexpected(text.error());
    auto s = group::read_cpuset_snapshot(name, *text);
    if (!s) return std::unexpected(s.error());
    return by_snapshot(std::move(*s), name);
}

outcome run_script(cpuset::model& m, const std::function<void(std::size_t, const cpuset::operation&, const cpuset::answer&)>& each) {
    std::string text;
    for (std::size_t line = 1; std::getline(std::cin, text); ++line) {
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        const auto op = cpuset::parse_operation(text);
        if (!op) return usage("standard input:" + std::to_string(line) + ":" + std::to_string(op.error().column) + ": " + op.error().why);
        each(line, *op, m.perform(*op));
    }
    return exit_code::ok;
}

std::string tree_path(std::string text) {
    while (text.starts_with('/')) text.erase(0, 1);
    while (text.ends_with('/')) text.pop_back();
    return text.empty() ? "." : text;
}

nlohmann::ordered_json lines_json(const std::vector<cpuset::operation>& operations) {
    auto out = nlohmann::ordered_json::array();
    for (const cpuset::operation& op : operations) out.push_back(cpuset::to_line(op));
    return out;
}

}  // namespace cohort::cli
