// SPDX-License-Identifier: Apache-2.0
/// What is up, look by look: what each cohort has at this moment, and what has changed for the worse since: CPUs that left, partitions that are none any more, owners that were killed.
///
///     up_watch watch(os, {"/run/cohort/up"});
///     for (;;) {
///         const ups_seen now = watch.look();
///         for (const std::string& line : now.news) say(line);       // up "web", cohort "rt": CPU 3 has left, it has CPU 2
///         show(now.cohorts, now.jobs, now.totals);
///     }
///
/// It changes nothing. Where an up itself has changed what a cohort is to have, ten seconds pass before changes count again.
/// Kernel: cpuset.cpus.effective and cpuset.cpus.partition of the cohorts' sets; of others the CPUs that are online.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/cpuset/backend.hpp>
#include <cohort/group/state.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

struct seen_up {
    std::string name, phase;  ///< phase: phase_name()
    bool alive = false;
    double seconds = 0;       ///< since it began
};

struct seen_cohort {
    std::string up, name;
    std::string set;               ///< of the kernel's; empty: affinity keeps it
    cpumask planned, now;          ///< CPUs it was given; those its jobs may use now
    std::string partition;         ///< what its set's partition reads; empty: there is none to read
    bool broken = false;           ///< it was a partition, and is none now
    std::uint64_t left = 0, came = 0, breaks = 0;  ///< CPUs, CPUs, times; since the watch saw it first
    std::uint64_t pool_bytes = 0;  ///< of addresses; 0: no pool
};

struct seen_job {
    std::string up, cohort, name, kind, state;  ///< state: state_word()
    std::uint64_t bytes_in = 0, bytes_out = 0;
    std::size_t processes = 0;
    std::optional<double> cpu_seconds, forced_idle_seconds;  ///< of its processes that run; nothing: not known
};

/// Since the watch began; they stay when an up has gone.
struct watch_totals {
    std::uint64_t cpus_left = 0, cpus_came = 0, partitions_broken = 0, owners_killed = 0;
};

struct ups_seen {
    std::vector<seen_up> ups;
    std::vector<seen_cohort> cohorts;  ///< of ups that live and are up: while one starts or ends, its sets come and go
    std::vector<seen_job> jobs;        ///< of ups that live
    watch_totals totals;
    std::size_t unread = 0;            ///< files and folders that could not be read, or are no states
    std::vector<std::string> news;     ///< what has changed since the look before, for people
};

/// Synchronization: one thread at a time. os must outlive it.
class up_watch {
public:
    /// run_dirs: folders of states (run_directory()), of users who are trusted with what is shown.
    up_watch(sys::os& os, std::vector<std::string> run_dirs) : os_(os), run_dirs_(std::move(run_dirs)) {}

    /// Cost: a file for each up, two for each cohort with a set, two for each process of a job.
    ups_seen look();

private:
    struct memory {
        std::string plan;              // what it is to have; when that changes, what it has does, too, some time later
        std::uint64_t settled = 0;     // os.now() from which on changes count again
        std::optional<cpumask> had;    // at the look before
        std::string was_partition;     // "root" or "isolated" once it has read so
        bool broken = false;
        std::uint64_t left = 0, came = 0, breaks = 0;
    };
    void look_at(const up_state& s, ups_seen& out);
    seen_cohort look_at(const up_state& s, const up_cohort& c, const std::string& key, ups_seen& out);
    void follow_cpus(seen_cohort& c, memory& m, ups_seen& out);
    void follow_partition(seen_cohort& c, memory& m, ups_seen& out);
    void cannot_read(const error& e, ups_seen& out);

    sys::os& os_;
    const std::vector<std::string> run_dirs_;
    std::map<std::string, memory> known_;     // by owner and cohort
    std::set<std::string> alive_, unread_;    // owners that lived, and what could not be read, at the look before
    watch_totals totals_;
    // Of the look that is going on:
    std::map<std::string, memory> still_;
    std::set<std::string> still_alive_, still_unread_;
    std::shared_ptr<cpuset::backend> sets_;   // null: no cpusets here
    cpumask online_;
};

}  // namespace cohort::group
