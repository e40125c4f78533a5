// SPDX-License-Identifier: Apache-2.0
#include "coresched_scenario.hpp"

#include <cmath>

#include <cohort/group/detail/table_reader.hpp>

namespace cohort::cli {
namespace {

using coresched::behaviour;
using coresched::change;
using coresched::scheduling;
using group::detail::fault_list;
using group::detail::table_reader;

constexpr std::int64_t most_ms = std::int64_t{3600} * 1000, most_us = most_ms * 1000;

const std::vector<std::string> kinds{"hog", "periodic", "pingpong"};
const std::vector<std::string> classes{"fair", "rr", "fifo", "deadline", "idle"};
const std::vector<std::string> changes{"create", "share_to", "share_from", "clear", "fork", "exit", "offline", "online"};
const std::vector<std::string> orders{"any", "ascending", "descending"};

/// The place of a word in its list, as the enumeration that the list is in the order of.
template <class E>
E as(const std::vector<std::string>& list, const std::string& word) {
    return static_cast<E>(std::ranges::find(list, word) - list.begin());
}

struct parser {
    scenario_reading& out;
    fault_list& faults;

    void root(const toml::table& table);
    coresched::group_spec group(const toml::table& table, std::size_t index);
    coresched::task_spec task(const toml::table& table, std::size_t index);
    coresched::event_spec event(const toml::table& table, std::size_t index);
};

void parser::root(const toml::table& table) {
    table_reader in(table, "", faults);
    if (auto m = in.string("machine")) out.machine = *m;
    coresched::scenario& s = out.value;
    s.duration_ms = static_cast<std::uint64_t>(in.integer("duration_ms", 1, most_ms).value_or(1000));
    s.seed = static_cast<std::uint64_t>(in.integer("seed", 0, INT64_MAX).value_or(1));
    s.ticks = as<coresched::tick_order>(orders, in.word("ticks", orders).value_or("any"));
    s.tick_seed = static_cast<std::uint64_t>(in.integer("tick_seed", 0, INT64_MAX).value_or(0));
    s.smt_yield = in.real("smt_yield", 1, 8).value_or(1.25);
    in.tables("group", [&](const toml::table& t, std::size_t i) { s.groups.push_back(group(t, i)); });
    in.tables("task", [&](const toml::table& t, std::size_t i) { s.tasks.push_back(task(t, i)); });
    in.tables("event", [&](const toml::table& t, std::size_t i) { s.events.push_back(event(t, i)); });
    in.finish();
    if (s.tasks.empty()) in.fault_at(in.at(), "there is no [[task]]");
}

coresched::group_spec parser::group(const toml::table& table, std::size_t index) {
    table_reader in(table, "group " + std::to_string(index + 1), faults);
    coresched::group_spec g;
    in.require("name");
    g.name = in.string("name").value_or("");
    g.weight = static_cast<int>(in.integer("weight", 2, 262'144).value_or(1024));
    in.finish();
    return g;
}

coresched::task_spec parser::task(const toml::table& table, std::size_t index) {
    table_reader in(table, "task " + std::to_string(index + 1), faults);
    coresched::task_spec t;
    in.require("name");
    t.name = in.name("name").value_or("");
    if (!t.name.empty()) in.name_object("task \"" + t.name + "\"");
    t.tag = static_cast<std::uint64_t>(in.integer("cookie", 0, INT64_MAX).value_or(0));
    if (auto list = in.string("cpus")) {
        auto mask = cpumask::parse_list(*list);
        if (!mask || mask->empty()) in.fault_at(in.at("cpus"), "cpus \"" + *list + "\": " + (mask ? "it is empty" : mask.error().reason));
        else t.cpus = *mask;
    }
    const std::string how = in.word("class", classes).value_or("fair");
    t.how = how == "rr" ? scheduling::round_robin : how == "fifo" ? scheduling::fifo : how == "deadline" ? scheduling::deadline : scheduling::fair;
    t.weight = static_cast<int>(in.integer("weight", 1, 88'761).value_or(how == "idle" ? 3 : 1024));
    t.priority = static_cast<int>(in.integer("priority", 1, 99).value_or(t.how == scheduling::fair ? 0 : 1));
    t.kind = as<behaviour>(kinds, in.word("kind", kinds).value_or("hog"));
    t.run_us = static_cast<std::uint64_t>(in.integer("run_us", 1, most_us).value_or(0));
    t.sleep_us = static_cast<std::uint64_t>(in.integer("sleep_us", 0, most_us).value_or(0));
    t.with = in.string("with").value_or("");
    t.group = in.string("group").value_or("");
    t.runtime_us = static_cast<std::uint64_t>(in.integer("runtime_us", 1, most_us).value_or(0));
    t.deadline_us = static_cast<std::uint64_t>(in.integer("deadline_us", 1, most_us).value_or(0));
    t.period_us = static_cast<std::uint64_t>(in.integer("period_us", 1, most_us).value_or(static_cast<std::int64_t>(t.deadline_us)));
    if (t.how == scheduling::deadline) {
        in.require("runtime_us", "of the deadline class");
        in.require("deadline_us", "of the deadline class");
    }
    if (t.kind != behaviour::hog) in.require("run_us", "only a hog computes all the time");
    if (t.kind == behaviour::pingpong) in.require("with", "the partner of a pingpong task");
    in.finish();
    return t;
}

coresched::event_spec parser::event(const toml::table& table, std::size_t index) {
    table_reader in(table, "event " + std::to_string(index + 1), faults);
    coresched::event_spec e;
    in.require("at_ms");
    in.require("op");
    e.at_us = static_cast<std::uint64_t>(std::llround(in.real("at_ms", 0, most_ms).value_or(0) * 1000));
    e.what = as<change>(changes, in.word("op", changes).value_or("create"));
    e.task = in.string("task").value_or("");
    e.target = in.string("target").value_or("");
    e.cpu = static_cast<int>(in.integer("cpu", 0, max_cpus - 1).value_or(-1));
    if (auto scope = in.string("scope"); scope && *scope != "thread") in.fault_at(in.at("scope"), "scope \"" + *scope + "\" is not simulated in this version, only \"thread\"");
    const bool of_cpu = e.what == change::offline || e.what == change::online;
    in.require(of_cpu ? "cpu" : "task");
    if (e.what == change::share_to || e.what == change::share_from || e.what == change::fork) in.require("target");
    in.finish();
    return e;
}

}  // namespace

scenario_reading read_scenario(const std::string& file, std::string_view text) {
    scenario_reading out;
    fault_list faults(file);
    group::detail::read_toml(file, text, faults, [&](const toml::table& table) { parser{out, faults}.root(table); });
    out.faults = faults.take();
    return out;
}

}  // namespace cohort::cli
