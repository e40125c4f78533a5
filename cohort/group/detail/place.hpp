// SPDX-License-Identifier: Apache-2.0
/// Places wishes for CPUs ("4, whole cores, on one node, apart from web") on a machine's cores. Pure.
///
///     std::vector<place_core> cores = ...;                        // what each core has free, and on which node it is
///     std::vector<place_wish> wishes{{.count = 4, .whole_cores = true, .same_node = true}, {.count = 2}};
///     placement p = place(wishes, cores, conflict);               // p.cpus[0], p.cpus[1]; empty: no room
///
/// No two wishes get the same CPU, and two that conflict (unequal cookies, apart_from, whole_cores) no CPU of the same core.
///
/// What is best: first the fewest wishes without a place, then the fewest nodes crossed, then the fewest cores touched, so that the next one finds whole cores. A greedy placement is made first: largest wishes
/// first, each on the node that it fills best. Where it reaches the lower bound of all three it is the answer; else a branch-and-bound search goes on from it, exact on small machines and ended after a number of
/// steps on large ones (`placement::exact` says which). Counterparts: Kubernetes' CPU manager (static, full-pcpus-only), Slurm's cons_tres; neither looks for an optimum.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include <cohort/base/cpumask.hpp>

namespace cohort::group::detail {

struct place_core {
    int node = 0;              ///< 0 or more
    std::vector<int> cpus;     ///< that may be given out, in the order in which they are
    std::vector<std::size_t> tenants;  ///< wishes that have CPUs of it already (cohorts that named theirs)
};

struct place_wish {
    int count = 0;             ///< CPUs; 0: it is placed already, and counts only where it is a core's tenant
    bool whole_cores = false;  ///< gets every CPU of its cores, and so perhaps more than `count`
    bool same_node = false;
    std::vector<int> nodes = {};  ///< only there; empty: anywhere
};

struct place_cost {
    std::size_t homeless = 0;  ///< wishes without a place
    std::size_t crossings = 0; ///< nodes beyond the first, over all wishes
    std::size_t cores = 0;     ///< touched, over all wishes
    auto operator<=>(const place_cost&) const = default;
};

struct placement {
    std::vector<cpumask> cpus; ///< by wish; empty: no room, or it was placed already
    place_cost cost;
    bool exact = true;         ///< nothing cheaper exists
};

/// conflict(i, j): wishes i and j may not share a core; symmetric. whole_cores conflicts with everybody by itself. steps: of the search.
/// Cost: wishes * (cores + wishes), and the steps.
placement place(const std::vector<place_wish>& wishes, const std::vector<place_core>& cores, const std::function<bool(std::size_t, std::size_t)>& conflict, std::size_t steps = 200'000);

}  // namespace cohort::group::detail
