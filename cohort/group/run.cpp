// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/run.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <map>
#include <mutex>
#include <thread>

#include <cohort/coresched/control.hpp>
#include <cohort/group/detail/job.hpp>
#include <cohort/group/detail/part.hpp>
#include <cohort/group/detail/usage.hpp>
#include <cohort/group/difference.hpp>

namespace cohort::group {
namespace {

/// Runs a plan's jobs. Each job has a thread of its own that waits for its processes or lends itself to its pipe; the caller's thread
/// starts jobs, reports, and carries changes out.
///
/// Synchronization: one caller. `mutex_` guards the reports and who is there; job threads change their own report through change_report() only, and tell by `changed_`.
class scheduler {
public:
    scheduler(const plan& p, sys::os& os, const run_options& options) : plan_(&p, [](const plan*) {}), os_(os), options_(options), kernel_(os), hold_(os), use_(os) {}

    run_report run() {
        start_ = os_.now();
        if (auto begun = begin(*plan_, {}); !begun) return cannot_start(begun.error());
        std::stop_callback asked(options_.stop, [this] { stop_all(); });
        if (options_.changes) options_.changes->serve([this] { wake(); });
        loop();
        if (options_.changes) options_.changes->serve({});
        for (const auto& s : slots_) join(*s);
        note_use();
        return report();
    }

private:
    /// A job, and where it runs.
    struct slot {
        std::shared_ptr<detail::part> in;
        const job_plan* job;
        job_report report;   // [guarded: mutex_]
        std::thread thread;  // [the caller's]
        std::size_t use;     // its number in use_
    };

    /// Makes the parts of a plan whose cohorts are not in `kept`, and puts the jobs of all in its order. Nothing has changed when it fails.
    result<void> begin(const plan& p, const std::vector<std::string>& kept) {
        std::vector<std::shared_ptr<detail::part>> parts;
        std::vector<pool_place> places;
        for (const std::vector<std::string>& cohorts : components(p)) {
            if (std::ranges::find(kept, cohorts.front()) != kept.end()) {
                parts.push_back(part_with(cohorts.front()));
                continue;
            }
            auto made = detail::part::create(part_of(p, cohorts), {os_, options_.core_scheduling ? *options_.core_scheduling : kernel_, broker_});
            if (!made) return std::unexpected(made.error());
            for (pool_place& place : (*made)->pools().places()) places.push_back(std::move(place));
            parts.push_back(std::move(*made));
        }
        if (options_.prepared) {
            if (auto ready = options_.prepared(places); !ready) return ready;
        }
        std::map<std::string_view, std::shared_ptr<slot>> slots;
        for (const auto& one : parts) {
            for (const job_plan& j : one->what().jobs) {
                const auto old = std::ranges::find_if(slots_, [&](const auto& s) { return s->in == one && s->job == &j; });
                slots[j.spec.name] = old == slots_.end() ? std::make_shared<slot>(one, &j, report_of(j), std::thread(), use_.add(detail::own_of(p.machine, one->what(), j))) : *old;
            }
        }
        const std::lock_guard guard(mutex_);
        parts_ = std::move(parts);
        slots_.clear();
        for (const job_plan& j : p.jobs) slots_.push_back(slots.at(j.spec.name));
        return {};
    }

    static job_report report_of(const job_plan& j) {
        job_report r;
        r.name = j.spec.name;
        r.cohort = j.spec.cohort;
        r.pipe = j.spec.streams();
        if (j.spec.kind == job_spec::form::flow) r.flow.emplace();
        r.cpus = j.cpus;
        r.threads = j.threads;
        r.output = r.pipe ? j.spec.pipe.output : j.spec.exec.stdout_file;
        return r;
    }

    const std::shared_ptr<detail::part>& part_with(const std::string& cohort) const {
        return *std::ranges::find_if(parts_, [&](const auto& one) { return std::ranges::find(one->what().cohorts, cohort, &cohort_plan::name) != one->what().cohorts.end(); });
    }

    run_report cannot_start(const error& why) {
        run_report out;
        for (const job_plan& j : plan_->jobs) {
            out.jobs.push_back(report_of(j));
            out.jobs.back().state = job_state::failed;
            out.jobs.back().why = why;
        }
        out.seconds = since_start();
        return out;
    }

    run_report report() {
        run_report out;
        for (const auto& s : slots_) out.jobs.push_back(s->report);
        out.replaced = std::move(replaced_);
        out.samples = std::move(samples_);
        for (const cohort_plan& c : plan_->cohorts) {
            const bool has_pipe = std::ranges::any_of(out.jobs, [&](const job_report& r) { return r.pipe && !r.flow && r.cohort == c.name; });
            if (has_pipe) out.memory.push_back({c.name, c.memory, part_with(c.name)->payer(c.name).stats()->peak});
        }
        for (const auto& one : parts_) {
            for (pool_report& r : one->pools().report()) out.pools.push_back(std::move(r));
            if (auto r = one->cookies().report()) out.executor = std::move(r);
        }
        out.seconds = since_start();
        return out;
    }

