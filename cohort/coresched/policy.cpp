// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/policy.hpp>

namespace cohort::coresched {

std::vector<policy> all_policies() {
    return {{.name = "kernel"},
            {.name = "unprotected", .cookies_count = false},
            {.name = "nosmt", .one_thread_a_core = true},
            {.name = "search0", .search_untagged = true, .fresh_means = true},
            {.name = "steal0", .search_untagged = true, .fresh_means = true, .steal_untagged = true},
            {.name = "gang", .search_untagged = true, .whole_turns = true}};
}

result<policy> parse_policy(std::string_view name) {
    std::string known;
    for (policy& p : all_policies()) {
        if (p.name == name) return std::move(p);
        known += (known.empty() ? "" : ", ") + p.name;
    }
    return fail(EINVAL, "policy \"" + std::string(name) + "\"", "find", "there are " + known);
}

}  // namespace cohort::coresched
