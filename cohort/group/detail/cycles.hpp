// SPDX-License-Identifier: Apache-2.0
/// Things that wait for one another, or are inside of one another: whether in a circle.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace cohort::group::detail {

/// Walks 0 .. n-1 in depth along next(i); found(circle) for each edge that leads back to one that is still open, in the order of the walk: the last one's next is the first.
/// An edge from one to itself is none. Cost: things and edges; the stack holds the longest chain.
void find_cycles(std::size_t n, const std::function<std::vector<std::size_t>(std::size_t)>& next, const std::function<void(const std::vector<std::size_t>&)>& found);

}  // namespace cohort::group::detail
