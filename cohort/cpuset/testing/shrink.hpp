// SPDX-License-Identifier: Apache-2.0
/// A failing sequence made short: pieces are left out as long as it still fails.
///
///     auto small = shrink(ops, [](const std::vector<operation>& s) { return !run(s).empty(); });
///     std::puts(script_of(small).c_str());          // the lines, ready for `cohort cpuset simulate`
#pragma once

#include <string>
#include <vector>

#include <cohort/cpuset/operation.hpp>

namespace cohort::cpuset::testing {

/// fails(ops) holds at the start. Cost: some hundreds of runs for a sequence of hundreds.
template <class Fails>
std::vector<operation> shrink(std::vector<operation> ops, Fails fails) {
    for (std::size_t piece = ops.size() / 2; piece > 0;) {
        bool shorter = false;
        for (std::size_t at = 0; at + piece <= ops.size();) {
            std::vector<operation> without(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(at));
            without.insert(without.end(), ops.begin() + static_cast<std::ptrdiff_t>(at + piece), ops.end());
            if (fails(without)) {
                ops = std::move(without);
                shorter = true;
            } else {
                at += piece;
            }
        }
        if (!shorter || piece > 1) piece /= 2;
    }
    return ops;
}

inline std::string script_of(const std::vector<operation>& ops) {
    std::string out;
    for (const operation& op : ops) out += to_line(op) + "\n";
    return out;
}

}  // namespace cohort::cpuset::testing
