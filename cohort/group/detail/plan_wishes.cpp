// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/plan_wishes.hpp>

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include <cohort/group/detail/place.hpp>

namespace cohort::group::detail {
namespace {

/// The machine's cores with the CPUs that may be given out, and who has others of them already.
std::vector<place_core> free_cores(const spec& in, const plan& out) {
    const machine_view& m = out.machine;
    std::vector<std::vector<std::size_t>> holders(max_cpus);
    cpumask named;
    for (std::size_t i = 0; i < in.cohorts.size(); ++i) {
        if (in.cohorts[i].cpus.kind != cpu_wish::form::list) continue;
        named |= out.cohorts[i].cpus;
        for (const int cpu : out.cohorts[i].cpus) holders[static_cast<std::size_t>(cpu)].push_back(i);
    }
    std::vector<place_core> cores;
    for (const auto& cpus : m.by_core(m.usable)) {
        place_core& c = cores.emplace_back(place_core{.node = std::max(0, m.node_of(cpus.front())), .cpus = {}, .tenants = {}});
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

void plan_wishes(const spec& in, plan& out) {
    std::vector<place_wish> wishes;
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < in.cohorts.size(); ++i) by_name.emplace(in.cohorts[i].name, i);
    std::set<std::pair<std::size_t, std::size_t>> apart;
    for (std::size_t i = 0; i < in.cohorts.size(); ++i) {
        const cpu_wish& w = in.cohorts[i].cpus;
        wishes.push_back({.count = w.kind == cpu_wish::form::count ? w.count : 0, .whole_cores = w.whole_cores, .same_node = w.same_node, .nodes = nodes_of(in.cohorts[i])});
        for (const std::string& other : w.apart_from) {
            if (const auto it = by_name.find(other); it != by_name.end()) apart.insert(std::minmax(i, it->second));
        }
    }
    if (std::none_of(wishes.begin(), wishes.end(), [](const place_wish& w) { return w.count > 0; })) return;
    // Siblings are never split between unequal cookies, even where a kernel would keep them from running at the same time: the core would idle.
    const auto conflict = [&](std::size_t a, std::size_t b) { return in.cohorts[a].cookie != in.cohorts[b].cookie || apart.contains(std::minmax(a, b)); };
    const placement where = place(wishes, free_cores(in, out), conflict);
    for (std::size_t i = 0; i < wishes.size(); ++i) {
        if (wishes[i].count == 0) continue;
        cohort_plan& c = out.cohorts[i];
        c.asked = c.cpus = where.cpus[i];
        if (!c.cpus.empty()) continue;
        out.refusals.push_back({{in.file, in.cohorts[i].cpus.at, "cohort \"" + c.name + "\"",
                                 fmt::format("cpus {}: there is no room for it beside the others: {} usable {}", wish_text(in.cohorts[i].cpus), out.machine.usable.weight(),
                                             out.machine.usable.weight() == 1 ? "CPU" : "CPUs")}});
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
