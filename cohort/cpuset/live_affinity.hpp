// SPDX-License-Identifier: Apache-2.0
/// A tree of cpusets without privilege: the model computes what each set has, and the threads of one process are held to it by their affinities and memory policies.
///
///     auto tree = cpuset::affinity_backend::create(os, machine).value();     // of this process; .pid = 4711: of another
///     tree->create("a");
///     tree->write("a", "cpuset.cpus", "0-1");
///     tree->attach("a", os.getpid());                                        // all its threads, those that they start meanwhile too
///     tree->write("a", "cpuset.cpus", "0-3");                                // widens: each thread gets back what it had of 2-3
///     for (auto& l : tree->advisory()) say(l.what + ": " + l.why);
///
/// Kernel: cpuset's own filtering of sched_setaffinity and of memory policies, done here from outside. Difference: it acts when it is called (any change, or enforce()), not at every
/// system call of a thread.
#pragma once

#include <map>

#include <cohort/cpuset/backend.hpp>
#include <cohort/cpuset/detail/pressure.hpp>
#include <cohort/cpuset/model.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::cpuset {

/// What such a tree can only note. own_process: its threads are the caller's.
std::vector<limitation> affinity_limits(bool own_process);

struct affinity_options {
    int pid = 0;                      ///< whose threads; 0: this process's
    kernel profile = kernel::v6_12;   ///< by whose rules the tree behaves
};

class affinity_backend final : public backend {
public:
    /// CPUs of the machine that are not online are offline in the tree, too. os must outlive it. Errors: ESRCH, there is no such process.
    static result<std::unique_ptr<affinity_backend>> create(sys::os& os, const machine::topology& machine, affinity_options o = {});
    /// Each thread gets back the mask that it had, or has asked for since; as far as that works.
    ~affinity_backend() override;

    std::string name() const override;
    bool v1() const override { return false; }
    result<void> create(const std::string& path) override;
    result<void> remove(const std::string& path) override;
    result<void> write(const std::string& path, const std::string& file, const std::string& text) override;
    result<std::string> read(const std::string& path, const std::string& file) override;
    /// Only this backend's process and its threads. Errors: also EPERM, a thread of somebody else.
    result<void> attach(const std::string& path, int pid, whom who = whom::process) override;
    result<void> controller(const std::string& path, bool on) override;
    result<bool> hands_on(const std::string& path) override;
    result<std::vector<int>> tasks(const std::string& path) override;
    result<std::vector<int>> threads(const std::string& path) override;
    result<std::string> home(int pid) override;
    result<std::vector<int>> threads_of(int pid) override { return sys::threads_of_process(os_, pid); }
    result<std::vector<std::string>> children(const std::string& path) override;
    bool may_write(const std::string&, const std::string&) override { return true; }
    /// A substitute: major page faults of the set's threads, seen at enforce(), any change, and here.
    result<pressure> memory_pressure(const std::string& path) override;
    std::vector<limitation> advisory() const override { return affinity_limits(own_process_); }

    /// Looks at all threads again and again until no new one appears, and sets those masks that are not as they should be. A thread whose mask somebody has set since has asked for
    /// that mask: it is kept in mind, and intersected. A clone() that was under way while its caller was narrowed can still bring a thread with the old mask after the last look (the
    /// kernel copies the mask before it shows the thread): whoever holds a process that starts threads calls this from time to time. Errors: EPERM, EINVAL of the first thread that could not be set (the others are); EAGAIN, threads come faster than they are set.
    result<void> enforce();
    /// CPUs that are online now: the tree follows as on a hotplug. Then enforces.
    result<void> set_online(const cpumask& online);
    /// The policy of a range of this process's memory: the nodes of the set that the calling thread is in; pages move. Errors: those of mbind.
    result<void> bind_memory(void* address, std::size_t bytes);

private:
    struct thread_state {
        std::string path;    // its set
        cpumask own;         // what it had, or has asked for
        cpumask given;       // what we gave it
        std::int64_t faults = 0;  // major ones so far
        bool counted = false;     // what it had before we knew it is no event of ours
    };
    affinity_backend(sys::os& os, const machine::topology& machine, int pid, affinity_options o);
    answer ask(const operation& op) { return model_.perform(op); }
    result<void> change(const operation& op, const std::string& act);
    result<cpumask> effective(const std::string& path);
    result<bool> scan(std::optional<error>& first_fault);
    thread_state newcomer(const cpumask& has, const std::map<int, thread_state>& among) const;
    result<void> place(int tid, thread_state& t, const cpumask& has);
    void forget(int tid);
    result<void> enforce_nodes();
    void count_faults();

    sys::os& os_;                          // [const after init]
    const int pid_;                        // [const after init]
    const bool own_process_;               // [const after init]
    model model_;
    cpumask online_;
    nodemask all_nodes_, nodes_;           // of the machine; those that the process was held to last
    std::string process_set_;              // of threads that nobody has attached by themselves
    std::map<int, thread_state> known_;
    std::map<std::string, bool> handed_;   // sets whose controller was switched
    std::uint64_t changes_ = 0;            // masks set
    std::map<std::string, detail::pressure_meter> meters_;  // by set
    std::optional<sys::mempolicy> own_policy_;  // of the calling thread, before
};

}  // namespace cohort::cpuset
