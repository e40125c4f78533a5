// SPDX-License-Identifier: Apache-2.0
#include <set>

#include <cohort/base/ida.hpp>
#include <cohort/base/testing/fuzz.hpp>

/// The smallest free number of a range, held against a set.
FUZZ(text) {
    cohort::ida ids;
    std::set<int> taken;
    for (cohort::testing::draws d(text); d;) {
        const std::uint32_t act = d.below(3);
        // Numbers around the borders of blocks and words, too.
        const int at = static_cast<int>(d.below(3) * 4096 + d.below(4) * 62 + d.below(8));
        if (act == 0) {
            const int max = at + static_cast<int>(d.below(80));
            int wanted = at;
            while (taken.contains(wanted)) ++wanted;
            const auto got = ids.alloc_range(at, max);
            CLAIM(got.has_value() == (wanted <= max));
            CLAIM(!got || *got == wanted);
            if (got) taken.insert(*got);
        } else if (act == 1) {
            CLAIM(ids.free(at).has_value() == (taken.erase(at) == 1));
        } else {
            CLAIM(ids.taken(at) == taken.contains(at));
        }
        CLAIM(ids.empty() == taken.empty());
    }
}
