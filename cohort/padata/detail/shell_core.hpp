// SPDX-License-Identifier: Apache-2.0
/// The engine of one stream: entering, running batches, draining in order. The order itself is the turnstile's.
#pragma once

#include <atomic>
#include <bit>
#include <limits>

#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/padata/detail/runner.hpp>
#include <cohort/padata/detail/turnstile.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/runnable.hpp>

namespace cohort::padata::detail {

static_assert(sizeof(job) <= 48, "a job and 16 bytes of its user's fit one cache line");

/// Reaches the private parts of a job; one place, so that job's header shows users nothing of the engine.
struct job_access {
    static shell_core*& shell(job& j) { return j.shell_; }
    static std::uint64_t& seq(job& j) { return j.seq_; }
    /// The next of the jobs that wait to enter; they have no place in the order yet, so it stands where that will.
    static job* next(const job& j) { return reinterpret_cast<job*>(j.seq_); }
    static void set_next(job& j, job* to) { j.seq_ = reinterpret_cast<std::uintptr_t>(to); }
    static std::exception_ptr& error(job& j) { return j.error_; }
    static int& cb_cpu(job& j) { return j.cb_cpu_; }
};

/// A counter that one thread at a time writes: no locked instruction. Orders nothing.
inline void bump(std::atomic<std::uint64_t>& counter) { counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }

/// The callbacks that this thread is inside of, innermost first. On the stack. What others see of it stands in the thread's runner.
struct frame {
    explicit frame(shell_core* s) : shell(s), outer(top) { top = this; }
    ~frame() { top = outer; }
    frame(const frame&) = delete;
    frame& operator=(const frame&) = delete;
    static bool inside(const shell_core* s) {
        for (const frame* f = top; f; f = f->outer) {
            if (f->shell == s) return true;
        }
        return false;
    }

    static inline constinit thread_local frame* top = nullptr;
    shell_core* shell;
    job* current = nullptr;  // whose parallel() runs
    bool done = false;       // current was completed in it, on this thread
    bool taken = false;      // the completion of current was taken
    frame* outer;
};

/// Synchronization: the ring's lock guards entering (late_*, bytes_in_). Whoever has the turn owns turn_*, bytes_out_ and first_exception_ until it passes the turn on.
/// Between pass and next use nothing of the shell is touched: the owner may have destroyed it.
class shell_core final : public work::runnable, public work::mail, public stream, public turn, public turn_link {
public:
    shell_core(instance::impl& inst, const shell_options& options);
    ~shell_core() override;

    result<void> do_parallel(job& j, int& cb_cpu);
    /// do_serial of a job whose parallel() is not running on this thread.
    void complete(job& j);
    bool poll();
    /// The caller has taken the turn out of the instance's list.
    void run_polled() { run_turn(); }
    result<void> drain();
    std::exception_ptr exception();
    void cancel();
    shell_stats stats() const override;
    std::uint64_t cancelled_before() const { return cancel_before_.load(std::memory_order_relaxed); }

private:
    static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();
    static constexpr int cpu_bits = std::bit_width(static_cast<unsigned>(max_cpus - 1));
    static constexpr std::uint32_t most_in_batch = 32;
    static constexpr std::uint32_t batch_ns = 32'000;     // a batch should take about so long, while enough waits
    static constexpr std::uint32_t inline_below_ns = 250; // cheaper than a hand-over to another CPU (measured 120-280 ns)
    static constexpr std::uint32_t inline_above_ns = 400; // and no longer inline from here on
    static constexpr std::uint32_t drain_batch = 64;               // completions before the turn is handed on

    // work::runnable, work::mail
    bool run(work::context& ctx) override;
    bool ready() const noexcept override { return ring_.ready(); }
    bool unfenced() const noexcept override { return ring_.biased(); }
    void deliver(work::context& ctx) override;
    void run_turn() override;

    /// Where the thread that drains may run serial().
    enum class place {
        by_cpu,        ///< as the job's cb_cpu and the mask say
        first_at_all,  ///< the first job wherever this is, the others by_cpu
        of_executor,   ///< this is where the executor, or whoever polls, runs a turn
    };

    // stream
    std::optional<head_state> head(const std::vector<runner::snapshot>& running) const override;
    bool waits_for_its_job(std::uint64_t head) const;
    const std::string& label() const override { return options_.name; }
    std::uint32_t window() const override { return ring_.window(); }
    struct sleep_watch;

    // entering
    int valid_cb_cpu(int asked) const;
    bool has_room(const job& j);
    void enter_locked(job& j);
    bool try_inline(job& j);
    void keep_late_locked(job& j);
    bool take_late_locked();
    void refill();
    std::uint64_t room_target() const;
    void wait_for_head(std::uint64_t target, bool help, bool poll = false);
    bool help_once();
    bool helps() const { return options_.when_full == full_policy::help || options_.when_full == full_policy::help_all; }
    work::lender as_lender() const;

    // running
    void run_batch(work::context& ctx, run_of_jobs r);
    /// Watched: with an eye on the debug mode. Jobs inside do_parallel are not run in that mode.
    template <bool Watched = true>
    void run_parallel(job& j, frame& f, int cpu);
    void learn(double ns_per_job, std::uint32_t jobs);

