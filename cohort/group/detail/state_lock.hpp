// SPDX-License-Identifier: Apache-2.0
/// Who sweeps, or begins, does so alone: the folder of states is held meanwhile (sys::try_hold). The hold ends with the process.
#pragma once

#include <string>

#include <cohort/base/error.hpp>
#include <cohort/group/state.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {

class state_lock {
public:
    /// Waits a minute at most. Errors: EBUSY; ENOENT, there is no such folder; those of check_run_directory().
    static result<state_lock> take(sys::os& os, const std::string& run_dir);

private:
    explicit state_lock(sys::owned_fd fd) : fd_(std::move(fd)) {}
    sys::owned_fd fd_;
};

/// sweep(), for who has the lock.
sweep_report sweep_locked(sys::os& os, const std::string& run_dir);

}  // namespace cohort::group::detail
