// SPDX-License-Identifier: Apache-2.0
// Why a set does not have the CPUs and nodes that it asks for.
#include <cohort/cpuset/explain.hpp>

#include "cpuset_input.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options : tree_options {
    std::string path;
};

using nlohmann::ordered_json;

ordered_json causes_json(const std::vector<cpuset::cause>& chain) {
    auto out = ordered_json::array();
    for (const cpuset::cause& c : chain) out.push_back({{"cause", cpuset::cause_name(c.kind)}, {"path", c.path}, {"text", c.text}});
    return out;
}

ordered_json remedy_json(const std::vector<cpuset::remedy>& remedies) {
    if (remedies.empty()) return nullptr;
    return {{"operations", lines_json(remedies.front().operations)}, {"losers", remedies.front().losers}};
}

ordered_json json_of(const cpuset::explanation& e) {
    ordered_json out{{"schema_version", 1}, {"path", e.path}, {"complete", e.complete()}, {"partition", e.partition}, {"effective_cpus", e.effective_cpus},
                     {"effective_mems", e.effective_mems}, {"fault", causes_json(e.fault)}, {"remedy", remedy_json(e.remedies)}, {"requests", ordered_json::array()}};
    for (const cpuset::wish& w : e.wishes) {
        ordered_json one{{"file", w.file}, {"asked", w.asked}, {"has", w.has}, {"inherits", w.inherits}, {"falls_back", w.falls_back}, {"missing", ordered_json::array()}};
        for (const cpuset::lack& l : w.lacks) one["missing"].push_back({{"list", l.list}, {"causes", causes_json(l.chain)}, {"remedy", remedy_json(l.remedies)}});
        out["requests"].push_back(std::move(one));
    }
    return out;
}

std::string remedy_text(const std::vector<cpuset::remedy>& remedies, const std::string& indent) {
    if (remedies.empty()) return indent + "remedy: none is known\n";
    std::string out = indent + "remedy:\n";
    for (const cpuset::operation& op : remedies.front().operations) out += indent + "  " + cpuset::to_line(op) + "\n";
    for (const std::string& who : remedies.front().losers) out += indent + "  (then " + who + " are gone)\n";
    return out;
}

std::string request_text(const cpuset::wish& w) {
    std::string out = w.file + ": ";
    if (w.inherits) return out + "asks for nothing, has its parent's: " + w.has + "\n";
    out += "asks for " + w.asked + ", has " + (w.lacks.empty() ? "all of it" : w.has.empty() ? "none of it" : w.has) + "\n";
    if (w.falls_back) out += "  it runs on its parent's instead\n";
    for (const cpuset::lack& l : w.lacks) {
        out += "  " + l.list + ":\n";
        for (const cpuset::cause& c : l.chain) out += "    " + c.text + "\n";
        if (l.chain.empty()) out += "    no cause is known\n";
        out += remedy_text(l.remedies, "    ");
    }
    return out;
}

std::string text_of(const cpuset::explanation& e) {
    std::string out = "set " + e.path + (e.partition.empty() || e.partition == "member" ? "" : ", " + e.partition) + ": CPUs " + e.effective_cpus + ", nodes " + e.effective_mems + "\n";
    for (const cpuset::cause& c : e.fault) out += c.text + "\n";
    if (!e.fault.empty()) out += remedy_text(e.remedies, "  ");
    for (const cpuset::wish& w : e.wishes) out += request_text(w);
    return out;
}

outcome run(const options& o) {
    auto chosen = choose_tree(o, "cpuset explain");
    if (!chosen) return std::unexpected(chosen.error());
    if (!chosen->found) return chosen->code;
    const auto e = cpuset::explain(chosen->found->model(), tree_path(o.path));
    if (!e) return usage(e.error().line());
    if (o.json) print_json(json_of(*e));
    else print(text_of(*e));
    return exit_code::ok;
}

}  // namespace

void add_cpuset_explain(registry& all) {
    auto o = std::make_shared<options>();
    command& c = all.add("cpuset explain", "Tell why a set does not have the CPUs and nodes that it asks for, and which write would give them");
    c.argument("PATH", o->path, "the set, from the root of the tree; / is the root");
    add_tree_options(c, *o);
    c.notes("A remedy was tried on the model and helps there; \"then ... are gone\" names who pays for it.\n"
            "Example:\n"
            "  printf 'mkdir a\\nmkdir b\\nwrite a cpuset.cpus 0-2\\nwrite b cpuset.cpus 3\\nwrite b cpuset.cpus.partition root\\ncpu 1 offline\\n' |\n"
            "    cohort cpuset explain a --kernel 6.12 --machine 'synthetic:pack:2 numa:1 core:2 pu:2'")
        .run([o] { return run(*o); });
}

}  // namespace cohort::cli
