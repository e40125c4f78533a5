// SPDX-License-Identifier: Apache-2.0
// What a run's report says of itself: its words, and whether all is well.
#include <algorithm>

#include <cohort/group/run.hpp>

namespace cohort::group {

const char* state_word(job_state s) {
    constexpr const char* words[] = {"waiting", "running", "checking", "ok", "failed", "refused", "skipped", "stopped"};
    return words[static_cast<int>(s)];
}

const char* state_name(job_state s) {
    switch (s) {
        case job_state::waiting: return "waits";
        case job_state::running: return "runs";
        case job_state::checking: return "is checked";
        case job_state::ok: return "ok";
        case job_state::failed: return "failed";
        case job_state::refused: return "was refused by its check";
        case job_state::skipped: return "was skipped";
        case job_state::stopped: return "was stopped";
    }
    return "";
}

std::vector<const char*> queue_names(std::string_view kind) {
    if (kind == "flow") return {"for the workers", "with the workers", "for the consumer"};
    if (kind == "pipe") return {"in flight"};
    return {};
}
std::vector<const char*> queue_names(const job_report& j) { return queue_names(j.flow ? "flow" : j.pipe ? "pipe" : "exec"); }

bool run_report::ok() const {
    return lost.empty() && undo_errors.empty() && std::all_of(jobs.begin(), jobs.end(), [](const job_report& j) { return j.state == job_state::ok; });
}

std::optional<error> run_report::first_error() const {
    for (job_state s : {job_state::failed, job_state::stopped, job_state::refused}) {
        for (const job_report& j : jobs) {
            if (j.state != s || !j.why) continue;
            error e = *j.why;
            e.object = "job \"" + j.name + "\": " + e.object;
            return e;
        }
    }
    if (!lost.empty()) return lost.front();
    return undo_errors.empty() ? std::nullopt : std::optional(undo_errors.front());
}

bool run_report::only_refused() const {
    return lost.empty() && undo_errors.empty() &&
           std::any_of(jobs.begin(), jobs.end(), [](const job_report& j) { return j.state == job_state::refused; }) &&
           std::none_of(jobs.begin(), jobs.end(), [](const job_report& j) { return j.state == job_state::failed; });
}

}  // namespace cohort::group
