// SPDX-License-Identifier: Apache-2.0
/// What jobs use of the machine while they run, looked at from outside: CPU time, by where it was used; memory, by its node; blocks in a pipe's hands.
///
///     usage u(os);
///     const std::size_t job = u.add(own_of(machine, plan, job_plan));
///     u.take(job, pid);                // a process of the job, not reaped yet
///     u.look();                        // from time to time
///     u.drop(job, pid);                // before it is reaped: its last look
///     u.of(job).cpu->outside;          // seconds
///
/// How it is known: each thread's CPU time since the look before is said to have been used where the thread ran last. It is a sample: who moves to and fro between two looks is counted on one side. A process's
/// descendants are found by their parents, so that one whose parents have all ended before it was seen is not; what a descendant used after its last look is not counted. What a job's own processes used is
/// counted to the end, all of it.
/// Kernel: /proc/PID/stat, /proc/PID/task/TID/stat, /proc/PID/numa_maps (proc(5)).
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/group/run.hpp>
#include <cohort/stream/look.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group::detail {

/// Bytes of a process's memory on nodes that are not `home`, out of the text of its numa_maps: what it has for itself, and what it shares by memfd, /dev/shm or System V. Pages of files are where who read them first put them, and are left out.
std::uint64_t bytes_outside(std::string_view numa_maps, const nodemask& home);

/// Synchronization: any thread may call anything. mutex_ is held over the reading, so that no number is looked at after drop() has returned.
class usage {
public:
    struct own {
        cpumask cpus;    ///< its own
        nodemask home;   ///< its own nodes; empty: memory is not looked at (the machine has one node)
    };
    explicit usage(sys::os& os) : os_(os) {}

    /// A job; its number.
    std::size_t add(const own& what);
    void forget(std::size_t job);

    void take(std::size_t job, int pid);
    /// One that was not taken: nothing.
    void drop(std::size_t job, int pid);
    /// Threads of this process that work for the job: `thread` and those of the run. The caller drops them before `run` goes.
    void take_pipe(std::size_t job, int thread, const stream::pipe_look& run);
    void drop_pipe(std::size_t job);
    /// Looks at all of them, or at none when little time has passed since the last look took much: a fiftieth of the time, for memory a hundredth.
    void look();

    struct figures {
        std::optional<cpu_places> cpu;              ///< unset: nothing was seen
        std::optional<std::uint64_t> remote_peak;   ///< bytes; unset: memory was not looked at
        std::vector<int> threads;                   ///< of this process, now
    };
    figures of(std::size_t job) const;
    /// Blocks in flight; unset: no pipe of the job runs.
    std::optional<std::uint64_t> in_flight(std::size_t job) const;

private:
    struct counted {  // a thread, or a process for what its threads' looks had missed
        std::string start;
        std::uint64_t cpu_ns = 0;
    };
    struct process_seen {
        std::string start;
        bool first = false;                  // not a descendant
        std::uint64_t cpu_ns = 0;            // counted, of all its threads
        std::map<int, counted> threads = {};
    };
    struct watched {
        own what;
        std::map<int, process_seen> processes = {};
        std::map<int, counted> threads = {};  // of ours
        int reader = 0;
        const stream::pipe_look* run = nullptr;
        figures seen = {};
    };
    void add(watched& w, std::uint64_t ns, int cpu);
    void look_at_thread(watched& w, std::map<int, counted>& known, const std::string& of, int tid, std::uint64_t* sum);
    void look_at(watched& w, int pid, process_seen& p);
    void look_at_pipe(watched& w);
    void find_descendants() COHORT_REQUIRES(mutex_);
    void look_at_memory() COHORT_REQUIRES(mutex_);
    std::uint64_t after(std::uint64_t from, std::uint64_t parts, std::uint64_t at_least) const;

    sys::os& os_;                               // [const after init]
    mutable mutex mutex_;
    std::map<std::size_t, watched> jobs_ COHORT_GUARDED_BY(mutex_);
    std::size_t last_ COHORT_GUARDED_BY(mutex_) = 0;
    std::uint64_t next_ COHORT_GUARDED_BY(mutex_) = 0, next_family_ COHORT_GUARDED_BY(mutex_) = 0, next_memory_ COHORT_GUARDED_BY(mutex_) = 0;  // ns of the clock
};

/// What of the machine is a job's own. Nodes: those that its cohort asked for, else those of its CPUs.
usage::own own_of(const machine_view& machine, const plan& p, const job_plan& job);

}  // namespace cohort::group::detail
