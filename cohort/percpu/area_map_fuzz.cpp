// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <memory>

#include <cohort/base/testing/fuzz.hpp>
#include <cohort/percpu/detail/area_map.hpp>

/// Any order of allocations and frees, held against a map of what is live.
FUZZ(text) {
    using cohort::percpu::detail::area_map;
    const auto map = std::make_unique<area_map>();
    std::map<int, int> live;  // start -> bits
    int taken = 0;
    for (cohort::testing::draws d(text); d;) {
        if (d.below(3) > 0) {
            const int bits = 1 + static_cast<int>(d.below(8) == 0 ? d.below(9000) : d.below(70)), align = 1 << d.below(6);
            const auto at = map->alloc(bits, align, false);
            if (!at) continue;
            CLAIM(*at % align == 0 && *at >= map->start() && *at + bits <= map->end());
            const auto next = live.lower_bound(*at);
            CLAIM(next == live.end() || *at + bits <= next->first);
            CLAIM(next == live.begin() || std::prev(next)->first + std::prev(next)->second <= *at);
            live[*at] = bits;
            taken += bits;
        } else {
            auto it = live.lower_bound(static_cast<int>(d.below(65'536)));
            const int at = it == live.end() ? static_cast<int>(d.below(65'536)) : it->first;
            const int freed = map->free(at), wanted = live.contains(at) ? live[at] : -1;
            CLAIM(freed == wanted);
            if (freed > 0) live.erase(at), taken -= freed;
        }
        CLAIM(map->free_bits() == map->end() - map->start() - taken);
        CLAIM(map->nr_alloc() == static_cast<int>(live.size()));
    }
    for (const auto& [at, bits] : live) CLAIM(map->size_at(at) == bits);
}
