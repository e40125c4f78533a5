// SPDX-License-Identifier: Apache-2.0
// What writes would change, without making them.
#include <cohort/cpuset/what_if.hpp>

#include "cpuset_input.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options : tree_options {
    std::vector<std::string> words;
};

using nlohmann::ordered_json;

/// The words after `--` as operations: a word that holds blanks is one, and a word "," ends one.
std::vector<std::string> lines_of(const std::vector<std::string>& words) {
    std::vector<std::string> out{""};
    for (const std::string& w : words) {
        if (w == ",") out.emplace_back();
        else out.back() += (out.back().empty() ? "" : " ") + w;
    }
    std::erase(out, "");
    return out;
}

ordered_json text_json(const std::optional<std::string>& t) { return t ? ordered_json(*t) : ordered_json(nullptr); }

ordered_json changes_json(const std::vector<cpuset::change>& changes) {
    auto out = ordered_json::array();
    for (const cpuset::change& c : changes) out.push_back({{"path", c.path}, {"subject", c.subject}, {"before", text_json(c.before)}, {"after", text_json(c.after)}});
    return out;
}

ordered_json json_of(const cpuset::what_if& w) {
    ordered_json out{{"schema_version", 1}, {"ok", w.ok()}, {"performed", w.answers.size()}, {"refused", nullptr}, {"invalidated", changes_json(w.invalidated)}, {"changes", changes_json(w.changes)}};
    out["hazard"] = w.hazard.empty() ? ordered_json(nullptr) : ordered_json(w.hazard);
    if (w.refused) out["refused"] = {{"number", w.refused->number}, {"operation", cpuset::to_line(w.refused->what)}, {"errno", errno_name(w.refused->code)}, {"why", w.refused->why}};
    return out;
}

outcome run(const options& o) {
    std::vector<cpuset::operation> operations;
    for (const std::string& line : lines_of(o.words)) {
        const auto op = cpuset::parse_operation(line);
        if (!op) return usage("cpuset what-if: \"" + line + "\": column " + std::to_string(op.error().column) + ": " + op.error().why);
        operations.push_back(*op);
    }
    if (operations.empty()) return usage("cpuset what-if: no operation; write them after --, such as: -- write a cpuset.cpus 0-3");
    auto chosen = choose_tree(o, "cpuset what-if");
    if (!chosen) return std::unexpected(chosen.error());
    if (!chosen->found) return chosen->code;
    const cpuset::what_if w = cpuset::try_out(chosen->found->model(), operations, chosen->found->machine);
    if (o.json) print_json(json_of(w));
    for (const cpuset::change& c : w.changes) {
        if (!o.json) print(c.line() + "\n");
    }
    if (w.changes.empty() && !w.refused && !o.json) print("nothing changes\n");
    if (w.refused) complain(cpuset::to_line(w.refused->what) + ": " + errno_name(w.refused->code) + ": " + w.refused->why);
    if (!w.hazard.empty()) complain(cpuset::to_line(operations[w.answers.size() - 1]) + ": " + w.hazard);
    for (const cpuset::change& c : w.invalidated) complain("partition \"" + c.path + "\" would become " + c.after.value_or(""));
    return w.ok() ? exit_code::ok : exit_code::no;
}

}  // namespace

void add_cpuset_what_if(registry& all) {
    auto o = std::make_shared<options>();
    command& c = all.add("cpuset what-if", "Show what writes would change: files of every set and masks of every task");
    add_tree_options(c, *o);
    c.rest("OPERATION [, OPERATION]...", o->words, "lines of `cohort cpuset simulate`'s grammar, separated by a comma that stands alone")
        .notes("Nothing is written. Exit code 1: a write would be refused (errno and why on standard error; the changes shown are those of\n"
               "the writes before it), a partition would become invalid, or the kernel may crash.\n"
               "Example:\n"
               "  cohort cpuset what-if -- write system.slice cpuset.cpus 0-3 , write rt.slice cpuset.cpus.partition isolated")
        .run([o] { return run(*o); });
}

}  // namespace cohort::cli
