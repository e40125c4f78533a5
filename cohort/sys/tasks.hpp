// SPDX-License-Identifier: Apache-2.0
/// Processes and their threads, as /proc shows them.
///
///     for (int pid : sys::all_processes(os).value()) {
///         for (int tid : sys::threads_of_process(os, pid).value_or(std::vector<int>{})) look_at(tid);
///     }
///     auto t = sys::task_at(os, 4711);                        // result<task_entry>: its name, its process, its process group
///
/// Kernel: proc(5). What is listed may have ended by the time it is used.
#pragma once

#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::sys {

struct task_entry {
    int id = 0;              ///< the thread's number
    int pid = 0;             ///< its process
    int group = 0;           ///< its process group
    std::string name = {};   ///< as ps -L shows it; kernel threads have one too
};

/// Ascending. Errors: those of listing /proc.
result<std::vector<int>> all_processes(os& system);
/// The numbers of a process's threads, ascending. Errors: ESRCH.
result<std::vector<int>> threads_of_process(os& system, int pid);
/// One thread; a process's number is its first thread's. Errors: ESRCH.
result<task_entry> task_at(os& system, int id);

}  // namespace cohort::sys
