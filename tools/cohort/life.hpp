// SPDX-License-Identifier: Apache-2.0
/// What is up, as its owner writes it down.
///
///     life mine(os, run_dir, std::move(*group::state_file::create(os, run_dir, state)));
///     run.about_to = mine.about_to();
///     run.prepared = [&](const auto& pools) { return mine.prepared(pools); };
///     mine.jobs(reports);
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/group/apply.hpp>
#include <cohort/group/difference.hpp>
#include <cohort/group/state.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::cli {

/// A resource: its destructor removes the file, unless something could not be undone. Synchronization: that of group::state_file; jobs() and prepared() by one thread.
class life {
public:
    life(sys::os& os, std::string run_dir, std::unique_ptr<group::state_file> file) : os_(os), run_dir_(std::move(run_dir)), file_(std::move(file)) {}
    life(const life&) = delete;
    life& operator=(const life&) = delete;
    ~life();

    group::about_to_make about_to();
    /// Where the owner and its jobs talk to from now on is named first. Errors: the log cannot be written.
    result<void> open_log(const std::optional<std::string>& asked);
    /// Pools and cookies are there; jobs are about to begin.
    result<void> prepared(const std::vector<group::pool_place>& pools);
    /// Whatever changes is written at once, save how many bytes have passed: that once a second.
    void jobs(const std::vector<group::job_report>& now);
    /// What is up is about to become `next`: whoever finds it half done undoes both.
    result<void> changing(const group::difference& d, const group::plan& next);
    /// It has become, or is again, what `stands` says, and what these steps made is no more.
    void stands(const group::plan& stands, const std::vector<std::string>& kept, const std::vector<group::step>& no_more);
    void now_from(const std::string& spec);
    void ending();
    /// Something could not be undone: it stays written down, for a sweep.
    void keep() { left_ = true; }
    group::up_state now() const { return file_->now(); }

private:
    sys::os& os_;
    const std::string run_dir_;
    std::unique_ptr<group::state_file> file_;
    sys::owned_fd log_;
    bool own_log_ = false, left_ = false;
    std::uint64_t next_figures_ = 0;
};

}  // namespace cohort::cli
