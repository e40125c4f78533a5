// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/profile.hpp>

#include <string>

namespace cohort::cpuset {

result<kernel> parse_kernel(std::string_view text) {
    if (text == "6.1") return kernel::v6_1;
    if (text == "6.12") return kernel::v6_12;
    if (text.size() == 3 && text.starts_with("7.") && text[2] >= '0' && text[2] <= '9') return kernel::v7_0;
    return fail(EINVAL, "kernel \"" + std::string(text) + "\"", "choose the profile", "there are 6.1, 6.12 and 7.0 (which stands for later ones of 7, too)");
}

std::string_view kernel_name(kernel k) {
    switch (k) {
        case kernel::v6_1: return "6.1";
        case kernel::v6_12: return "6.12";
        case kernel::v7_0: return "7.0";
    }
    return {};
}

const rules& rules_of(kernel k) {
    static constexpr rules v6_1{
        .exclusive_files = false, .keeps_affinity = false, .hands_down = true, .attach_always_sets = true, .weighted_interleave = false, .emptying_needs_no_tasks = true, .overlap_invalidates = true,
        .exclusive_range_checked = false, .root_tasks_any_possible = false, .isolcpus_by_wish = false, .excluded_child_is_walked = true};
    static constexpr rules v6_12{
        .exclusive_files = true, .keeps_affinity = true, .hands_down = false, .attach_always_sets = false, .weighted_interleave = true, .emptying_needs_no_tasks = true, .overlap_invalidates = true,
        .exclusive_range_checked = false, .root_tasks_any_possible = true, .isolcpus_by_wish = false, .excluded_child_is_walked = true};
    static constexpr rules v7_0{
        .exclusive_files = true, .keeps_affinity = true, .hands_down = false, .attach_always_sets = false, .weighted_interleave = true, .emptying_needs_no_tasks = false, .overlap_invalidates = false,
        .exclusive_range_checked = true, .root_tasks_any_possible = true, .isolcpus_by_wish = true, .excluded_child_is_walked = false};
    return k == kernel::v6_1 ? v6_1 : k == kernel::v6_12 ? v6_12 : v7_0;
}

}  // namespace cohort::cpuset
