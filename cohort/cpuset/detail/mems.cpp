// SPDX-License-Identifier: Apache-2.0
// Memory nodes: writes, and what reaches the sets below and their tasks.
#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset::detail {

verdict write_mems(world& w, group& g, std::string_view text) {
    if (g.is_root()) return {EACCES, "the root's nodes are the machine's"};
    auto mems = nodemask::parse_list(text, w.node_ids);
    if (!mems) return {mems.error().code, mems.error().object + ": " + mems.error().reason};
    const nodemask& top = w.root->own.mems;
    if (!mems->subset_of(top)) return {EINVAL, "nodes " + (*mems - top).list() + (w.v1 ? " have no memory online" : " are not possible")};
    if (*mems == g.own.mems) return {};
    request trial = g.own;
    trial.mems = *mems;
    if (verdict v = validate(w, g, trial); v.refused()) return v;
    g.own = trial;
    propagate_mems(w, g);
    return {};
}

void propagate_mems(world& w, group& top) {
    for (group* at = &top; at;) {
        nodemask mems = at->own.mems & at->parent->effective_mems;
        if (!w.v1 && mems.empty()) mems = at->parent->effective_mems;
        const bool same = mems == at->effective_mems;
        if (!same) {
            at->effective_mems = mems;
            update_task_mems(w, *at);
        }
        at = next_cpuset(at, &top, same);
    }
}

}  // namespace cohort::cpuset::detail