    void wake() {
        {
            const std::lock_guard guard(mutex_);
            dirty_ = true;
        }
        changed_.notify_one();
    }

    /// Whoever hears a stop may change a report: no lock is held.
    void stop_all() {
        std::vector<std::shared_ptr<detail::part>> parts;
        {
            const std::lock_guard guard(mutex_);
            stopped_ = true;
            parts = parts_;
        }
        for (const auto& one : parts) one->stop();
        wake();
    }

    void loop() {
        std::unique_lock lock(mutex_);
        for (;;) {
            lock.unlock();
            while (auto asked = options_.changes ? options_.changes->take() : std::nullopt) {
                if (options_.stop.stop_requested()) asked->done(fail(ECANCELED, "run", "change", "it was stopped"), plan_);
                else carry_out(*asked);
            }
            lock.lock();
            while (advance(lock)) {}
            const bool all = std::ranges::all_of(slots_, [](const auto& s) { return ended(s->report.state); });
            sample(all);
            if (options_.watch) {
                std::vector<job_report> now;
                for (const auto& s : slots_) now.push_back(s->report);
                lock.unlock();
                options_.watch(now);
                lock.lock();
            }
            if (all && (!options_.stay || stopped_)) return;
            lock.unlock();
            hold_.look();
            use_.look();
            lock.lock();
            note_use();
            const auto something_new = [this] { return std::exchange(dirty_, false); };
            if (all) changed_.wait(lock, something_new);  // nothing moves any more until we are stopped, or changed
            else changed_.wait_for(lock, std::chrono::nanoseconds(options_.interval_ns), something_new);
        }
    }

    /// Called with the lock held, or when no job runs any more.
    void note_use() {
        for (const auto& s : slots_) {
            detail::usage::figures seen = use_.of(s->use);
            s->report.cpu_seen = seen.cpu, s->report.remote_peak = seen.remote_peak, s->report.threads_here = std::move(seen.threads);
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
        for (const auto& one : parts_) one->pools().sample(s.pools);
        for (const auto& one : slots_) {
            job_report& r = one->report;
            if (r.pipe && !r.flow) {
                const auto blocks = use_.in_flight(one->use);
                r.queues = blocks ? std::vector<std::uint64_t>{*blocks} : std::vector<std::uint64_t>{};
            }
            s.jobs.push_back({r.state, r.bytes_in, r.bytes_out, r.queues});
        }
    }

    /// Starts, skips or stops waiting jobs; true when something changed, as that may decide about others. Called with the lock held.
    bool advance(std::unique_lock<std::mutex>& lock) {
        bool moved = false;
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            slot& s = *slots_[i];
            const bool bad = s.report.state == job_state::failed || s.report.state == job_state::refused;
            if (bad && s.in->what().stop_on_failure && !s.in->stopping()) {
                const std::shared_ptr<detail::part> part = s.in;
                lock.unlock();
                part->stop();
                lock.lock();
                moved = true;
            }
            if (s.report.state != job_state::waiting) continue;
            if (stopped_ || s.in->stopping()) {
                not_begun(s, "the run was stopped");
                moved = true;
                continue;
            }
            moved = decide(s) || moved;
        }
        return moved;
    }

    static void not_begun(slot& s, const char* why) {
        s.report.state = job_state::stopped;
        s.report.why = error{ECANCELED, "job \"" + s.report.name + "\"", "start", why};
    }

    /// What becomes of a waiting job. Called with the lock held.
    bool decide(slot& s) {
        for (const std::string& name : s.job->spec.after) {
            const job_report& before = (*std::ranges::find_if(slots_, [&](const auto& o) { return o->report.name == name; }))->report;
            if (!ended(before.state)) return false;
            if (before.state != job_state::ok) {
                s.report.state = job_state::skipped;
                s.report.why = error{ECANCELED, "job \"" + s.report.name + "\"", "start", "job \"" + name + "\" was to come before and " + state_name(before.state)};
                return true;
            }
        }
        s.report.state = job_state::running;
        s.report.started = since_start();
        s.thread = std::thread([this, &s] {
            const std::string& cohort = s.job->spec.cohort;
            const auto update = [this, &s](const std::function<void(job_report&)>& change) { change_report(s, change); };
            // Before anything of the job is started: what it starts inherits the cookie.
            if (const auto taken = s.in->cookies().take(cohort); !taken) {
                return update([&](job_report& mine) {
                    mine.state = job_state::failed;
                    mine.why = taken.error();
                });
            }
            const cohort_plan& c = s.in->cohort(cohort);
            detail::run_job(*s.job, {os_, options_, s.in->stop_token(), s.in->what(), c, s.in->cookies().gate_of(cohort), hold_, use_, s.use, s.in->pools().of(c), s.in->payer(cohort), s.in->stop_fd(), update});
        });
        return true;
    }

