// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/detail/safety.hpp>

#include <cohort/cpuset/plan.hpp>

namespace cohort::cpuset {
namespace detail {
safety::safety(const world& before) {
    each_set(before, [&](const group& g) {
        const weakness weak{g.invalid(), asks_cpus_in_vain(g), asks_nodes_in_vain(g)};
        if (weak.invalid || weak.no_cpu_asked || weak.no_node_asked) weak_.emplace(path_of(g), weak);
    });
}

std::string safety::fault(const world& now) const {
    std::string out;
    each_set(now, [&](const group& g) {
        if (!out.empty()) return;
        const bool governs = governs_tasks(now, g);
        const bool invalid = g.invalid(), cpus = governs && asks_cpus_in_vain(g), nodes = governs && asks_nodes_in_vain(g);
        if (governs && g.effective_cpus.empty()) out = "\"" + path_of(g) + "\" has tasks and no CPU";
        else if (governs && g.effective_mems.empty()) out = "\"" + path_of(g) + "\" has tasks and no memory node";
        if (!out.empty() || (!invalid && !cpus && !nodes)) return;
        const auto it = weak_.find(path_of(g));
        const weakness was = it == weak_.end() ? weakness{} : it->second;
        const std::string name = "\"" + path_of(g) + "\"";
        if (invalid && !was.invalid) out = name + " becomes " + partition_text(g.state, g.reason, now.profile);
        else if (cpus && !was.no_cpu_asked) out = name + " has tasks and loses all CPUs that it asks for";
        else if (nodes && !was.no_node_asked) out = name + " has tasks and loses all nodes that it asks for";
    });
    return out;
}

}  // namespace detail

std::string unsafe(const model& before, const model& now) { return detail::safety(before.state()).fault(now.state()); }

}  // namespace cohort::cpuset