    // draining
    bool polled() const { return options_.serial == by_polling_; }
    void drain_from(work::context& ctx, run_of_jobs r, place where = place::by_cpu);
    bool run_serials(work::context& ctx, run_of_jobs& r, std::uint32_t& budget, place& where);
    void post_turn();
    void keep_exception();
    template <bool Watched = true>
    void run_serial(job& j);
    bool serial_here(const job& j, const work::context& ctx) const;
    void hand_over(run_of_jobs rest, int cpu);
    void wake_waiters();
    bool settle(std::uint64_t at, run_of_jobs& r);

    instance::impl& inst_;                             // [const after init]
    const shell_options options_;                      // [const after init]
    executor* const by_polling_;                       // [const after init] what by_polling() answers
    mutable turnstile<job> ring_;

    // entering
    job* late_head_ = nullptr;                         // [guarded: ring lock] jobs submitted from callbacks beyond the window
    job* late_tail_ = nullptr;                         // [guarded: ring lock]
    std::uint64_t late_count_ = 0;                     // [guarded: ring lock]
    std::uint64_t bytes_in_ = 0;                       // [guarded: ring lock]
    std::atomic<bool> any_late_{false};                // [atomic: hint for the drainer; settled under the ring lock]
    std::atomic<bool> inline_now_{false};              // [atomic: relaxed; learn() decides]
    std::uint32_t inline_sampler_ = 0;                 // [owner: the turn, in try_inline]
    std::atomic<std::uint64_t> inline_last_{none};     // [atomic: relaxed, for heads()] seq << cpu_bits | CPU of the last job run inside do_parallel
    std::atomic<std::uint64_t> cancel_before_{0};      // [atomic: jobs with a smaller seq are cancelled; orders nothing]
    std::atomic<std::uint32_t> job_ns_{0};             // [atomic: relaxed; moving average, 0 = not known]

    // draining
    alignas(64) run_of_jobs turn_{};                   // [owner: the turn] what is left to drain while the turn is in the mail
    std::atomic<bool> posted_{false};                  // [atomic: the turn sets it before it is posted, run_turn() clears it]
    std::atomic<std::uint64_t> bytes_out_{0};          // [atomic: the turn writes, submitters read under the ring lock]
    std::atomic<std::uint64_t> wake_at_{none};         // [atomic, seq_cst: smallest head that a waiter waits for]
    std::atomic<std::uint32_t> room_{0};               // [atomic: futex word of the waiters]
    std::exception_ptr first_exception_;               // [guarded: exception_lock_]
    bool exception_is_new_ = false;                    // [guarded: exception_lock_] no drain() has answered it yet
    mutable sys::spinlock exception_lock_;

    // [stats: relaxed; written by the turn, save waits_ and batches_]
    std::atomic<std::uint64_t> inlined_{0}, handovers_{0}, failed_{0}, waits_{0}, batches_{0};

};

// Both are on the path of a job that runs inline, a few nanoseconds in all: here, so that they are inlined.

/// The debug mode that tells of callbacks which slept.
struct shell_core::sleep_watch {
    sleep_watch(const shell_core& s, bool watched, const char* callback, std::uint64_t seq)
        : shell(s), name(callback), job(seq), on(watched && (s.inst_.flags() & instance::impl::reports_sleepers) != 0) {
        if (on) [[unlikely]] before = sys::thread_sleeps();
    }
    ~sleep_watch() {
        if (on) [[unlikely]] tell();
    }
    [[gnu::cold, gnu::noinline]] void tell() const {
        if (std::uint64_t times = sys::thread_sleeps() - before) shell.inst_.tell_slept(shell.shown_name(), name, job, times);
    }
    sleep_watch(const sleep_watch&) = delete;
    sleep_watch& operator=(const sleep_watch&) = delete;
    const shell_core& shell;
    const char* name;
    std::uint64_t job, before = 0;
    bool on;
};

template <bool Watched>
[[gnu::always_inline]] inline void shell_core::run_parallel(job& j, frame& f, int cpu) {
    f.current = &j;
    if (job_access::seq(j) < cancel_before_.load(std::memory_order_relaxed)) [[unlikely]] {
        j.info = -ECANCELED;
        f.done = true;
        return;
    }
    {
        const work::inside gated(inst_.workers().around(), cpu);
        const sleep_watch asleep(*this, Watched, "parallel", job_access::seq(j));
        try {
            j.parallel();
        } catch (...) {
            if (f.taken && !f.done) {
                keep_exception();  // somebody else completes the job, or has: it is not ours any more
            } else {
                job_access::error(j) = std::current_exception();
                j.info = -EIO;
                f.done = true;
            }
        }
    }
    f.current = nullptr;
}

template <bool Watched>
[[gnu::always_inline]] inline void shell_core::run_serial(job& j) {
    if (j.info != 0) [[unlikely]] bump(failed_);
    const sleep_watch asleep(*this, Watched, "serial", job_access::seq(j));
    try {
        j.serial();  // the job is gone
    } catch (...) {
        keep_exception();
    }
}

}  // namespace cohort::padata::detail
