// SPDX-License-Identifier: Apache-2.0
/// What is up becomes what an edited spec says: its owner is asked, over a socket named after it, and does only the difference.
///
///     changer hears(os, up, mine, changes, run_dir, plan, true);     // the owner
///     if (auto r = hears.listen(); !r) ...
///     return change_running(os, state, {.text = text, ...}, json);    // somebody else: `cohort up --detach`, `cohort plan --against-running`
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include <cohort/group/apply.hpp>
#include <cohort/group/run.hpp>
#include <cohort/group/state.hpp>

#include "command.hpp"
#include "life.hpp"

namespace cohort::cli {

struct change_request {
    std::string text, file;   ///< the spec, and what faults call it
    std::string origin;       ///< its path, absolute, or "-"
    std::string directory;    ///< where its relative paths start
    std::map<std::string, std::optional<std::string>> environment;  ///< what it asks of the environment
    bool bare = false;        ///< without its cohorts (group::without_cohorts())
    bool only_look = false;   ///< say what would be done
};

/// The owner's side. Synchronization: it owns a thread that hears one after the other; changes are carried out by the run's thread.
class changer {
public:
    /// All of these outlive it. may_change: else looking is all that others may.
    changer(sys::os& os, group::applied& up, life& mine, group::run_changes& run, std::string run_dir, const group::plan& first, bool may_change);
    changer(const changer&) = delete;
    changer& operator=(const changer&) = delete;
    ~changer();

    /// Errors: those of listening.
    result<void> listen();
    /// What is carried out now.
    std::shared_ptr<const group::plan> now() const;

private:
    void serve();
    nlohmann::ordered_json answer(const change_request& asked);
    nlohmann::ordered_json carry_out(const std::shared_ptr<const group::plan>& next, const group::difference& d, const std::string& origin);

    sys::os& os_;
    group::applied& up_;
    life& life_;
    group::run_changes& run_;
    const std::string run_dir_;
    const bool may_change_;
    mutable std::mutex mutex_;
    std::shared_ptr<const group::plan> now_;  // [guarded: mutex_]
    sys::owned_fd listener_;
    std::thread thread_;
};

/// Asks the owner of `s`, and tells what it says. The exit code is what `up` has. Nothing: the owner has ended, and did not say that it did anything. Errors: the owner cannot be reached.
std::optional<outcome> change_running(sys::os& os, const group::up_state& s, const change_request& request, bool json);

/// A spec as a request: read here, with this environment. Errors: those of reading it.
result<change_request> request_of(sys::os& os, const std::string& path);

}  // namespace cohort::cli
