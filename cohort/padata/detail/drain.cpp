// SPDX-License-Identifier: Apache-2.0
/// Running batches and draining in order; the second half of shell_core.
#include <algorithm>
#include <mutex>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/padata/detail/shell_core.hpp>
#include <cohort/padata/detail/trace_points.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::padata::detail {

// ---- running

bool shell_core::run(work::context& ctx) {
    std::uint32_t ns = job_ns_.load(std::memory_order_relaxed);
    std::uint32_t most = ns == 0 ? 1 : std::clamp<std::uint32_t>(batch_ns / ns, 1, most_in_batch);
    // Where there are streams enough for everybody, each worker takes what waits of one; the workers left over share this one.
    auto sharers = static_cast<std::uint32_t>(std::max(inst_.workers().general_workers() - (inst_.workers().listed() - 1), 1));
    run_of_jobs r = ring_.claim(most, sharers);
    if (r.count == 0) return false;
    batches_.fetch_add(1, std::memory_order_relaxed);
    trace::claim(r.first, r.count, ctx.cpu);
    ring_.prefetch(r);
    ctx.found(*this);
    run_batch(ctx, r);
    return true;
}

/// Runs claimed jobs one after another and finishes them in as few parts as possible: one word for many jobs. A job that is not done when its
/// parallel() returns is finished by somebody else, so the part before it ends there.
void shell_core::run_batch(work::context& ctx, run_of_jobs r) {
    const std::uint64_t began = sys::ticks();
    std::uint64_t part_began = began;
    auto part_limit = static_cast<std::uint64_t>(2 * batch_ns / sys::ns_per_tick());
    const std::uint64_t end = r.end();
    const std::uint32_t count = r.count;
    std::uint64_t ran = 0;  // ticks in parallel() alone
    run_of_jobs part{r.first, 0};
    const runner::mark here(this, ctx.cpu, false);
    for (std::uint64_t seq = r.first; seq != end; ++seq) {
        bool done;
        {
            frame f(this);
            here.at(part.first, seq);
            run_parallel(*ring_.job_at(seq), f, ctx.cpu);
            done = f.done;
        }
        if (done) ++part.count;
        bool last = seq + 1 == end;
        if (done && !last && part.count % 8 != 0) continue;  // a reading of the clock is not free (25 ns)
        std::uint64_t now = sys::ticks();
        if (done && !last && now - part_began < part_limit) continue;
        ran += now - part_began;
        if (last) learn(static_cast<double>(ran) * sys::ns_per_tick() / count, count);
        run_of_jobs finished = std::exchange(part, {seq + 1, 0});
        // After the last part the shell may be gone: nothing below touches it then.
        // Of the context: it is the caller's. What a worker drains counts for the stream it drains.
        ctx.spent = now - began;
        if (finished.count) trace::finish(finished.first, finished.count);
        if (finished.count && ring_.finish(finished)) {
            drain_from(ctx, finished);
            ctx.spent = sys::ticks() - began;
        }
        if (!last) part_began = sys::ticks();
    }
}

