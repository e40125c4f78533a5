// SPDX-License-Identifier: Apache-2.0
/// What changes in a live tree, and sets of version 1 that a hotplug shrank brought back.
///
///     live_watch watch(os);                                        // inotify on the sets, the kernel's messages about CPUs, and a look from time to time
///     watch.wait(1'000'000'000);
///     auto now = read_live(os)->what;
///     for (const live_change& c : changes_between(before, now)) say(c.line());   // web: cpuset.cpus.partition: "root" -> "root invalid (...)"
///     restorer memory(before);
///     memory.learn(now);
///     apply_steps(*tree, memory.steps(now));                       // version 1: CPUs that came back, and the threads that were moved away
///
/// Kernel: inotify on cpuset.cpus.partition; CPU hotplug of cgroup-v1/cpusets.rst, which forgets what a set had.
#pragma once

#include <map>
#include <set>

#include <cohort/cpuset/live.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::cpuset {

/// A file that reads otherwise; a set or CPUs that came or went have file "" and words in was or now.
struct live_change {
    std::string path, file, was, now;
    std::string line() const;
    bool operator==(const live_change&) const = default;
};
/// Sets that came or went, files, CPUs online ("." and file ""). Tasks are not compared.
std::vector<live_change> changes_between(const snapshot& before, const snapshot& now);

/// Wakes up when a tree may have changed. A resource. Synchronization: one thread at a time.
class live_watch {
public:
    explicit live_watch(sys::os& os);
    /// Watches these sets (the first 64 of them; a user has few inotify instances, others are seen at the next look).
    void follow(const live_mount& place, const snapshot& now);
    /// Until something happened, `extra` is readable (-1: none), or the time is over; whether something did. Errors: those of poll.
    result<bool> wait(std::uint64_t timeout_ns, int extra = -1);

private:
    sys::os& os_;
    sys::owned_fd uevents_;
    std::map<std::string, sys::dir_watch> watches_;
};

/// Remembers what sets of version 1 had before CPUs or nodes went. A value type.
class restorer {
public:
    explicit restorer(const snapshot& first) { learn(first); }
    /// What a set lost because it went offline is still its own; any other change is somebody's wish, and remembered. To be called between going and coming back: CPUs that did both
    /// since the last time look as if somebody had taken them.
    void learn(const snapshot& now);
    /// The writes that give back what is there again, parents first, and then threads that the kernel moved to a set above. None on version 2, which forgets nothing.
    std::vector<operation> steps(const snapshot& now) const;

private:
    template <class Mask>
    struct list {
        Mask wish, seen;  ///< what the set is to have; what it read last
        void learn(const Mask& reads, const Mask& there) {
            const bool hotplug = reads.subset_of(seen) && !(seen - reads).intersects(there);
            if (reads != seen && !hotplug) wish = reads;
            seen = reads;
        }
    };
    struct memory {
        list<cpumask> cpus;
        list<nodemask> mems;
        std::set<std::string> tasks;
    };
    std::map<std::string, memory> sets_;
};

}  // namespace cohort::cpuset
