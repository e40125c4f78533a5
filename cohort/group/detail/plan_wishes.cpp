// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_wishes.hpp>

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include <cohort/group/detail/place.hpp>

namespace cohort::group::detail {
namespace {

/// The cores with the CPUs that may be given out, and who has others of them already (as a place among the members).
std::vector<place_core> free_cores(const spec& in, const std::vector<std::size_t>& members, const cpumask& from, const plan& out) {
    std::vector<std::vector<std::size_t>> holders(max_cpus);
    cpumask named;
    for (std::size_t k = 0; k < members.size(); ++k) {
        if (in.cohorts[members[k]].cpus.kind != cpu_wish::form::list) continue;
        const cpumask& cpus = out.cohorts[members[k]].cpus;
        named |= cpus;
        for (const int cpu : cpus) holders[static_cast<std::size_t>(cpu)].push_back(k);
    }
    std::vector<place_core> cores;
    for (const auto& cpus : out.machine.by_core(from)) {
        place_core& c = cores.emplace_back(place_core{.node = std::max(0, out.machine.node_of(cpus.front())), .cpus = {}, .tenants = {}});
        for (const int cpu : cpus) {
            if (!named.test(cpu)) c.cpus.push_back(cpu);
            for (const std::size_t who : holders[static_cast<std::size_t>(cpu)]) {
                if (std::find(c.tenants.begin(), c.tenants.end(), who) == c.tenants.end()) c.tenants.push_back(who);
            }
        }
    }
    return cores;
}

/// Nodes that a cohort's memory is bound to: its CPUs stand beside it.
std::vector<int> nodes_of(const cohort_spec& c) {
    std::vector<int> out;
    if (const auto nodes = nodemask::parse_list(c.mems); !c.mems.empty() && nodes) {
        for (const int node : *nodes) out.push_back(node);
    }
    return out;
}

}  // namespace

void plan_wishes(const spec& in, const std::vector<std::size_t>& members, const cpumask& from, plan& out) {
    const auto asked = [&](std::size_t k) -> const cohort_spec& { return in.cohorts[members[k]]; };
    const auto wants_some = [&](std::size_t i) { return in.cohorts[i].cpus.kind == cpu_wish::form::count; };
    if (std::none_of(members.begin(), members.end(), wants_some)) return;
    std::vector<place_wish> wishes;
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t k = 0; k < members.size(); ++k) by_name.emplace(asked(k).name, k);
    std::set<std::pair<std::size_t, std::size_t>> apart;
    for (std::size_t k = 0; k < members.size(); ++k) {
        const cpu_wish& w = asked(k).cpus;
        wishes.push_back({.count = w.kind == cpu_wish::form::count ? w.count : 0, .whole_cores = w.whole_cores, .same_node = w.same_node, .nodes = nodes_of(asked(k))});
        for (const std::string& other : w.apart_from) {
            if (const auto it = by_name.find(other); it != by_name.end()) apart.insert(std::minmax(k, it->second));
        }
    }
    // Siblings are never split between unequal cookies, even where a kernel would keep them from running at the same time: the core would idle.
    const auto conflict = [&](std::size_t a, std::size_t b) { return asked(a).cookie != asked(b).cookie || apart.contains(std::minmax(a, b)); };
    const placement where = place(wishes, free_cores(in, members, from, out), conflict);
    for (std::size_t k = 0; k < wishes.size(); ++k) {
        if (wishes[k].count == 0) continue;
        cohort_plan& c = out.cohorts[members[k]];
        c.asked = c.cpus = where.cpus[k];
        if (!c.cpus.empty()) continue;
        const std::string there = asked(k).inside.empty() ? fmt::format("{} usable {}", from.weight(), from.weight() == 1 ? "CPU" : "CPUs") : fmt::format("{} of cohort \"{}\"", cpus_text(from), asked(k).inside);
        out.refusals.push_back({{in.file, asked(k).cpus.at, "cohort \"" + c.name + "\"", fmt::format("cpus {}: there is no room for it beside the others: {}", wish_text(asked(k).cpus), there)}});
    }
    if (!where.exact) out.notes.push_back("where cohorts stand is good, and perhaps not the best: the search was ended");
}

std::string wish_text(const cpu_wish& wish) {
    std::string out = fmt::format("{} {}", wish.count, wish.count == 1 ? "CPU" : "CPUs");
    if (wish.whole_cores) out += ", whole cores";
    if (wish.same_node) out += ", on one node";
    for (std::size_t i = 0; i < wish.apart_from.size(); ++i) out += fmt::format("{} \"{}\"", i == 0 ? ", apart from" : ",", wish.apart_from[i]);
    return out;
}

}  // namespace cohort::group::detail
