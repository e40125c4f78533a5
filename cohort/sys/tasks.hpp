// SPDX-License-Identifier: Apache-2.0
/// Processes and their threads, as /proc shows them.
///
///     for (int pid : sys::all_processes(os).value()) {
///         for (int tid : sys::threads_of_process(os, pid).value_or(std::vector<int>{})) look_at(tid);
///     }
///     auto t = sys::task_at(os, 4711);                        // result<task_entry>: its name, its process, its process group
///     auto s = sys::stat_of(os, 4711);                        // result<task_stat>: its parent, its CPU time, where it ran last
///
/// Kernel: proc(5). What is listed may have ended by the time it is used.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
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

/// What stands in a file "stat" of /proc.
struct task_stat {
    std::string name = {};
    char state = '?';              ///< R, S, D ... Z: it has ended and was not waited for
    int parent = 0;                ///< process
    int group = 0;                 ///< process group
    std::string start = {};        ///< clock ticks since boot, as the kernel writes them: with its number it names one task of a boot
    std::uint64_t cpu_ns = 0;      ///< CPU time, user's and system's, in steps of a clock tick (10 ms)
    std::uint64_t waited_ns = 0;   ///< that of children it has waited for
    std::uint64_t major_faults = 0;
    int cpu = -1;                  ///< where it ran last
    bool kernel_thread = false;

    bool over() const { return state == 'Z' || state == 'X'; }
};

/// who: "4711", a process with all its threads, those that have ended too; "4711/task/4712", one thread; "self". About 10 us. Errors: ESRCH; EIO, it is not as the kernel writes it.
result<task_stat> stat_of(os& system, const std::string& who);
inline result<task_stat> stat_of(os& system, int pid) { return stat_of(system, std::to_string(pid)); }

/// The numbers in a text of the kernel's, whatever stands between them: "12\n13\n" -> 12, 13.
std::vector<std::uint64_t> numbers_in(std::string_view text);
/// The same of a file of threads or processes, one a line: ascending, each once.
std::set<int> ids_in(std::string_view text);

/// Ascending. Errors: those of listing /proc.
result<std::vector<int>> all_processes(os& system);
/// The numbers of a process's threads, ascending. Errors: ESRCH.
result<std::vector<int>> threads_of_process(os& system, int pid);
/// One thread; a process's number is its first thread's. Errors: ESRCH.
result<task_entry> task_at(os& system, int id);

}  // namespace cohort::sys
