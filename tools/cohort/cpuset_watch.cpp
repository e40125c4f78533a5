// SPDX-License-Identifier: Apache-2.0
// The live tree over time: what changes, and version 1 sets brought back after a hotplug. And plans, carried out.
#include <nlohmann/json.hpp>

#include <cohort/cpuset/live_watch.hpp>
#include <cohort/sys/signals.hpp>

#include "cpuset_live.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::int64_t interval = 1000, seconds = 0;
    bool json = false, restore = false, pressure = false, verbose = false, any = false;
    std::string plan;
};

void tell(const options& o, const cpuset::live_change& c) {
    if (!o.json) print(c.line() + "\n");
    else print(nlohmann::ordered_json{{"schema_version", 1}, {"path", c.path}, {"file", c.file}, {"was", c.was}, {"now", c.now}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    std::fflush(stdout);
}

/// Memory pressure of all sets, where there is a meter or what stands in for one.
std::map<std::string, std::int64_t> pressures(cpuset::backend& tree, const cpuset::snapshot& s, std::string& substitute) {
    std::map<std::string, std::int64_t> out;
    for (const cpuset::set_snapshot& set : s.sets) {
        if (const auto p = tree.memory_pressure(set.path == "." ? "" : set.path)) {
            out[set.path] = p->value;
            substitute = p->substitute;
        }
    }
    return out;
}

outcome watch(const options& o) {
    sys::os& os = sys::real();
    auto live = open_live("/");
    if (!live) return std::unexpected(live.error());
    auto caught = sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    auto before = cpuset::read_live(os, {.tasks = o.restore});
    if (!before) return std::unexpected(before.error());
    if (o.restore && !live->tree->v1()) complain("cpuset watch: --restore: version 2 forgets nothing when CPUs go offline; there is nothing to restore");
    std::map<std::string, std::int64_t> pressed;
    if (o.pressure) {
        std::string substitute;
        if (auto first = live->tree->memory_pressure(""); !first) return std::unexpected(first.error());
        pressed = pressures(*live->tree, before->what, substitute);
        if (!substitute.empty()) complain("cpuset watch: --pressure: a substitute: " + substitute);
    }
    cpuset::live_watch news(os);
    cpuset::restorer memory(before->what);
    const std::uint64_t second = 1'000'000'000, end = o.seconds ? os.now() + static_cast<std::uint64_t>(o.seconds) * second : ~std::uint64_t{0};
    complain("watching " + live->place.about + "; Ctrl-C ends it");
    while (caught->signal() == 0 && os.now() < end && !std::ferror(stdout)) {
        news.follow(live->place, before->what);
        const auto woke = news.wait(std::min(static_cast<std::uint64_t>(o.interval) * 1'000'000, end - os.now()), caught->fd());
        if (!woke) return std::unexpected(woke.error());
        auto now = cpuset::read_live(os, {.tasks = o.restore});
        if (!now) return std::unexpected(now.error());
        for (const cpuset::live_change& c : changes_between(before->what, now->what)) tell(o, c);
        if (o.pressure) {
            std::string substitute;
            const auto then = std::exchange(pressed, pressures(*live->tree, now->what, substitute));
            for (const auto& [path, value] : pressed) {
                const auto was = then.find(path);
                const std::int64_t old = was == then.end() ? 0 : was->second;
                if (old != value) tell(o, {path, "cpuset.memory_pressure", std::to_string(old), std::to_string(value)});
            }
        }
        if (o.restore) {
            memory.learn(now->what);
            const auto steps = memory.steps(now->what);
            if (!steps.empty()) {
                const auto done = run_steps(*live->tree, steps, false, false);
                if (!done) complain(done.error().line());
                else if (*done == exit_code::ok) complain("restored " + std::to_string(steps.size()) + (steps.size() == 1 ? " list or thread" : " lists and threads"));
            }
        }
        before = std::move(now);
    }
    return exit_code::ok;
}

/// Operations of a plan: the JSON of `cohort cpuset plan --json`, or lines of the simulator's grammar. Nothing: what is wrong was told.
std::optional<std::vector<cpuset::operation>> steps_in(const std::string& name, const std::string& text) {
    std::vector<std::pair<std::string, std::string>> lines;  // where, what
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first != text.npos && text[first] == '{') {
        const auto j = nlohmann::json::parse(text, nullptr, false);
        if (!j.is_object() || j.value("schema_version", nlohmann::json()) != 1 || !j.contains("steps") || !j["steps"].is_array()) {
            (void)usage(name + ": it is no plan: an object with schema_version 1 and steps was expected");
            return std::nullopt;
        }
        if (j.contains("refusals") && j["refusals"].is_array() && !j["refusals"].empty()) {
            (void)usage(name + ": the plan does not hold: " + j["refusals"][0].dump());
            return std::nullopt;
        }
        for (std::size_t i = 0; i < j["steps"].size(); ++i) {
            const auto& s = j["steps"][i];
            lines.emplace_back("steps[" + std::to_string(i) + "]", s.is_object() && s.contains("operation") && s["operation"].is_string() ? s["operation"].get<std::string>() : "");
        }
    } else {
        std::size_t number = 0;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            std::string line = text.substr(at, end - at);
            at = end + 1;
            ++number;
            if (const std::size_t note = line.find('#'); note != line.npos) line.erase(note);
            if (line.find_first_not_of(" \t\r") != line.npos) lines.emplace_back(std::to_string(number), line);
        }
    }
    std::vector<cpuset::operation> out;
    for (const auto& [where, line] : lines) {
        const auto op = cpuset::parse_operation(line);
        if (!op) {
            (void)usage(name + ":" + where + ":" + std::to_string(op.error().column) + ": " + op.error().why);
            return std::nullopt;
        }
        out.push_back(*op);
    }
    return out;
}

