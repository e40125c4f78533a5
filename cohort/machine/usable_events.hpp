// SPDX-License-Identifier: Apache-2.0
/// What this process may use, as it changes: CPUs that go on- and offline, affinity, cpuset, cpu.max.
///
///     machine::synthetic_events cpus(cpumask::range(0, 3), nodemask{0});
///     machine::synthetic_usable may(cpus, cpumask::range(0, 7));          // online 0-3 of a machine that has 0-7
///     notifier::block watcher([](unsigned long, void* data) {
///         resize_to(static_cast<machine::usable_cpus*>(data)->cpus);
///         return notifier::ok;
///     });
///     may.chain().add(watcher);
///     cpus.cpu_offline(3);                                                // the watcher hears "0-2"
///
/// Kernel: no counterpart; in there cpuset hotplug, sched_setaffinity and CFS bandwidth each tell their own users.
#pragma once

#include <memory>

#include <cohort/base/mutex.hpp>
#include <cohort/machine/events.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/notifier/chain.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::machine {

/// Event of the chain; the data is a usable_cpus that is so now.
inline constexpr unsigned long usable_changed = 3;

/// Synchronization: any thread may call anything. Changes are delivered one at a time, in order; a callback may read now() but must not cause a change
/// (EDEADLK).
class usable_events {
public:
    virtual ~usable_events() = default;
    usable_events(const usable_events&) = delete;
    usable_events& operator=(const usable_events&) = delete;

    notifier::blocking_chain& chain() { return chain_; }
    usable_cpus now() const;

protected:
    explicit usable_events(usable_cpus first) : now_(std::move(first)) {}
    /// Makes `next`, called while no other change is under way, what is so, and calls the chain if it differs; whether it did. Errors: EDEADLK, those of `next`.
    template <class Next>
    result<bool> update(Next next);

private:
    notifier::blocking_chain chain_;
    mutex one_at_a_time_;                         // of changes, held while callbacks run
    mutable mutex lock_;
    usable_cpus now_ COHORT_GUARDED_BY(lock_);    // [guarded: lock_]
};

/// Driven by calls, for tests and machines that are not there: online CPUs are those of a synthetic_events, the rest is set here. Each call answers whether
/// anything changed. As in the kernel a part that leaves no CPU does not count: a cpuset without an online CPU is that of the machine, an affinity outside of
/// both is all that is left.
class synthetic_usable final : public usable_events {
public:
    /// cpus outlives it. possible: every CPU that the machine may ever have; affinity and cpuset begin as that.
    synthetic_usable(events& cpus, const cpumask& possible);
    ~synthetic_usable() override;

    result<bool> set_affinity(const cpumask& mask);
    result<bool> set_cpuset(const cpumask& mask);
    /// CPUs' worth of time; infinity: no limit. Errors: EINVAL, not above 0.
    result<bool> set_quota(double cpus);

private:
    struct parts {
        cpumask possible, online, affinity, cpuset;
        double quota = std::numeric_limits<double>::infinity();
    };
    static usable_cpus combine(const parts& p);
    template <class Edit>
    result<bool> edit(Edit how);

    events& source_;               // [const after init]
    parts parts_;                  // [guarded: one_at_a_time_ of the base, inside update()]
    notifier::block on_change_;
};

/// The running system, or a recorded one. It does not watch by itself: who owns a thread calls check() from time to time and whenever uevents() is readable.
class live_usable final : public usable_events {
public:
    /// os must outlive it. uevents: a descriptor of sys::open_uevents() or one like it, which it closes; -1: none. Errors: those of machine::usable().
    static result<std::unique_ptr<live_usable>> create(sys::os& os, int uevents = -1);
    /// Takes what stands in uevents(), asks, and delivers what changed; whether anything did. The affinity is the calling thread's. Errors: those of
    /// machine::usable(); nothing changed then.
    result<bool> check();
    /// To be waited for; -1: there is none, or it has ended, and only asking tells.
    int uevents() const { return uevents_.get(); }

private:
    live_usable(sys::os& os, usable_cpus first, int uevents) : usable_events(std::move(first)), os_(os), uevents_(os, uevents) {}
    sys::os& os_;            // [const after init]
    sys::owned_fd uevents_;  // [const after init]
};

}  // namespace cohort::machine
