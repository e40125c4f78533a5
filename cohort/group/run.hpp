// SPDX-License-Identifier: Apache-2.0
/// Runs the jobs of a plan, those of all cohorts at the same time, each on its cohort's CPUs, and says what became of them.
///
///     run_options o;
///     o.stop = catcher.token();                                       // SIGINT ends the children and removes what is unfinished
///     o.watch = [](const std::vector<job_report>& now) { draw(now); };
///     run_report r = run_jobs(plan, os, o);                           // after applied::apply (apply.hpp)
///     if (!r.ok()) print(report_text(plan, r));
///
/// A job starts once all it waits for have succeeded. An output gets its name only when its job has succeeded and its check has said
/// yes; until then it is a temporary file beside it, and it is gone when anything goes wrong. When a job fails, jobs that wait for it
/// are skipped; the others go on (on_failure = "continue") or are stopped (on_failure = "stop").
///
/// Kernel: none.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/coresched/executor.hpp>
#include <cohort/coresched/verbs.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/stream/pipe.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

enum class job_state {
    waiting,   // for another job
    running,
    checking,  // its verify command runs
    ok,
    failed,
    refused,   // it ran, and verify said no
    skipped,   // a job it waits for did not succeed
    stopped,   // by a signal, or because another job failed
};
/// "waits", "was refused by its check" ...: for people.
const char* state_name(job_state s);
/// "waiting", "refused" ...: for programs.
const char* state_word(job_state s);
constexpr bool ended(job_state s) { return s >= job_state::ok; }

/// What a flow's processes did beside bytes.
struct flow_figures {
    std::uint64_t producer_waits = 0, workers_wait = 0, consumer_waits = 0;  // times they slept: for room, for room, for work
    std::uint64_t records = 0, results = 0;
    std::uint64_t left = 0;             // objects in the pool that were freed after its processes had ended
};

/// Seconds of CPU time that were seen, by where. A sample: at each look (ten times a second, less often where looking takes more than a fiftieth of the time) what a thread has used since the look before counts
/// for the CPU on which it ran last. What descendants of a job's processes used after the last look at them, and a pipe's commands, is not seen: it is missing from both.
struct cpu_places {
    double inside = 0, outside = 0;  // of the job's CPUs
};

/// One job, while it runs and after.
struct job_report {
    std::string name, cohort;
    bool pipe = false;                  // a pipe or a flow
    std::optional<flow_figures> flow;   // a flow's
    job_state state = job_state::waiting;
    cpumask cpus;                       // allowed, by affinity
    int threads = 0;                    // workers of a pipe, instances of an exec
    std::uint64_t bytes_in = 0, bytes_out = 0;
    std::optional<std::uint64_t> bytes_total;  // of the input, where it is known beforehand
    std::uint64_t blocks = 0, ordered = 0;     // jobs through padata; completions seen in order
    std::string control;                // of a pipe, while it runs: its control directory
    std::uint64_t window = 0, window_bytes = 0, waits = 0;  // of a pipe: blocks and bytes in flight at most; times its reader waited for room
    std::optional<stream::block_latency> latency;  // of a pipe that ended well
    std::string stuck;                  // of a pipe: the block that held all others up for 10 seconds or more, the last of them
    double started = 0, seconds = 0;    // since the run began; of the work without the check
    double cpu_seconds = 0;             // of the job's processes; of a pipe: its reader, blocks and commands
    bool cpu_known = false;
    std::optional<cpu_places> cpu_seen; // unset: none was (no /proc, or it ended before the first look)
    std::optional<std::uint64_t> remote_peak;  // bytes of its processes' memory on nodes that are not its cohort's (without a list of those: its CPUs'), at most, as seen every half a second or less often. Unset: not
                                               // looked at: the machine has one node, its processes ended too soon, or it is a pipe, whose memory is this process's
    std::vector<std::uint64_t> queues;  // as queue_names() calls them, now; empty: it does not run, or has none
    std::vector<int> threads_here;      // of this process, that work for it now: a pipe's reader and workers
    std::vector<int> pids;              // of its processes that run
    std::vector<sys::exit_status> ends; // of an exec's instances that ended by themselves
    std::optional<bool> verified;       // unset: nothing was asked or the job did not come so far
    double verify_seconds = 0;
    std::string output;
    std::vector<std::string> outputs;   // files that it writes, of all instances
    std::vector<std::string> exits;     // of an exec: how each instance ended
    int restarts = 0;                   // of an exec: times that instances were started again
    std::optional<error> why;           // of failed, refused, skipped, stopped

    /// Bytes of the larger side: what a person calls the size of the work.
    double work_bytes() const { return static_cast<double>(std::max(bytes_in, bytes_out)); }
};

/// What stands between the parts of a job: of a pipe its blocks in flight; of a flow its records in the queue to the workers, in their hands, and in the queue to the consumer. None of an exec.
/// kind: "pipe", "flow", "exec".
std::vector<const char*> queue_names(std::string_view kind);
std::vector<const char*> queue_names(const job_report& j);

/// How far each job was at a moment of the run, at most 1,024 of them, evenly over it.
struct run_sample {
    struct job {
        job_state state = job_state::waiting;
        std::uint64_t bytes_in = 0, bytes_out = 0;
        std::vector<std::uint64_t> queues = {};  // as job_report's
    };
    double seconds = 0;       // since the run began
    std::vector<job> jobs;    // in the order of the plan
    std::map<std::string, std::uint64_t> pools = {};  // bytes of memory that each has, by cohort
};

