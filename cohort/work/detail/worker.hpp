// SPDX-License-Identifier: Apache-2.0
/// One thread of a worker set. The set's protocol is in ../README.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include <cohort/sys/spinlock.hpp>
#include <cohort/work/runnable.hpp>

namespace cohort::work {

/// Fields without a mark belong to the thread itself.
struct worker {
    int cpu = 0;                            // [const after init]
    int tid = 0;                            // [const after init] the thread's number
    std::atomic<bool> general{false};       // [atomic: set_cpus writes, the thread looks before each batch]
    std::atomic<bool> choosing{false};      // [atomic: the thread is between its look at `general` and its claim; set_cpus waits for the end]
    std::atomic<std::uint32_t> token{0};    // [atomic: counts wake-ups, under the set's lock_; futex word of sleep()]
    bool parked = false;                    // [guarded: set's lock_] it sleeps, or is about to
    bool idle = false;                      // [guarded: set's lock_] it stands in idle_ and counts as parked
    bool back = false;                      // [guarded: set's lock_] it stands back for a lender
    std::atomic<std::uint64_t> lent{0};     // [atomic: ticks at which a thread last said that it runs work on this CPU; lowest bit: all that is listed]
    bool searching = false;                 // counts as searching; while parked [guarded: set's lock_]
    std::atomic<bool> has_mail{false};      // [atomic: mailbox not empty]
    sys::spinlock mail_lock;
    mail* mail_head COHORT_GUARDED_BY(mail_lock) = nullptr;
    mail* mail_tail COHORT_GUARDED_BY(mail_lock) = nullptr;
    std::atomic<std::uint32_t>* waits_on COHORT_GUARDED_BY(mail_lock) = nullptr;  // inside a job: mail must reach it there
    std::thread thread;
};

}  // namespace cohort::work
