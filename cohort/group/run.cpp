// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/run.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include <cohort/coresched/control.hpp>
#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/detail/cookies.hpp>
#include <cohort/group/detail/job.hpp>
#include <cohort/group/detail/pools.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace {

/// Runs a plan's jobs. Each job has a thread of its own that waits for its processes or lends itself to its pipe; the caller's thread
/// starts jobs and reports.
///
/// Synchronization: one caller. `mutex_` guards the reports; job threads change them through update() only, and tell by `changed_`.
class scheduler {
public:
    scheduler(const plan& p, sys::os& os, const run_options& options)
        : plan_(p), os_(os), options_(options), kernel_(os), accounts_(static_cast<int>(p.cohorts.size()) + 1), hold_(os, p.machine.cpusets ? p.machine.cpusets->machine : no_machine) {}

    run_report run() {
        start_ = os_.now();
        prepare();
        auto ends = os_.pipe();
        if (!ends) return cannot_start(ends.error());
        stop_read_ = sys::owned_fd(os_, ends->read);
        stop_write_ = sys::owned_fd(os_, ends->write);
        auto cookies = detail::cookies::create(plan_, options_.core_scheduling ? *options_.core_scheduling : kernel_);
        if (!cookies) return cannot_start(cookies.error());
        cookies_ = std::move(*cookies);
        auto made = detail::pools::create(plan_, os_);
        if (!made) return cannot_start(made.error());
        pools_ = std::move(*made);
        if (options_.prepared) {
            if (auto ready = options_.prepared(pools_.places()); !ready) return cannot_start(ready.error());
        }
        // Closing the write end makes every poller of the read end see a hang-up, however many there are.
        std::stop_callback all_stop(stop_.get_token(), [this] {
            (void)stop_write_.close();
            {
                const std::lock_guard guard(mutex_);
                dirty_ = true;
            }
            changed_.notify_one();
        });
        std::stop_callback asked(options_.stop, [this] { stop_.request_stop(); });
        loop();
        for (std::thread& t : threads_) t.join();
        run_report out;
        out.jobs = reports_;
        out.samples = std::move(samples_);
        for (const cohort_plan& c : plan_.cohorts) {
            const bool has_pipe = std::any_of(reports_.begin(), reports_.end(), [&](const job_report& r) { return r.pipe && !r.flow && r.cohort == c.name; });
            if (has_pipe) out.memory.push_back({c.name, c.memory, payers_.at(c.name).stats()->peak});
        }
        out.pools = pools_.report();
        out.executor = cookies_->report();
        out.seconds = since_start();
        return out;
    }

private:
    void prepare() {
        for (const cohort_plan& c : plan_.cohorts) cohorts_[c.name] = &c;
        for (const cohort_plan& c : plan_.cohorts) (void)payer_of(c);
        for (const job_plan& j : plan_.jobs) {
            job_report r;
            r.name = j.spec.name;
            r.cohort = j.spec.cohort;
            r.pipe = j.spec.streams();
            if (j.spec.kind == job_spec::form::flow) r.flow.emplace();
            r.cpus = j.cpus;
            r.threads = j.threads;
            r.output = r.pipe ? j.spec.pipe.output : j.spec.exec.stdout_file;
            index_[j.spec.name] = reports_.size();
            reports_.push_back(std::move(r));
        }
    }

    /// Its group of the accounts, within that of the cohort it is inside of.
    account::group payer_of(const cohort_plan& c) {
        if (const auto it = payers_.find(c.name); it != payers_.end()) return it->second;
        const account::group above = c.inside.empty() ? accounts_->root() : payer_of(*cohorts_.at(c.inside));
        // Names are labels of 31 bytes at most there.
        return payers_[c.name] = accounts_->create(above, c.name.substr(0, 31), c.memory > 0 ? c.memory : account::unlimited).value();
    }

    run_report cannot_start(const error& why) {
        for (job_report& r : reports_) {
            r.state = job_state::failed;
            r.why = why;
        }
        return {.jobs = reports_, .samples = {}, .memory = {}, .pools = {}, .executor = {}, .seconds = since_start(), .lost = {}, .undo_errors = {}};
    }

    void loop() {
        std::unique_lock lock(mutex_);
        for (;;) {
            while (advance(lock)) {}
            const bool all = std::all_of(reports_.begin(), reports_.end(), [](const job_report& r) { return ended(r.state); });
            sample(all);
            if (options_.watch) {
                const std::vector<job_report> now = reports_;
                lock.unlock();
                options_.watch(now);
                lock.lock();
            }
            if (all && (!options_.stay || stop_.stop_requested())) return;
            lock.unlock();
            hold_.look();
            lock.lock();
            const auto something_new = [this] { return std::exchange(dirty_, false); };
            if (all) changed_.wait(lock, something_new);  // nothing moves any more until we are stopped
            else changed_.wait_for(lock, std::chrono::nanoseconds(options_.interval_ns), something_new);
        }
    }

