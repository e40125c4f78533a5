// SPDX-License-Identifier: Apache-2.0
#include "cpuset_live.hpp"

#include <charconv>

#include <nlohmann/json.hpp>

#include "spec_input.hpp"

namespace cohort::cli {

result<live_tree> open_live(const std::string& path) {
    auto place = cpuset::find_mount(sys::real());
    if (!place) return std::unexpected(place.error());
    auto tree = cpuset::open_cgroup(sys::real(), *place);
    if (!tree) return std::unexpected(tree.error());
    auto set = cpuset::set_path(*place, path);
    if (!set) return std::unexpected(set.error());
    return live_tree{std::move(*place), std::move(*tree), std::move(*set)};
}

outcome stopped(const error& e) {
    if (e.code == EINVAL) return usage(e.line());
    return std::unexpected(e);
}

outcome run_steps(cpuset::backend& tree, std::span<const cpuset::operation> steps, bool json, bool verbose, cpuset::apply_options o) {
    const cpuset::apply_report r = cpuset::apply_steps(tree, steps, o);
    if (json) {
        nlohmann::ordered_json j{{"schema_version", 1}, {"ok", r.ok()}, {"backend", tree.name()}, {"steps", nlohmann::json::array()}};
        for (const auto& s : r.steps) {
            nlohmann::ordered_json one{{"step", s.text}, {"done", s.done}};
            if (!s.reads.empty()) one["reads"] = s.reads;
            j["steps"].push_back(std::move(one));
        }
        if (r.failure) {
            j["failure"] = {{"errno", errno_name(r.failure->code)}, {"object", r.failure->object}, {"act", r.failure->act}, {"why", r.failure->reason}};
            j["undone"] = r.undone;
            j["not_undone"] = nlohmann::json::array();
            for (const error& e : r.not_undone) j["not_undone"].push_back(e.line());
        }
        print_json(j);
    } else if (verbose) {
        for (const auto& s : r.steps) print((s.done ? "done  " : "refused  ") + s.text + (s.reads.empty() ? "" : "  (reads: " + s.reads + ")") + "\n");
    }
    if (r.ok()) return exit_code::ok;
    const std::size_t done = r.steps.empty() ? 0 : r.steps.size() - 1;
    for (const error& e : r.not_undone) complain("not undone: " + e.line());
    if (done > 0 && r.not_undone.empty()) complain("the " + std::to_string(done) + (done == 1 ? " step" : " steps") + " before it " + (done == 1 ? "was" : "were") + " undone");
    if (!r.by_rules) return std::unexpected(*r.failure);
    complain(r.failure->line());
    return exit_code::no;
}

std::optional<int> pid_of(const std::string& text, const std::string& command) {
    int pid = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), pid);
    if (bad == std::errc() && end == text.data() + text.size() && pid > 0) return pid;
    (void)usage(command + ": \"" + text + "\" is no process number");
    return std::nullopt;
}

}  // namespace cohort::cli