/// Keeps the moving average of a job's cost, and with it the batch size and whether jobs run inline. A job counts by its number: a batch of 32 says more
/// than a batch of one. A sample counts at most ten times the average: a preempted thread says nothing about jobs.
void shell_core::learn(double ns_per_job, std::uint32_t jobs) {
    double old = job_ns_.load(std::memory_order_relaxed);
    double sample = old == 0 ? ns_per_job : std::min(ns_per_job, 10 * old + 1'000);
    double weight = old == 0 ? 1 : std::min(jobs / 32.0 + 1 / 32.0, 0.5);
    auto rounded = static_cast<std::uint32_t>(std::clamp(old + (sample - old) * weight, 1.0, 4e9));
    job_ns_.store(rounded, std::memory_order_relaxed);
    bool was = inline_now_.load(std::memory_order_relaxed);
    bool next = options_.inline_jobs && !options_.serial && rounded < (was ? inline_above_ns : inline_below_ns);
    if (next != was) inline_now_.store(next, std::memory_order_relaxed);
}

void shell_core::complete(job& j) {
    work::context ctx{&inst_.workers(), nullptr, sys::current_cpu()};
    run_of_jobs r{job_access::seq(j), 1};
    trace::finish(r.first, r.count);
    if (ring_.finish(r)) drain_from(ctx, r);
}

// ---- draining

/// The caller has the turn, and r is finished. Runs serial() of r and of all that follows and is finished, then passes the turn on.
void shell_core::drain_from(work::context& ctx, run_of_jobs r, place where) {
    // A worker or a waiting submitter has nothing better to do; a thread that only completed a job is let go early.
    std::uint32_t budget = ctx.own || ctx.helping ? std::max(ring_.window(), drain_batch) : drain_batch;
    do {
        if (!run_serials(ctx, r, budget, where)) return;  // the turn was posted
        ring_.leave(r);
        wake_waiters();
        if (any_late_.load(std::memory_order_relaxed)) refill();
    } while (settle(r.end(), r));
}

/// Passes the turn on from `at`. True: r is the next finished run and the turn is still the caller's. False: nothing of the shell may be touched.
bool shell_core::settle(std::uint64_t at, run_of_jobs& r) {
    for (;;) {
        bool may_go_home;
        if (ring_.pass_on(at, r, may_go_home)) {
            ring_.prefetch(r);  // another CPU has had these jobs
            return true;
        }
        if (!may_go_home) {
            trace::pass(at);
            return false;
        }
        bool moved;
        {
            std::lock_guard hold(ring_);
            moved = take_late_locked();
            // Waiters register before they look at the head, or look after we left: see wait_for_head().
            bool waited_for = ring_.head() >= wake_at_.load(std::memory_order_seq_cst);
            if (!moved && !waited_for && ring_.go_home(at)) {
                trace::home(at);
                return false;
            }
        }
        if (moved) inst_.workers().publish(*this);
        wake_waiters();
    }
}

/// Runs serial() of r in order. False: a job belongs to another CPU, or enough is enough; the rest and the turn were handed over.
bool shell_core::run_serials(work::context& ctx, run_of_jobs& r, std::uint32_t& budget, place& where) {
    std::uint64_t bytes = 0;
    std::uint64_t seq = r.first;
    auto publish_bytes = [&] {
        // release: pairs with [acquire: has_room]. Only the turn writes it.
        if (bytes) bytes_out_.store(bytes_out_.load(std::memory_order_relaxed) + bytes, std::memory_order_release);
        bytes = 0;
    };
    const runner::mark here(this, ctx.cpu, true);
    work::inside gated(inst_.workers().around(), ctx.cpu);
    for (; seq != r.end(); ++seq) {
        job& j = *ring_.job_at(seq);
        bool in_place = where != place::by_cpu || serial_here(j, ctx);
        if (where == place::first_at_all) where = place::by_cpu;
        if (!in_place || budget-- == 0) {
            int cpu = job_access::cb_cpu(j);
            publish_bytes();
            gated.end();  // once the turn is handed over this thread has nothing here any more
            if (seq != r.first) {
                ring_.leave({r.first, static_cast<std::uint32_t>(seq - r.first)});
                wake_waiters();
            }
            hand_over({seq, static_cast<std::uint32_t>(r.end() - seq)}, cpu);
            return false;
        }
        bytes += j.bytes;
        trace::serial(seq, ctx.cpu);
        frame f(this);
        here.at(r.first, seq);
        run_serial(j);
    }
    publish_bytes();
    return true;
}

bool shell_core::serial_here(const job& j, const work::context& ctx) const {
    if (options_.serial) return false;
    int cpu = j.cb_cpu();
    if (cpu != any_cpu) return ctx.own && ctx.cpu == cpu;
    return inst_.usable(mask_kind::serial).test(ctx.cpu);
}

/// The turn goes by mail to a worker of the serial mask, or to the executor.
void shell_core::hand_over(run_of_jobs rest, int cpu) {
    turn_ = rest;
    bump(handovers_);
    if (options_.serial) return post_turn();
    if (cpu == any_cpu) {
        cpumask mask = inst_.usable(mask_kind::serial).load();
        cpu = mask.next(sys::current_cpu() + 1);  // not this CPU's worker: it would wait for this thread
        if (cpu < 0) cpu = mask.first();
    }
    trace::handover(rest.first, rest.count, cpu);
    inst_.workers().post(*this, cpu);  // publishes turn_; nothing may be touched after it
}

void shell_core::deliver(work::context& ctx) {
    // Where the CPU has no worker the mail comes to another one: the first job runs wherever it was delivered, so that the turn never circles.
    drain_from(ctx, turn_, place::first_at_all);
}

}  // namespace cohort::padata::detail
