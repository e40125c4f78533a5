// SPDX-License-Identifier: Apache-2.0
/// What must hold in every state of a plan, judged against the state before it.
#pragma once

#include <string>
#include <unordered_map>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {

/// Do tasks live by this very set? Those of cgroups below without a cpuset of their own count.
inline bool governs_tasks(const world& w, const group& g) { return g.hands_on || w.v1 ? !g.tasks.empty() : g.tasks_below > 0; }
/// Nothing of what it asks for is left: it runs on its parent's.
inline bool asks_cpus_in_vain(const group& g) { return !g.valid() && !g.own.cpus.empty() && !g.own.cpus.intersects(g.effective_cpus); }
inline bool asks_nodes_in_vain(const group& g) { return !g.own.mems.empty() && !g.own.mems.intersects(g.effective_mems); }

/// All cpusets but the root, in pre-order.
template <class Visit>
void each_set(const world& w, Visit visit) {
    group* top = w.root.get();
    for (group* at = next_cpuset(top, top); at; at = next_cpuset(at, top)) visit(*at);
}

class safety {
public:
    explicit safety(const world& before);
    /// The first fault of `now`, or "". Cost: all sets.
    std::string fault(const world& now) const;

private:
    struct weakness {
        bool invalid = false, no_cpu_asked = false, no_node_asked = false;
    };
    std::unordered_map<std::string, weakness> weak_;  // sets that were not well before; few
};

}  // namespace cohort::cpuset::detail
