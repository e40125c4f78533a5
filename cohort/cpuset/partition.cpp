// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/partition.hpp>

namespace cohort::cpuset {

std::string_view reason_text(partition_reason r, kernel k) {
    const bool old = k == kernel::v6_1;
    switch (r) {
        case partition_reason::none: return {};
        case partition_reason::invalid_cpus: return old ? "Invalid cpu list in cpuset.cpus" : "Invalid cpu list in cpuset.cpus.exclusive";
        case partition_reason::invalid_parent: return "Parent is an invalid partition root";
        case partition_reason::not_partition: return "Parent is not a partition root";
        case partition_reason::not_exclusive: return "Cpu list in cpuset.cpus not exclusive";
        case partition_reason::no_cpus: return "Parent unable to distribute cpu downstream";
        case partition_reason::hotplug: return "No cpu available due to hotplug";
        case partition_reason::cpus_empty: return old ? "cpuset.cpus is empty" : "cpuset.cpus and cpuset.cpus.exclusive are empty";
        case partition_reason::housekeeping: return "partition config conflicts with housekeeping setup";
        case partition_reason::access: return "Enable partition not permitted";
        case partition_reason::remote: return "Have remote partition underneath";
    }
    return {};
}

std::string partition_text(partition_state s, partition_reason r, kernel k) {
    if (s == partition_state::member) return "member";
    std::string out = s == partition_state::root || s == partition_state::root_invalid ? "root" : "isolated";
    if (is_valid(s)) return out;
    out += " invalid";
    if (r != partition_reason::none) out += " (" + std::string(reason_text(r, k)) + ")";
    return out;
}

}  // namespace cohort::cpuset