    /// Called with the lock held. all: every job has ended.
    void sample(bool all) {
        if (samples_.size() >= most_samples) {
            for (std::size_t i = 0; i < samples_.size() / 2; ++i) samples_[i] = std::move(samples_[2 * i]);
            samples_.resize(samples_.size() / 2);
            sample_every_ *= 2;
        }
        const double now = since_start();
        if (!all && !samples_.empty() && now - samples_.back().seconds < sample_every_) return;
        run_sample& s = samples_.emplace_back();
        s.seconds = now;
        for (const job_report& r : reports_) s.jobs.push_back({r.state, r.bytes_in, r.bytes_out});
    }

    /// Starts, skips or stops waiting jobs; true when something changed, as that may decide about others. Called with the lock held.
    bool advance(std::unique_lock<std::mutex>& lock) {
        bool moved = false;
        for (std::size_t i = 0; i < reports_.size(); ++i) {
            job_report& r = reports_[i];
            const bool bad = r.state == job_state::failed || r.state == job_state::refused;
            if (bad && plan_.stop_on_failure && !stop_.stop_requested()) {
                lock.unlock();
                stop_.request_stop();
                lock.lock();
                moved = true;
            }
            if (r.state != job_state::waiting) continue;
            if (stop_.stop_requested()) {
                r.state = job_state::stopped;
                r.why = error{ECANCELED, "job \"" + r.name + "\"", "start", "the run was stopped"};
                moved = true;
                continue;
            }
            moved = decide(i) || moved;
        }
        return moved;
    }

    /// What becomes of a waiting job. Called with the lock held.
    bool decide(std::size_t i) {
        job_report& r = reports_[i];
        for (const std::string& name : plan_.jobs[i].spec.after) {
            const job_report& before = reports_[index_.at(name)];
            if (!ended(before.state)) return false;
            if (before.state != job_state::ok) {
                r.state = job_state::skipped;
                r.why = error{ECANCELED, "job \"" + r.name + "\"", "start", "job \"" + name + "\" was to come before and " + state_name(before.state)};
                return true;
            }
        }
        r.state = job_state::running;
        r.started = since_start();
        threads_.emplace_back([this, i] {
            const std::string& cohort = plan_.jobs[i].spec.cohort;
            const auto update = [this, i](const std::function<void(job_report&)>& change) { change_report(i, change); };
            // Before anything of the job is started: what it starts inherits the cookie.
            if (const auto taken = cookies_->take(cohort); !taken) {
                return update([&](job_report& mine) {
                    mine.state = job_state::failed;
                    mine.why = taken.error();
                });
            }
            detail::run_job(plan_.jobs[i], {os_, options_, stop_.get_token(), *cohorts_.at(cohort), cookies_->gate_of(cohort), hold_, pools_.of(*cohorts_.at(cohort)), payers_.at(cohort), stop_read_.get(), update});
        });
        return true;
    }

    void change_report(std::size_t i, const std::function<void(job_report&)>& change) {
        {
            const std::lock_guard guard(mutex_);
            const job_state was = reports_[i].state;
            change(reports_[i]);
            if (reports_[i].state != was) dirty_ = true;
            if (!dirty_) return;
        }
        changed_.notify_one();
    }

    double since_start() const { return static_cast<double>(os_.now() - start_) / 1e9; }

    const plan& plan_;
    sys::os& os_;
    const run_options& options_;
    coresched::control kernel_;
    std::unique_ptr<detail::cookies> cookies_;           // [const once jobs run]
    detail::pools pools_;                                // [const once jobs run]
    account::local_table accounts_;                      // what cohorts hold of memory
    std::map<std::string_view, const cohort_plan*> cohorts_;  // [const after prepare()]
    inline static const machine::topology no_machine = {};
    detail::holder hold_;
    std::map<std::string_view, account::group> payers_;  // [const after prepare()] by cohort
    std::uint64_t start_ = 0;
    std::map<std::string_view, std::size_t> index_;  // [const after prepare()]
    std::stop_source stop_;
    sys::owned_fd stop_read_, stop_write_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<job_report> reports_;  // [guarded: mutex_]
    bool dirty_ = false;               // [guarded: mutex_]
    static constexpr std::size_t most_samples = 1024;
    std::vector<run_sample> samples_;  // [the caller's]
    double sample_every_ = 0.05;       // [the caller's] seconds
    std::vector<std::thread> threads_;  // [the caller's]
};

}  // namespace

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

run_report run_jobs(const plan& p, sys::os& os, const run_options& options) { return scheduler(p, os, options).run(); }

}  // namespace cohort::group
