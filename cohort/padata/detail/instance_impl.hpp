// SPDX-License-Identifier: Apache-2.0
/// What an instance is made of; shells and multithreaded jobs look in here.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include <cohort/padata/detail/atomic_mask.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {

/// Synchronization: masks_lock_ is held over a whole mask change; the usable masks are read without it.
class instance::impl {
public:
    result<void> start(instance_options options);
    result<void> set_cpumask(mask_kind kind, const cpumask& mask);
    cpumask user_mask(mask_kind kind) const;

    const std::string& name() const { return name_; }
    work::worker_set& workers() { return *workers_; }
    const detail::atomic_mask& usable(mask_kind kind) const { return kind == mask_kind::parallel ? parallel_ : serial_; }
    int possible_cpus() const { return possible_; }
    cpumask spread_over_nodes(int count);
    /// "padata \"pencrypt\"", for errors.
    std::string object() const { return "padata \"" + name_ + "\""; }

    std::atomic<int> shells{0};  // [atomic: shells count themselves; the destructor looks]

private:
    result<void> check(mask_kind kind, const cpumask& mask) const;

    std::string name_;                             // [const after init]
    cpumask allowed_;                              // [const after init] what this process may use
    int possible_ = 0;                             // [const after init] CPU numbers of this machine are below
    std::unique_ptr<work::worker_set> workers_;    // [const after init]
    detail::atomic_mask parallel_, serial_;        // [guarded for writing: masks_lock_]
    mutable std::mutex masks_lock_;
    cpumask user_parallel_, user_serial_;          // [guarded: masks_lock_]
    std::vector<cpumask> nodes_;                   // [guarded: masks_lock_] read when first asked for
    std::size_t next_node_ = 0;                    // [guarded: masks_lock_] where the next numa_aware job starts
};

}  // namespace cohort::padata
