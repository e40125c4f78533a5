// SPDX-License-Identifier: Apache-2.0
/// The areas of a group, and what small objects take: what view::areas() tells, for /proc/sharepool's spa_stat.
#pragma once

#include <cstdint>
#include <vector>

namespace cohort::sharepool {

struct area_facts {
    std::uint64_t at = 0, bytes = 0;
    int pid = 0;                 ///< whose it is; 0: nobody's, it was handed over, or its owner has left
};

/// Exact when no member acts meanwhile.
struct area_list {
    std::vector<area_facts> areas;       ///< by address; those of addresses alone are left out
    std::uint64_t area_bytes = 0;        ///< of all of them
    std::uint64_t small_bytes = 0;       ///< of the superblocks, in which objects up to 32 KiB are
    bool huge = false;                   ///< the group's memory is of huge pages
};

namespace detail {
class heap;
/// Anybody's who maps the metadata; it writes nothing. As long as there are units up to the last one in use.
area_list areas_of(const heap& h);
}  // namespace detail

}  // namespace cohort::sharepool
