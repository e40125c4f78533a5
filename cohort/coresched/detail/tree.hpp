// SPDX-License-Identifier: Apache-2.0
/// A treap over entities: ordered by key, then by age; each node knows the least vruntime at and below it. Kernel: the augmented red-black tree of a cfs_rq.
#pragma once

#include <cstdint>
#include <vector>

namespace cohort::coresched::detail {

struct entity;

struct tree_links {
    std::uint32_t left = ~std::uint32_t{0}, right = ~std::uint32_t{0};
    std::int64_t key = 0;                 // what it was inserted by
    std::uint64_t stamp = 0;              // of equal keys the older goes first
    std::int64_t least = 0;               // of vruntimes at and below
};

/// Both return the new root. Cost: logarithmic, in expectation.
std::uint32_t tree_insert(std::vector<entity>& all, std::uint32_t root, std::uint32_t e);
std::uint32_t tree_erase(std::vector<entity>& all, std::uint32_t root, std::uint32_t e);
/// The one with the least key. root: not none.
std::uint32_t tree_first(const std::vector<entity>& all, std::uint32_t root);

}  // namespace cohort::coresched::detail
