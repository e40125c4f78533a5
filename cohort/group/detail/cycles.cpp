// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/cycles.hpp>

#include <algorithm>

namespace cohort::group::detail {

void find_cycles(std::size_t n, const std::function<std::vector<std::size_t>(std::size_t)>& next, const std::function<void(const std::vector<std::size_t>&)>& found) {
    enum class state : char { unseen, open, done };
    std::vector<state> states(n, state::unseen);
    std::vector<std::size_t> path;
    const std::function<void(std::size_t)> visit = [&](std::size_t i) {
        states[i] = state::open;
        path.push_back(i);
        for (const std::size_t to : next(i)) {
            if (to == i) continue;
            if (states[to] == state::unseen) visit(to);
            else if (states[to] == state::open) found({std::find(path.begin(), path.end(), to), path.end()});
        }
        path.pop_back();
        states[i] = state::done;
    };
    for (std::size_t i = 0; i < n; ++i) {
        if (states[i] == state::unseen) visit(i);
    }
}

}  // namespace cohort::group::detail
