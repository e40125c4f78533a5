// SPDX-License-Identifier: Apache-2.0
/// States of a cpuset's partition, and what is wrong with one that is invalid, in the kernel's words.
///
///     partition_text(partition_state::isolated_invalid, partition_reason::no_cpus, kernel::v6_12);
///     // "isolated invalid (Parent unable to distribute cpu downstream)"
///
/// Kernel: cpuset.cpus.partition, Documentation/admin-guide/cgroup-v2.rst.
#pragma once

#include <string>
#include <string_view>

#include <cohort/cpuset/profile.hpp>

namespace cohort::cpuset {

enum class partition_state : signed char { isolated_invalid = -2, root_invalid = -1, member = 0, root = 1, isolated = 2 };

constexpr bool is_valid(partition_state s) { return s > partition_state::member; }
constexpr bool is_invalid(partition_state s) { return s < partition_state::member; }
/// Valid for invalid and the other way round; member stays.
constexpr partition_state flipped(partition_state s) { return static_cast<partition_state>(-static_cast<signed char>(s)); }
constexpr partition_state made_invalid(partition_state s) { return is_valid(s) ? flipped(s) : s; }

enum class partition_reason : unsigned char {
    none, invalid_cpus, invalid_parent, not_partition, not_exclusive, no_cpus, hotplug, cpus_empty, housekeeping, access, remote
};

/// The text in parentheses; empty for `none`.
std::string_view reason_text(partition_reason r, kernel k);
/// What cpuset.cpus.partition reads. 6.12 shows an invalid partition without a reason when none was recorded.
std::string partition_text(partition_state s, partition_reason r, kernel k);

}  // namespace cohort::cpuset
