// SPDX-License-Identifier: Apache-2.0
/// Is a process that was met before still that process, and has it ended?
///
///     const auto me = sys::this_process();                   // put where others can read it
///     if (sys::has_ended(me)) ...                            // all its threads have: nothing of it is stored any more
///
/// Kernel: pidfd_open(2), whose descriptor is readable once every thread of the process has ended; its inode, or field 22 of /proc/PID/stat, tells a number's later owner apart.
#pragma once

#include <cstdint>
#include <optional>

namespace cohort::sys {

struct process_identity {
    std::int32_t pid = 0;
    /// What no other process of that number has: the number of its pidfd's inode (Linux 6.9 or newer; top bit set), else the clock ticks since boot at which it was started.
    /// 0: not known, any process of that number is taken for it.
    std::uint64_t mark = 0;
    bool operator==(const process_identity&) const = default;
};

process_identity this_process() noexcept;
/// mark is 0 if there is no such process. 3 us, where the kernel has no such inodes up to 40 us.
process_identity identify_process(std::int32_t pid) noexcept;
/// Of the process behind a pidfd whose number is pid; -1: there is none.
process_identity identify_process(std::int32_t pid, int pidfd) noexcept;
/// True only if it is certain: no such process, another one under its number, or all threads ended (perhaps not waited for yet). 3 to 15 us. Same PID namespace.
bool has_ended(const process_identity& p) noexcept;
/// Does the process map the file of that descriptor now? Empty: there is no such process, or we may not look. As long as the process has mappings: some 100 us.
std::optional<bool> maps_file(std::int32_t pid, int fd) noexcept;
std::optional<bool> maps_file(std::int32_t pid, std::uint64_t device, std::uint64_t inode) noexcept;

}  // namespace cohort::sys
