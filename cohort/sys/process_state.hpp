// SPDX-License-Identifier: Apache-2.0
/// What /proc tells of a process in this moment.
///
///     const auto p = sys::state_of_process(pid);              // pid: of any of its threads
///     if (!p.exists || p.exiting) return fail(ESRCH, ...);
///
/// Kernel: /proc/PID/status (proc(5)), kcmp(2).
#pragma once

#include <cstdint>

namespace cohort::sys {

struct process_state {
    bool exists = false;
    bool exiting = false;        ///< a zombie, none of whose threads lives
    bool dumping = false;        ///< it writes a core file (CoreDumping, Linux 4.15)
    bool kernel_thread = false;
    std::int32_t leader = 0;     ///< of its thread group
    std::int32_t parent = 0;
    unsigned uid = 0;            ///< real
    bool shares_memory = false;  ///< its memory is its parent's: a child of vfork() or clone(CLONE_VM). False as well where that cannot be told (kcmp needs CONFIG_KCMP and the right to trace both).
};

/// About 20 us. Where the caller has no descriptor left to look with: exists, and uid is ~0.
process_state state_of_process(std::int32_t pid) noexcept;

}  // namespace cohort::sys
