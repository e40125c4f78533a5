// SPDX-License-Identifier: Apache-2.0
/// Which process something belongs to, so that it can be told for ever whether that process still runs.
///
///     write(path, this_owner(os).claim());                    // "4711 88123\n"
///     if (!lives(os, *owner::parse(text))) take_over();
///
/// Kernel: field 22 of /proc/PID/stat: a pid with its start names one process of a boot; /proc/sys/kernel/random/boot_id.
#pragma once

#include <optional>
#include <string>

#include <cohort/sys/os.hpp>

namespace cohort::group {

struct owner {
    int pid = 0;
    std::string start = {};  ///< clock ticks since boot, as the kernel writes them
    std::string boot = {};   ///< empty: not said; that of the running machine

    /// "PID START\n": what stands in a claim.
    std::string claim() const { return std::to_string(pid) + " " + start + "\n"; }
    /// "PID.START": what its processes have in their environment.
    std::string mark() const { return std::to_string(pid) + "." + start; }
    /// Nothing: it is no claim, or one that is being written.
    static std::optional<owner> parse(const std::string& claim);
    bool operator==(const owner&) const = default;
};

/// Empty: there is no such process.
std::string start_time(sys::os& os, int pid);
owner this_owner(sys::os& os);
/// Whether it runs; one that has ended and was not waited for does not.
bool lives(sys::os& os, const owner& o);

/// The variable that every process of an `up` has in its environment, mark() of its owner being the value.
inline constexpr const char* owner_variable = "COHORT_OWNER";

}  // namespace cohort::group
