// SPDX-License-Identifier: Apache-2.0
/// One way to change a tree of cpusets, whatever carries it: a cgroup hierarchy of version 2 or 1, or affinities alone.
///
///     auto tree = cpuset::open_cgroup(os, *cpuset::find_mount(os));             // result<std::unique_ptr<backend>>
///     (*tree)->create("a");
///     (*tree)->write("a", "cpuset.cpus", "2-3");
///     (*tree)->attach("a", 4711);
///     for (auto& l : (*tree)->advisory()) say(l.what + ": " + l.why);           // what it can only note, not enforce
///
/// Several steps that are done whole or not at all: live_apply.hpp. Kernel: kernel/cgroup/cpuset.c through its files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/cpuset/live_mount.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::cpuset {

/// Something that a backend keeps in its books but that nothing enforces.
struct limitation {
    std::string what, why;
};

enum class whom { process, thread };

/// Memory pressure: 1000 for one event a second, with a half-life of 10 seconds, 1,000,000 at most.
struct pressure {
    std::int64_t value = 0;
    std::string substitute = {};  ///< what stands in for the kernel's meter, in words; empty: it is the kernel's
};

/// Paths are from the top, "" being the top; files have the kernel's names. Synchronization: one thread at a time.
/// Errors of all: object = cpuset "PATH", act = the write, reason = what a person can act on. What a write has made of a partition is read back by the caller.
class backend {
public:
    virtual ~backend() = default;

    /// "cgroup v2 at /sys/fs/cgroup".
    virtual std::string name() const = 0;
    virtual bool v1() const = 0;

    virtual result<void> create(const std::string& path) = 0;
    virtual result<void> remove(const std::string& path) = 0;
    virtual result<void> write(const std::string& path, const std::string& file, const std::string& text) = 0;
    virtual result<std::string> read(const std::string& path, const std::string& file) = 0;
    /// A process with all its threads, or one thread.
    virtual result<void> attach(const std::string& path, int pid, whom who = whom::process) = 0;
    /// Hands cpuset on to the sets below, or no longer. EOPNOTSUPP where there is no such thing.
    virtual result<void> controller(const std::string& path, bool on) = 0;
    virtual result<bool> hands_on(const std::string& path) = 0;

    /// Processes whose first thread is in this set, ascending.
    virtual result<std::vector<int>> tasks(const std::string& path) = 0;
    virtual result<std::vector<int>> threads(const std::string& path) = 0;
    /// The set of a process or thread. Errors: ESRCH.
    virtual result<std::string> home(int pid) = 0;
    virtual result<std::vector<int>> threads_of(int pid) = 0;
    /// Names of the sets directly below, sorted.
    virtual result<std::vector<std::string>> children(const std::string& path) = 0;
    /// Whether this user may write the file: tells a lack of permission from a refusal by the kernel's rules.
    virtual bool may_write(const std::string& path, const std::string& file) = 0;
    /// Errors: EOPNOTSUPP, there is no meter, nor anything that could stand in for it; ENODATA, the kernel's is switched off (cpuset.memory_pressure_enabled).
    virtual result<pressure> memory_pressure(const std::string& path) = 0;
    virtual std::vector<limitation> advisory() const { return {}; }
};

/// The hierarchy that is mounted. os must outlive it. Errors: EOPNOTSUPP, none is; the reason tells what is there.
result<std::unique_ptr<backend>> open_cgroup(sys::os& os, const live_mount& place);

}  // namespace cohort::cpuset
