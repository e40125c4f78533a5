// SPDX-License-Identifier: Apache-2.0
/// The steps of a plan up to its jobs, each done with its undo: all of them, or none.
///
///     auto up = applied::apply(plan, os, run_directory(os));
///     if (!up) for (const error& e : up.error()) print(e.line());   // whatever had been done is undone
///     run_jobs(plan, os, ...);                                       // run.hpp
///     for (const error& e : up->undo()) print(e.line());             // in the reverse order; the destructor does it too
///
/// Kernel: none.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/cpuset/backend.hpp>
#include <cohort/group/detail/owner.hpp>
#include <cohort/group/difference.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

/// Hears the name of a file before it is made; it may be gone again soon.
using about_to_make = std::function<void(const std::string& name)>;

/// A resource: what it did is undone, last first, by undo() or its destructor. Move-only. One thread at a time.
class applied {
public:
    /// Does the steps in order and stops at the first that changes something and fails; checks are all made, so that every missing
    /// command and every unwritable output is told in one run. Cpusets come last, when nothing else is in the way, whole or not at all. Errors: EBUSY, a cohort of that name is up; ENOENT, EACCES, EISDIR ...
    /// of commands, inputs and outputs; those of cpuset::apply_steps. `run_dir` is where names are taken; it is made when it is missing, and stays.
    static std::expected<applied, std::vector<error>> apply(const plan& p, sys::os& os, const std::string& run_dir, const about_to_make& about_to = {});

    /// From what is done to what `to` says (difference.hpp): its undo, then its steps. An error: everything is as before, or the error says what is not. `next`: the plan of these steps; checks are not made.
    result<void> change(const difference& to, const plan& next, const std::string& run_dir);

    /// The checks among these steps: what is missing or cannot be written. Any thread.
    static std::vector<error> check(const std::vector<step>& steps, sys::os& os, const about_to_make& about_to = {});

    applied(applied&&) noexcept = default;
    applied& operator=(applied&&) = delete;
    ~applied();

    /// Partitions that are none any more: a hotplug or somebody else's write has made them invalid. Asked before undo().
    std::vector<error> broken_partitions(const plan& p) const;

    /// Undoes everything; what could not be undone is told and left. A set is waited for as long as what the jobs have left behind is ending, 3 seconds at most. A second call does
    /// nothing.
    std::vector<error> undo();

private:
    explicit applied(sys::os& os) : os_(&os) {}
    using undo_list = std::vector<std::function<result<void>()>>;
    /// A step that was done, and its undo, from the last on.
    struct deed {
        step what;
        undo_list undo;
    };
    /// Steps that change something, whole or not at all.
    std::vector<error> perform(const std::vector<step>& steps, const plan& p, const std::string& run_dir);
    result<undo_list> claim(const step& s, const std::string& run_dir);
    result<undo_list> make_directory(const step& s);
    std::vector<error> change_cpusets(const std::vector<step>& steps, const plan& p);
    std::vector<error> undo_from(std::size_t first);

    sys::os* os_;
    std::optional<owner> me_;                // set with the first name that is taken
    std::shared_ptr<cpuset::backend> sets_;  // null: no sets are made
    std::vector<deed> done_;
};

/// Where the names of cohorts that are up stand: $COHORT_RUN_DIR, $XDG_RUNTIME_DIR/cohort, or /tmp/cohort-$USER.
std::string run_directory(sys::os& os);
/// Makes it where it is missing, for its user alone. Errors: those of mkdir, and of:
result<void> make_run_directory(sys::os& os, const std::string& dir);
/// Whether what is noted there may be believed. Errors: EACCES, it is another user's, or anybody may write there; ENOENT.
result<void> check_run_directory(sys::os& os, const std::string& dir);

/// The program that execve would find, absolute; a word with '/' is taken as it is. Errors: ENOENT, not in PATH; EACCES, not a
/// program; EISDIR.
result<std::string> find_command(sys::os& os, const std::string& word);

}  // namespace cohort::group
