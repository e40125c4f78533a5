// SPDX-License-Identifier: Apache-2.0
/// How an area of a group is made: of which pages, on which nodes, at which addresses, and whether it outlives its owner.
#pragma once

#include <cstdint>

#include <cohort/base/cpumask.hpp>
#include <cohort/sharepool/access.hpp>
#include <cohort/sharepool/group.hpp>

namespace cohort::sharepool {

enum class lifetime : std::uint8_t {
    member,  ///< freed when its owner dies, unless it was handed over
    group,   ///< handed over from the beginning: kept when its owner dies
};

/// Part of the group's addresses (group_options).
enum class place : std::uint8_t {
    ordinary,
    read_only,  ///< mapped for reading by all members but the one that allocates it. After another member freed it, it stays writable in its applier until that leaves
    device,
};

struct area_options {
    page_kind pages = page_kind::small;
    lifetime life = lifetime::member;
    place in = place::ordinary;
    unsigned device = 0;              ///< of place::device
    const nodemask* nodes = nullptr;  ///< its pages are made there; null: by the thread's policy
    bool only_there = false;          ///< else elsewhere if those are full
    bool addresses_only = false;      ///< reserved for map_import(): no pages, as if handed over, and not to be freed but by give_back()
};

}  // namespace cohort::sharepool