/// Of the CPU time that was seen, the part outside of the job's CPUs: "3.4 %"; unknown: empty.
std::string outside_text(const job_report& j);

/// What the blocks of a cohort's pipes took.
struct memory_report {
    std::string cohort;
    std::uint64_t limit = 0, peak = 0;  // bytes; limit 0: none was set
};

/// A cohort's pool.
struct pool_report {
    std::string cohort;
    std::uint64_t bytes = 0, limit = 0; // of addresses; of memory, 0: none
    std::uint64_t peak = 0;             // bytes of memory at most, as seen ten times a second
    std::uint64_t freed = 0;            // objects of processes that were gone at the end
    std::uint64_t left = 0;             // objects that outlived the jobs, and
    std::uint64_t left_bytes = 0;       // the memory that it still had
    std::uint64_t lost = 0;             // objects of which nothing is known: none
};

struct run_report {
    std::vector<job_report> jobs;  // in the order of the plan
    std::vector<job_report> replaced;  // of changes: jobs that ended, or began anew, for one, as they ended; oldest first
    std::vector<run_sample> samples;  // at most 1,024; of long runs further apart
    std::vector<memory_report> memory;  // of each cohort that has a pipe
    std::vector<pool_report> pools;     // of each cohort that has one
    std::optional<coresched::executor_report> executor;  // where pipes passed its gate; a tenant is named as its cohort
    double seconds = 0;
    std::vector<error> lost;         // what was promised and did not hold to the end: applied::broken_partitions()
    std::vector<error> undo_errors;

    bool ok() const;
    /// The error that decides the program's exit code: the first failed job's; a check that said no has EBADMSG and counts only when no
    /// job failed. Unset when all is well.
    std::optional<error> first_error() const;
    bool only_refused() const;  // every job that did not succeed was refused by its check, or skipped for that reason
};

/// Where a cohort's pool is.
struct pool_place {
    std::string cohort;
    int id = 0;
    std::string socket;
    bool own = false;  // the broker runs here, and ends with us
    std::uint64_t bytes = 0;
};

/// Another plan for a run that goes on (difference.hpp). What it leaves as it is goes on; the rest ends before `exchange`, and what is new begins after it.
struct run_change {
    std::shared_ptr<const plan> next;
    std::vector<std::string> kept;           ///< cohorts that go on, whole components of both plans
    std::function<result<void>()> exchange;  ///< sets and names, from those of one plan to those of the other. An error: they are as before
    std::function<result<void>()> back;      ///< what was to begin could not: exchange is to be undone
    /// Called when it is done, or undone: what had ended began anew then. `stands`: the plan that is carried out now; null: none is. ECANCELED: the run has ended, or is about to.
    std::function<void(const result<void>&, const std::shared_ptr<const plan>& stands)> done;
};

/// Where a run is asked to become another. Synchronization: any thread may ask; one run takes.
class run_changes {
public:
    /// done() is called in any case: by the run's thread, or here when there is no run, or another change is under way (EBUSY).
    void ask(run_change c);

    /// For the run: what to call when something was asked; nothing: it takes no more.
    void serve(std::function<void()> wake);
    std::optional<run_change> take();

private:
    std::mutex mutex_;
    std::function<void()> wake_;       // [guarded: mutex_]
    std::optional<run_change> asked_;  // [guarded: mutex_]
};

struct run_options {
    std::stop_token stop;
    /// Null: it stays what it is.
    run_changes* changes = nullptr;
    /// Called by the thread that called run_jobs, at every change and at least every `interval`.
    std::function<void(const std::vector<job_report>&)> watch;
    std::uint64_t interval_ns = 100'000'000;
    /// How long a child has between SIGTERM and SIGKILL.
    std::uint64_t patience_ns = 3'000'000'000;
    /// What runs a pipe job; tests put another in its place.
    std::function<result<stream::pipe_report>(const stream::pipe_options&, sys::os&)> pipe_engine = stream::run_pipe;
    /// The program of a flow's processes, which hands the words after these to stream::flow_stage().
    std::vector<std::string> flow_program = {"/proc/self/exe", "flow-stage"};
    /// Who carries out the verbs where the plan says that the kernel keeps a cookie; null: the kernel.
    coresched::verbs* core_scheduling = nullptr;
    /// The environment of every process has it, so that it can be found when we are gone; NAME=value, empty: nothing.
    std::string mark;
    /// Hears the name of an output's temporary file before there is one. Any thread.
    std::function<void(const std::string& name)> about_to;
    /// Called when cookies and pools are there and no job has begun; after a change, again. An error: nothing begins.
    std::function<result<void>(const std::vector<pool_place>&)> prepared;
    /// Commands without files of their own have this process's descriptors 0, 1 and 2, and stay in its process group: a terminal's keys reach them.
    bool foreground = false;
    /// Cookies and pools stay until stop is asked for, even when all jobs have ended.
    bool stay = false;
};

/// Returns once every job has ended and every child is reaped. Expects a plan that holds.
run_report run_jobs(const plan& p, sys::os& os, const run_options& options);

/// The report as people read it.
std::string report_text(const plan& p, const run_report& r);
/// The same as JSON, with schema_version 1.
std::string report_json(const plan& p, const run_report& r, int exit_code);
/// As a trace for Perfetto (JSON trace events).
std::string report_trace(const plan& p, const run_report& r);

}  // namespace cohort::group
