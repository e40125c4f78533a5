// SPDX-License-Identifier: Apache-2.0
/// Which cohorts of a spec are inside of which.
#pragma once

#include <cstddef>
#include <vector>

#include <cohort/group/spec.hpp>

namespace cohort::group::detail {

struct kinship {
    /// Cohorts that are inside of the same one, or of none.
    struct family {
        int above = -1;                    ///< -1: of none
        std::vector<std::size_t> members;  ///< in the order of the spec
    };
    std::vector<int> above;                ///< by cohort: the one it is inside of; -1: none
    std::vector<family> families;          ///< those of a cohort after the one that it is in itself; the first is that of none

    /// Whether one of the two is inside of the other, however deep. Cost: the depth.
    bool related(std::size_t a, std::size_t b) const { return within(a, b) || within(b, a); }
    bool within(std::size_t inner, std::size_t outer) const;
};

/// Expects a spec without faults.
kinship kinship_of(const spec& s);

}  // namespace cohort::group::detail
