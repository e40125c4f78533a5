// SPDX-License-Identifier: Apache-2.0
/// What an instance is made of; shells and multithreaded jobs look in here. Masks, stop and start: masks.cpp; following: follow.cpp.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include <cohort/base/mutex.hpp>
#include <cohort/machine/usable_events.hpp>
#include <cohort/padata/detail/atomic_mask.hpp>
#include <cohort/padata/detail/streams.hpp>
#include <cohort/padata/detail/turn_list.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/work/duty.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {

/// Synchronization: changing_ is held over a whole mask change, callbacks of changes() included; masks_lock_ for a few instructions, inside it. The masks that jobs
/// run by are read without either.
class instance::impl {
public:
    ~impl();
    result<void> start(instance_options options);
    result<void> set_cpumask(mask_kind kind, const cpumask& mask);

    /// The masks as they are published; allowed: what this process may use.
    struct published {
        mask_change masks;
        cpumask allowed;
        std::string follow_error;
    };
    published now() const;
    std::string why_stopped() const;

    const std::string& name() const { return name_; }
    work::worker_set& workers() { return *workers_; }
    /// Where jobs run: the usable mask; while that is empty the last one that was not.
    const detail::atomic_mask& usable(mask_kind kind) const { return kind == mask_kind::parallel ? parallel_ : serial_; }
    int possible_cpus() const { return possible_; }
    cpumask spread_over_nodes(int count);
    bool poll();
    /// "padata \"pencrypt\"", for errors.
    std::string object() const { return "padata \"" + name_ + "\""; }

    /// What a job's way looks at; 0: nothing special.
    enum flag : unsigned { is_stopped = 1, is_changing = 2, reports_sleepers = 4 };
    unsigned flags() const { return flags_.load(std::memory_order_relaxed); }
    [[gnu::cold]] std::unexpected<error> stopped_error() const;
    [[gnu::cold]] std::unexpected<error> busy_error() const;

    [[gnu::cold]] void tell_slept(const std::string& shell, const char* callback, std::uint64_t seq, std::uint64_t times) const;

    notifier::blocking_chain changes;
    std::unique_ptr<detail::streams> shells;  // [const after init]
    detail::turn_list turns;                  // streams whose serial() runs by_polling() and is due

private:
    result<void> check(mask_kind kind, const cpumask& mask) const;
    result<void> start_workers(const machine::usable_cpus& mine);
    // masks.cpp
    result<void> apply(const cpumask& parallel, const cpumask& serial, const cpumask& allowed, int most_workers) COHORT_REQUIRES(changing_);
    void publish(const mask_change& next, const cpumask& allowed);
    // follow.cpp
    result<void> start_following();
    void refresh();
    bool refresh_once() COHORT_REQUIRES(changing_);
    cpumask allowed_by(const machine::usable_cpus& now) const;
    int workers_by(const machine::usable_cpus& now, const cpumask& allowed) const;
    void look_for_stuck_heads() const;

    instance_options options_;                     // [const after init]
    std::string name_;                             // [const after init]
    int possible_ = 0;                             // [const after init] CPU numbers of this machine are below
    std::unique_ptr<work::worker_set> workers_;    // [const after init]
    detail::atomic_mask parallel_, serial_;        // [guarded for writing: changing_]
    std::atomic<unsigned> flags_{0};               // [atomic: written under changing_; orders nothing: a submit that meets a change may fall on either side]

    mutex changing_;
    bool serial_bound_ COHORT_GUARDED_BY(changing_) = false;  // a serial mask was asked for: its CPUs have workers of their own
    int most_workers_ COHORT_GUARDED_BY(changing_) = 0;       // what the worker set was told
    mutable mutex masks_lock_;
    published now_ COHORT_GUARDED_BY(masks_lock_);
    std::vector<cpumask> nodes_ COHORT_GUARDED_BY(masks_lock_);   // read when first asked for
    std::size_t next_node_ COHORT_GUARDED_BY(masks_lock_) = 0;    // where the next numa_aware job starts

    // following
    std::shared_ptr<machine::usable_events> live_;                // [const after init] keeps the running system watched
    machine::usable_events* source_ = nullptr;                    // [const after init] null: nothing is followed
    cpumask own_affinity_, first_affinity_;                       // [const after init] the creating thread's; the source's at that time
    std::unique_ptr<notifier::block> on_change_;                  // [const after init]
    std::unique_ptr<work::duty> watchdog_;                        // [const after init]
};

}  // namespace cohort::padata
