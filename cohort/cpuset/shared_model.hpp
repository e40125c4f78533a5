// SPDX-License-Identifier: Apache-2.0
/// A model that many threads use, with the locks of the kernel around it: a reader-writer lock over the tree, and inside it a small one for the masks that others may look at.
///
///     auto machine = shared_model::create(model(topology)).value();        // std::unique_ptr: locks stay where they are
///     machine->perform(*parse_operation("write a cpuset.cpus 2-3"));       // alone with the tree
///     machine->task_masks("t1")->cpus;                                     // what its set allows it: the small lock only
///     machine->read([](const model& m) { return m.paths(); });             // many at a time; no write goes on meanwhile
///     do { before = machine->mems_begin("t1"); place(machine->task_masks("t1")->mems); } while (machine->mems_changed("t1", before));
///
/// Kernel: cpuset_mutex (a percpu_rw_semaphore, cpuset_rwsem, from 5.4 to 6.4) and callback_lock, kernel/cgroup/cpuset.c. Differences: a hotplug holds the tree over all sets, the
/// kernel lets go of it between them; the masks of all sets are published together, then those of tasks set by set.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/mutex.hpp>
#include <cohort/cpuset/model.hpp>
#include <cohort/percpu/rwsem.hpp>

namespace cohort::cpuset {

/// Synchronization: any thread may call anything, save from within read() of the same object.
///
///     tree_ (rwsem)          alone: the model changes           shared: the model is looked at
///       └ published_lock_    to publish, inside of tree_        to look at published masks, without tree_
///
/// A mask may be read under either lock, and is written under both: whoever holds tree_, shared or alone, sees no write; whoever holds published_lock_ sees whole masks, of before or
/// after, while the next ones are being computed. Under published_lock_ nothing is allocated, freed or waited for: what is new was made before it is taken, what is old dies after.
///
///   a write:  tree_ alone ─> model performs ─> differences are collected, and room for them made
///             ─> published_lock_: masks of sets ─> for each set whose nodes are new: published_lock_: it is being rebound, its tasks' masks; ++seq of each whose nodes are new
///             ─> the other tasks ─> nobody is being rebound ─> tree_ is let go
class shared_model {
public:
    struct masks {
        cpumask cpus;   ///< of a set: the effective ones; of a task: those that it may ask for
        nodemask mems;
        bool operator==(const masks&) const = default;
    };

    /// Errors: those of percpu::rwsem::create().
    static result<std::unique_ptr<shared_model>> create(model m);

    /// Operations that only look share the tree. Cost: those of the model; for one that changes something, all sets and tasks are compared with what is published.
    answer perform(const operation& op);

    /// f(const model&), with the tree held and no write going on.
    template <class F>
    auto read(F f) const {
        const std::shared_lock hold(*tree_);
        return f(static_cast<const model&>(model_));
    }
    /// For callers that hold the tree over several looks; perform() and read() wait for themselves then. Kernel: cpuset_read_lock().
    void lock_shared() const noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { tree_->lock_shared(); }
    void unlock_shared() const noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { tree_->unlock_shared(); }
    /// Keeps all changes away; for looks at what is published. Kernel: cpuset_lock().
    void lock() const noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { tree_->lock(); }
    void unlock() const noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS { tree_->unlock(); }

    /// As published. Errors: ENOENT, no such set (one without a cpuset has none); ESRCH, no such task.
    result<masks> set_masks(std::string_view path) const COHORT_EXCLUDES(published_lock_);
    result<masks> task_masks(std::string_view task) const COHORT_EXCLUDES(published_lock_);
    /// The set of a task: its path, "." the root.
    result<std::string> home(std::string_view task) const COHORT_EXCLUDES(published_lock_);
    /// The nodes of the nearest set at or above the task's that is mem_exclusive or mem_hardwall; the root's at last.
    result<nodemask> hardwall_mems(std::string_view task) const COHORT_EXCLUDES(published_lock_);
    /// Whether the task's set has new nodes that its tasks do not all have yet.
    bool being_rebound(std::string_view task) const COHORT_EXCLUDES(published_lock_);

    /// Whether there is a set besides the root.
    bool any_set() const COHORT_EXCLUDES(published_lock_);
    /// CPUs of isolated partitions.
    cpumask isolated() const COHORT_EXCLUDES(published_lock_);

    /// How often the task's nodes have changed; 0 for one that is not there.
    unsigned mems_begin(std::string_view task) const COHORT_EXCLUDES(published_lock_);
    bool mems_changed(std::string_view task, unsigned before) const { return mems_begin(task) != before; }
    /// Makes the sched domains anew. Kernel: rebuild_sched_domains().
    void rebuild_domains();

private:
    struct set_entry {
        masks now;
        std::string above;      // the path of its parent; the root's own
        bool hardwall = false;
    };
    struct task_entry {
        masks now;
        std::string home;
        unsigned seq = 0;
    };
    template <class Entry>
    using table = std::map<std::string, Entry, std::less<>>;

    shared_model(model m, std::unique_ptr<percpu::rwsem> tree);
    void publish() COHORT_EXCLUDES(published_lock_);
    template <class Entry>
    void replace(table<Entry>& in, table<Entry>& fresh, const std::vector<std::string>& gone) COHORT_REQUIRES(published_lock_);

    const std::unique_ptr<percpu::rwsem> tree_;   // [const after init]
    model model_;                                 // [guarded: tree_]
    mutable mutex published_lock_;
    table<set_entry> sets_ COHORT_GUARDED_BY(published_lock_);    // [guarded: written under both locks, read under either]
    table<task_entry> tasks_ COHORT_GUARDED_BY(published_lock_);  // [guarded: as sets_]
    cpumask isolated_ COHORT_GUARDED_BY(published_lock_);         // [guarded: as sets_]
    const std::string* rebound_ COHORT_GUARDED_BY(published_lock_) = nullptr;  // [guarded: published_lock_] the set that is being rebound
};

}  // namespace cohort::cpuset
