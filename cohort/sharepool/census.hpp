// SPDX-License-Identifier: Apache-2.0
/// Where everything of a group is: what member::count() and view::count() tell.
#pragma once

#include <cstdint>
#include <vector>

namespace cohort::sharepool {

/// Where every block and unit of a group is. Exact when no member acts meanwhile.
struct census {
    std::uint64_t superblocks = 0, areas = 0, units_free = 0, units_claimed = 0;
    std::uint64_t blocks = 0;           ///< of all superblocks
    std::uint64_t linked = 0;           ///< free: in superblocks and magazines
    std::uint64_t in_magazines = 0;     ///< of those
    std::uint64_t owned = 0;            ///< by a member that is present
    std::uint64_t kept = 0;             ///< nobody's, handed over
    std::uint64_t lost = 0;             ///< neither linked nor owned nor kept: none, unless somebody wrote into the metadata
    std::uint64_t twice = 0;            ///< linked in two places: none, unless somebody wrote into the metadata
    std::uint64_t bytes = 0;            ///< of the group's memory that exist, and
    std::uint64_t metadata_bytes = 0;
    bool operator==(const census&) const = default;
};

/// What an account counts.
struct usage {
    int pid = 0;                        ///< 0: the group; blocks are counted there alone, by their superblocks
    std::uint64_t bytes = 0, peak = 0;
    std::uint64_t limit = 0;            ///< 0: none
    std::uint64_t refused = 0;          ///< allocations
};

namespace detail {
class heap;
std::vector<usage> accounts_in(const heap& h);
/// Anybody's who maps the metadata; it writes nothing.
census count_of(const heap& h);
}  // namespace detail

}  // namespace cohort::sharepool
