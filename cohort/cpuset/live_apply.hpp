// SPDX-License-Identifier: Apache-2.0
/// Several operations on a live tree, in their order, whole or not at all.
///
///     std::vector<operation> steps{*parse_operation("mkdir a"), *parse_operation("write a cpuset.cpus 2-3"),
///                                  *parse_operation("write a cpuset.cpus.partition isolated"), *parse_operation("attach a 4711")};
///     cpuset::apply_report r = cpuset::apply_steps(*tree, steps);
///     if (!r.ok()) say(r.failure->line());    // cpuset "a": write cpuset.cpus.partition "isolated": EINVAL: it reads "isolated invalid (...)"
///     r.not_undone;                           // empty: the tree is as before
///
/// Kernel: none; each of its writes stands alone, and one of cpuset.cpus.partition succeeds whatever comes of it.
#pragma once

#include <optional>
#include <span>

#include <cohort/cpuset/backend.hpp>
#include <cohort/cpuset/operation.hpp>

namespace cohort::cpuset {

struct apply_options {
    /// A partition that a step leaves invalid, or that becomes invalid anywhere by these steps, is a failure.
    bool partitions_must_hold = true;
};

struct apply_report {
    struct step {
        std::string text;           ///< the operation's line
        bool done = false;
        std::string reads;          ///< after a write of cpuset.cpus.partition: what it reads
    };
    std::vector<step> steps;        ///< as many as were begun
    std::optional<error> failure;   ///< of the last of them; all before it were undone
    bool by_rules = false;          ///< the failure is the kernel's answer to this tree, not a lack of permission or of the set
    std::size_t undone = 0;
    std::vector<error> not_undone;  ///< what could not be brought back: say it to the user

    bool ok() const { return !failure; }
};

/// Operations: mkdir, rmdir, write, attach (TASK: the number of a process, or of a thread as "thread:NUMBER"), controller; others are refused (EINVAL) before anything is done.
/// Every step's undo is taken from the tree before the step. A set that is removed comes back with its lists, flags and partition. Cost: two files a write to a set that
/// these steps have made, up to five of another one, and one walk over all sets before, and over those that were there before after.
apply_report apply_steps(backend& tree, std::span<const operation> steps, apply_options o = {});

/// One of those operations that itself puts something back: there is no undo of it, and no look at other sets. A partition should be made a member before it is removed (old kernels give its CPUs
/// back late). Cost: one call. Errors: EINVAL, another operation; the kernel's.
result<void> put_back(backend& tree, const operation& op);

/// The steps that make every set above `path` hand cpuset on; none on version 1. Errors: those of reading.
result<std::vector<operation>> hand_on_above(backend& tree, const std::string& path);

}  // namespace cohort::cpuset