    void change_report(slot& s, const std::function<void(job_report&)>& change) {
        {
            const std::lock_guard guard(mutex_);
            const job_state was = s.report.state;
            change(s.report);
            if (s.report.state != was) dirty_ = true;
            if (!dirty_) return;
        }
        changed_.notify_one();
    }

    void carry_out(const run_change& c) {
        const std::shared_ptr<const plan> before = plan_;
        end_all_but(c.kept);
        result<void> done = c.exchange();
        if (done) {
            done = begin(*c.next, c.kept);
            if (done) plan_ = c.next;
            else if (auto back = c.back(); !back) done.error().reason += "; and it is not as before: " + back.error().line();
        }
        if (!done) {
            // What has ended for nothing begins anew; where even that cannot be, the rest goes on without it.
            if (auto again = begin(*before, c.kept); !again) {
                done.error().reason += "; and what had ended for it does not begin anew: " + again.error().line();
                plan_ = std::make_shared<const plan>(part_of(*before, c.kept));
            }
        }
        adapt_samples(*before);
        c.done(done, plan_);
    }

    void end_all_but(const std::vector<std::string>& kept) {
        const auto stays = [&](const std::string& cohort) { return std::ranges::find(kept, cohort) != kept.end(); };
        for (const auto& one : parts_) {
            if (!stays(one->what().cohorts.front().name)) one->stop();
        }
        for (const auto& s : slots_) {
            if (!stays(s->job->spec.cohort)) join(*s);
        }
        std::vector<std::shared_ptr<detail::part>> gone;  // destroyed without the lock
        const std::lock_guard guard(mutex_);
        for (const auto& s : slots_) {
            if (stays(s->job->spec.cohort)) continue;
            if (!ended(s->report.state)) not_begun(*s, "the spec was changed");
            use_.forget(s->use);
            replaced_.push_back(s->report);
        }
        std::erase_if(slots_, [&](const auto& s) { return !stays(s->job->spec.cohort); });
        std::ranges::copy_if(parts_, std::back_inserter(gone), [&](const auto& one) { return !stays(one->what().cohorts.front().name); });
        std::erase_if(parts_, [&](const auto& one) { return !stays(one->what().cohorts.front().name); });
    }

    /// Samples are in the order of the plan: jobs that are in both keep theirs.
    void adapt_samples(const plan& before) {
        for (run_sample& s : samples_) {
            std::vector<run_sample::job> now(plan_->jobs.size());
            for (std::size_t i = 0; i < now.size(); ++i) {
                const auto was = std::ranges::find_if(before.jobs, [&](const job_plan& j) { return j.spec.name == plan_->jobs[i].spec.name; });
                if (was != before.jobs.end()) now[i] = s.jobs[static_cast<std::size_t>(was - before.jobs.begin())];
            }
            s.jobs = std::move(now);
        }
    }

    static void join(slot& s) {
        if (s.thread.joinable()) s.thread.join();
    }

    double since_start() const { return static_cast<double>(os_.now() - start_) / 1e9; }

    std::shared_ptr<const plan> plan_;                   // [the caller's]
    sys::os& os_;
    const run_options& options_;
    coresched::control kernel_;
    detail::holder hold_;
    detail::usage use_;
    std::weak_ptr<detail::pool_host> broker_;            // [the caller's]
    std::uint64_t start_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::shared_ptr<detail::part>> parts_;   // [guarded: mutex_; the caller's thread changes it]
    std::vector<std::shared_ptr<slot>> slots_;           // [as parts_] in the order of the plan
    bool stopped_ = false;             // [guarded: mutex_]
    bool dirty_ = false;               // [guarded: mutex_]
    static constexpr std::size_t most_samples = 1024;
    std::vector<run_sample> samples_;  // [the caller's]
    std::vector<job_report> replaced_; // [the caller's]
    double sample_every_ = 0.05;       // [the caller's] seconds
};

}  // namespace

void run_changes::ask(run_change c) {
    result<void> no;
    {
        const std::lock_guard guard(mutex_);
        if (wake_ && !asked_) {
            asked_ = std::move(c);
            return wake_();
        }
        no = wake_ ? fail(EBUSY, "run", "change", "another change is under way") : fail(ECANCELED, "run", "change", "it has ended");
    }
    c.done(no, nullptr);
}

void run_changes::serve(std::function<void()> wake) {
    std::optional<run_change> left;
    {
        const std::lock_guard guard(mutex_);
        wake_ = std::move(wake);
        if (!wake_) left = std::exchange(asked_, std::nullopt);
    }
    if (left) left->done(fail(ECANCELED, "run", "change", "it has ended"), nullptr);
}

std::optional<run_change> run_changes::take() {
    const std::lock_guard guard(mutex_);
    return std::exchange(asked_, std::nullopt);
}

run_report run_jobs(const plan& p, sys::os& os, const run_options& options) { return scheduler(p, os, options).run(); }

}  // namespace cohort::group
