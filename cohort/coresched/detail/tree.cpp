// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/detail/tree.hpp>

#include <algorithm>
#include <utility>

#include <cohort/coresched/detail/state.hpp>

namespace cohort::coresched::detail {
namespace {

/// Heap order: as good as chance, and the same in each run.
std::uint32_t height(std::uint32_t e) { return (e + 1) * 2'654'435'761u; }

bool before(const entity& a, const entity& b) { return a.links.key != b.links.key ? a.links.key < b.links.key : a.links.stamp < b.links.stamp; }

void renew(std::vector<entity>& all, std::uint32_t e) {
    entity& x = all[e];
    x.links.least = x.vruntime;
    for (const std::uint32_t side : {x.links.left, x.links.right}) {
        if (side != none) x.links.least = std::min(x.links.least, all[side].links.least);
    }
}

/// Into what goes before e and what does not.
std::pair<std::uint32_t, std::uint32_t> split(std::vector<entity>& all, std::uint32_t root, const entity& e) {
    if (root == none) return {none, none};
    if (before(all[root], e)) {
        const auto [low, high] = split(all, all[root].links.right, e);
        all[root].links.right = low;
        renew(all, root);
        return {root, high};
    }
    const auto [low, high] = split(all, all[root].links.left, e);
    all[root].links.left = high;
    renew(all, root);
    return {low, root};
}

std::uint32_t join(std::vector<entity>& all, std::uint32_t low, std::uint32_t high) {
    if (low == none) return high;
    if (high == none) return low;
    if (height(low) > height(high)) {
        all[low].links.right = join(all, all[low].links.right, high);
        renew(all, low);
        return low;
    }
    all[high].links.left = join(all, low, all[high].links.left);
    renew(all, high);
    return high;
}

}  // namespace

std::uint32_t tree_insert(std::vector<entity>& all, std::uint32_t root, std::uint32_t e) {
    if (root == none || height(e) > height(root)) {
        std::tie(all[e].links.left, all[e].links.right) = split(all, root, all[e]);
        renew(all, e);
        return e;
    }
    std::uint32_t& side = before(all[e], all[root]) ? all[root].links.left : all[root].links.right;
    side = tree_insert(all, side, e);
    all[root].links.least = std::min(all[root].links.least, all[e].vruntime);
    return root;
}

std::uint32_t tree_erase(std::vector<entity>& all, std::uint32_t root, std::uint32_t e) {
    if (root == e) return join(all, all[e].links.left, all[e].links.right);
    std::uint32_t& side = before(all[e], all[root]) ? all[root].links.left : all[root].links.right;
    side = tree_erase(all, side, e);
    renew(all, root);
    return root;
}

std::uint32_t tree_first(const std::vector<entity>& all, std::uint32_t root) {
    while (all[root].links.left != none) root = all[root].links.left;
    return root;
}

}  // namespace cohort::coresched::detail