outcome apply(const options& o) {
    const auto text = read_input(sys::real(), o.plan);
    if (!text) return std::unexpected(text.error());
    const auto steps = steps_in(input_name(o.plan), *text);
    if (!steps) return exit_code::usage;
    auto live = open_live("/");
    if (!live) return std::unexpected(live.error());
    return run_steps(*live->tree, *steps, o.json, o.verbose, {.partitions_must_hold = !o.any});
}

}  // namespace

void add_cpuset_watch(registry& all) {
    auto w = std::make_shared<options>();
    all.add("cpuset watch", "Tell each change of the live tree")
        .number("--interval", w->interval, 10, 3'600'000, "milliseconds between looks when nothing is told by the kernel; default: 1000")
        .number("--seconds", w->seconds, 0, 1'000'000'000, "end after so many; default: at Ctrl-C")
        .flag("--restore", w->restore, "version 1: give sets back what a hotplug took from them, once it is there again, and threads that were moved away")
        .flag("--pressure", w->pressure, "tell memory pressure too; version 2 has no meter, stalls (PSI) stand in for it")
        .flag("--json", w->json, "print one JSON object a change")
        .notes("The kernel tells changes of partitions and of CPUs at once; everything else is seen at the next look.")
        .run([w] { return watch(*w); });

    auto a = std::make_shared<options>();
    all.add("cpuset apply", "Carry a plan out on the live tree, whole or not at all")
        .argument("PLAN", a->plan, "the JSON of `cohort cpuset plan --json`, or lines as of `cohort cpuset simulate`; - is standard input")
        .flag("--keep-invalid", a->any, "a partition that comes out invalid is kept; without this all is undone")
        .flag("-v,--verbose", a->verbose, "tell each step")
        .flag("--json", a->json, "print JSON")
        .notes("Steps: mkdir, rmdir, write, attach (TASK is a process number, or thread:NUMBER), controller. Lists and partitions are read back.\n"
               "When a step is refused, those before it are undone and the refusal is told. Exit 1: the kernel's rules refuse it.")
        .run([a] { return apply(*a); });
}

}  // namespace cohort::cli
