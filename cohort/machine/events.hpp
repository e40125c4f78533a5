// SPDX-License-Identifier: Apache-2.0
/// CPUs and nodes that come and go, told through a notifier chain.
///
///     machine::synthetic_events events(topology.online, topology.node_numbers());
///     notifier::block watcher([](unsigned long e, void* data) {
///         auto& change = *static_cast<machine::change*>(data);
///         return e == machine::cpus_changed && change.online.empty() ? notifier::bad : notifier::ok;
///     });
///     events.chain().add(watcher);
///     events.cpu_offline(3);                                  // calls the watcher; live_events::check() does after asking the system
///
/// Kernel: the hotplug state machine (kernel/cpu.c), which here is somebody else: user space is told after the fact and cannot refuse.
#pragma once

#include <memory>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/notifier/chain.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::machine {

/// Events of the chain; the data is a change.
inline constexpr unsigned long cpus_changed = 1;
inline constexpr unsigned long nodes_changed = 2;

/// What is so now, and what is new about it.
struct change {
    cpumask online, came, went;                 ///< CPUs
    nodemask nodes, nodes_came, nodes_went;
};

/// What is online, and the chain that hears of changes. Answers of callbacks do not undo the event; one that stops keeps it from those after it.
/// Synchronization: any thread may call anything. Changes are delivered one at a time, in order; a callback may read online() but must not cause a change
/// (EDEADLK).
class events {
public:
    virtual ~events() = default;
    events(const events&) = delete;
    events& operator=(const events&) = delete;

    notifier::blocking_chain& chain() { return chain_; }
    cpumask online() const;
    nodemask nodes() const;

protected:
    events(const cpumask& online, const nodemask& nodes) : online_(online), nodes_(nodes) {}
    /// Publishes what is so now and calls the chain for what differs; whether anything did. Errors: EDEADLK; EINVAL, no CPU would be left.
    result<bool> publish(const cpumask& online, const nodemask& nodes);
    /// The same for a change relative to what is so when its turn comes.
    template <class Edit>
    result<bool> edit(Edit how);

private:
    result<bool> deliver(const cpumask& online, const nodemask& nodes) COHORT_REQUIRES(one_at_a_time_);

    notifier::blocking_chain chain_;
    mutable mutex one_at_a_time_;                      // of changes, held while callbacks run
    mutable mutex lock_;
    cpumask online_ COHORT_GUARDED_BY(lock_);          // [guarded: lock_]
    nodemask nodes_ COHORT_GUARDED_BY(lock_);          // [guarded: lock_]
};

/// Driven by calls: for tests and machines that are not there. Each answers whether anything changed.
class synthetic_events final : public events {
public:
    synthetic_events(const cpumask& online, const nodemask& nodes) : events(online, nodes) {}
    result<bool> cpu_online(int cpu);
    result<bool> cpu_offline(int cpu);
    result<bool> node_online(int node);
    result<bool> node_offline(int node);
    result<bool> set(const cpumask& online, const nodemask& nodes) { return publish(online, nodes); }
};

/// The running system, or a recorded one. It does not watch by itself: who owns a thread calls check() from time to time.
class live_events final : public events {
public:
    /// os must outlive it. Errors: the file of online CPUs cannot be read.
    static result<std::unique_ptr<live_events>> create(sys::os& os);
    /// Reads what is online and delivers what changed since the last time; whether anything did. Errors: those of reading; nothing changed then.
    result<bool> check();

private:
    live_events(sys::os& os, const cpumask& online, const nodemask& nodes) : events(online, nodes), os_(os) {}
    sys::os& os_;  // [const after init]
};

}  // namespace cohort::machine
