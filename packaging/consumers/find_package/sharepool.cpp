// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/group.hpp>

#include <cstdio>
#include <vector>

int main() {
    const auto g = cohort::sharepool::group::create({.bytes = 8 << 20});
    if (!g) return std::puts(g.error().line().c_str()), 1;
    auto m = cohort::sharepool::member::join(g->data_fd(), g->metadata_fd());
    if (!m) return std::puts(m.error().line().c_str()), 1;
    std::vector<int, cohort::sharepool::allocator<int>> v(1000, 7, cohort::sharepool::allocator<int>(*m));
    return v.back() == 7 ? 0 : 1;
}
