// SPDX-License-Identifier: Apache-2.0
/// Entering and waiting. Running and draining: drain.cpp.
#include <cohort/padata/detail/shell_core.hpp>
#include <cohort/padata/detail/trace_points.hpp>

#include <algorithm>
#include <mutex>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/sys/ticks.hpp>

namespace cohort::padata::detail {

shell_core::shell_core(instance::impl& inst, const shell_options& options)
    : inst_(inst), options_(options), by_polling_(by_polling()), ring_(options.window) {
    set_weight(options.weight);
    inst_.shells->add(*this);
}

shell_core::~shell_core() {
    COHORT_CHECK(!frame::inside(this), "a shell is destroyed from one of its own callbacks");
    (void)drain();
    for (int i = 0;; ++i) {  // the last drainer may still be on its way out
        {
            std::lock_guard hold(ring_);
            if (ring_.at_home()) break;
        }
        if (i < 64) sys::cpu_relax();
        else sys::yield_thread();
    }
    inst_.workers().retire(*this);
    inst_.shells->remove(*this);
}

// ---- entering

/// The kernel's rule: a CPU outside the usable serial mask is replaced by the (cpu mod weight)-th of the mask.
int shell_core::valid_cb_cpu(int asked) const {
    if (inst_.usable(mask_kind::serial).test(asked)) return asked;
    cpumask mask = inst_.usable(mask_kind::serial).load();
    return mask.empty() ? any_cpu : mask.nth(asked % mask.weight());
}

result<void> shell_core::do_parallel(job& j, int& cb_cpu) {
    const unsigned flags = inst_.flags();
    if (flags) [[unlikely]] {
        if (flags & instance::impl::is_stopped) return inst_.stopped_error();
    }
    if (cb_cpu != any_cpu) [[unlikely]] {
        if (cb_cpu < 0 || cb_cpu >= inst_.possible_cpus()) {
            return fail(EINVAL, inst_.object(), "do_parallel with cb_cpu " + std::to_string(cb_cpu),
                        "the machine has cpus 0-" + std::to_string(inst_.possible_cpus() - 1));
        }
        const int asked = std::exchange(cb_cpu, valid_cb_cpu(cb_cpu));
        trace::cb_cpu(asked, cb_cpu);
    }
    if (flags & instance::impl::is_changing) [[unlikely]] return inst_.busy_error();
    job_access::shell(j) = this;
    job_access::cb_cpu(j) = cb_cpu;
    j.info = 0;
    if (job_access::error(j)) job_access::error(j) = nullptr;

    if (inline_now_.load(std::memory_order_relaxed) && flags == 0 && cb_cpu == any_cpu && try_inline(j)) return {};
    for (;;) {
        std::uint64_t target;
        bool no_memory;
        {
            std::lock_guard hold(ring_);
            if (has_room(j)) {
                enter_locked(j);
                break;
            }
            if (frame::inside(this)) {
                keep_late_locked(j);
                return {};
            }
            target = room_target();
            no_memory = !late_head_ && !ring_.full() && !ring_.has_place();
        }
        trace::full(ring_.window(), options_.when_full != full_policy::eagain);
        if (options_.when_full == full_policy::eagain) {
            if (no_memory) return fail(ENOMEM, inst_.object(), "do_parallel", "there is no memory for more slots");
            return fail(EAGAIN, inst_.object(), "do_parallel", "the window of " + std::to_string(ring_.window()) + " jobs is full");
        }
        waits_.fetch_add(1, std::memory_order_relaxed);
        // A worker that waited would be missing as a worker: it always helps.
        wait_for_head(target, helps() || inst_.workers().on_worker());
        if (inst_.flags() & instance::impl::is_stopped) [[unlikely]] return inst_.stopped_error();
    }
    inst_.workers().publish(*this, helps() ? as_lender() : work::lender{});
    return {};
}

/// The calling thread, where it may run jobs.
work::lender shell_core::as_lender() const {
    int cpu = sys::current_cpu();
    if (!inst_.usable(mask_kind::parallel).test(cpu)) return {};
    work::gate* gate = inst_.workers().around();
    if (gate && !gate->admits_inline(cpu)) return {};
    // Inside a callback it helps its own stream alone: jobs that submit to it could nest without end.
    return {cpu, options_.when_full == full_policy::help_all && !frame::top};
}

bool shell_core::has_room(const job& j) {
    if (late_head_ || !ring_.has_place()) return false;
    if (options_.window_bytes == 0) return true;
    // acquire: pairs with the drainer's release; an old value only makes us wait for the next head.
    std::uint64_t in_flight = bytes_in_ - bytes_out_.load(std::memory_order_acquire);
    return in_flight == 0 || in_flight + j.bytes <= options_.window_bytes;
}

void shell_core::enter_locked(job& j) {
    job_access::seq(j) = ring_.tail();
    bytes_in_ += j.bytes;
    trace::enter(ring_.tail(), j.bytes, ring_.tail() - ring_.head());
    ring_.enter(&j);  // from here on the job may be gone
}

/// Runs a job that is cheaper than a hand-over in the submitter, when everything before it has been delivered.
bool shell_core::try_inline(job& j) {
    if (frame::top) return false;  // inside a callback: no recursion
    int cpu = sys::current_cpu();
    if (!inst_.usable(mask_kind::parallel).test(cpu) || !inst_.usable(mask_kind::serial).test(cpu)) return false;
    work::gate* gate = inst_.workers().around();
    if (gate && !gate->admits_inline(cpu)) return false;
    std::uint64_t seq;
    {
        std::lock_guard hold(ring_);
        if (!ring_.at_home() || late_head_) return false;
        seq = ring_.tail();
        job_access::seq(j) = seq;
        bytes_in_ += j.bytes;
        ring_.enter_with_turn(&j);
    }
    bump(inlined_);
    trace::inlined(seq, cpu);
    work::context ctx{&inst_.workers(), nullptr, cpu};
    run_of_jobs r{seq, 1};
    {
        const work::inside gated(gate, cpu);
        frame f(this);
        inline_last_.store(seq << cpu_bits | static_cast<std::uint64_t>(cpu), std::memory_order_relaxed);
        // Every 16th job is timed: a reading costs about as much as the rest of this path.
        bool timed = (++inline_sampler_ & 15) == 0;
        const std::uint64_t began = timed ? sys::ticks() : 0;
        run_parallel<false>(j, f, cpu);
        if (timed) learn(static_cast<double>(sys::ticks() - began) * sys::ns_per_tick(), 4);
        if (f.done) {
            std::uint32_t size = j.bytes;
            run_serial<false>(j);
            bytes_out_.store(bytes_out_.load(std::memory_order_relaxed) + size, std::memory_order_release);
        } else {
            r.count = 0;  // it will be finished later: the turn waits in its slot
            inline_last_.store(none, std::memory_order_relaxed);
        }
    }
    if (r.count) ring_.leave_inline(seq);
    if (settle(r.end(), r)) drain_from(ctx, r);
    return true;
}

void shell_core::keep_late_locked(job& j) {
    job_access::set_next(j, nullptr);
    if (late_head_) job_access::set_next(*late_tail_, &j);
    else late_head_ = &j;
    late_tail_ = &j;
    ++late_count_;
    any_late_.store(true, std::memory_order_relaxed);
}

/// Moves jobs that were kept into the ring. Returns whether any moved.
bool shell_core::take_late_locked() {
    bool moved = false;
    while (late_head_ && ring_.has_place()) {
        job* j = late_head_;
        late_head_ = job_access::next(*j);
        --late_count_;
        enter_locked(*j);
        moved = true;
    }
    if (!late_head_) any_late_.store(false, std::memory_order_relaxed);
    return moved;
}

void shell_core::refill() {
    bool moved;
    {
        std::lock_guard hold(ring_);
        moved = take_late_locked();
    }
    if (moved) inst_.workers().publish(*this);
}

// ---- waiting

/// With the ring lock: the head at which a submitter should look again. Half a window at once, so that it is not woken for each job. Never beyond the tail:
/// the head moves meanwhile, and where everything has left already no later head would come.
std::uint64_t shell_core::room_target() const {
    std::uint64_t tail = ring_.tail(), head = ring_.head();
    bool by_jobs = !late_head_ && tail - head == ring_.window();  // else by bytes or by kept jobs
    return std::min(tail, by_jobs ? std::max(head + 1, tail - ring_.window() / 2) : head + 1);
}

bool shell_core::help_once() {
    const work::lender me = as_lender();
    if (me.cpu < 0) return false;
    inst_.workers().lend(me);
    if (me.runs_all) return inst_.workers().poll(true);
    work::context ctx{&inst_.workers(), nullptr, me.cpu, true};
    return run(ctx);
}

void shell_core::wait_for_head(std::uint64_t target, bool help, bool poll) {
    while (ring_.head() < target) {
        if (help && help_once()) continue;
        if (poll && inst_.turns.take(*this)) {
            run_turn();
            continue;
        }
        // A turn that this stream waits for may have been mailed to the very worker that waits here.
        if (inst_.workers().deliver_own_mail()) continue;
        bool reached = false;
        for (int i = 0; i < 256 && !reached; ++i) {
            reached = ring_.head() >= target;
            sys::cpu_relax();
        }
        if (reached) return;
        std::uint32_t seen = room_.load(std::memory_order_seq_cst);
        std::uint64_t now = wake_at_.load(std::memory_order_seq_cst);
        while (target < now && !wake_at_.compare_exchange_weak(now, target, std::memory_order_seq_cst)) {
        }
        // After wake_at_, by the barrier where there is one. Pairs with leave() and the look in wake_waiters().
        if (sys::has_asymmetric_fence()) sys::barrier_on_all_threads();
        if (ring_.head_seq_cst() >= target) return;
        if (poll && inst_.turns.has(*this)) continue;  // after wake_at_; pairs with the look in post_turn()
        inst_.workers().wait_on(room_, seen);
    }
}

/// By the holder of the turn, after the head moved.
void shell_core::wake_waiters() {
    if (ring_.head() < wake_at_.load(std::memory_order_seq_cst)) return;
    wake_at_.store(none, std::memory_order_seq_cst);
    room_.fetch_add(1, std::memory_order_seq_cst);
    sys::futex_wake(room_, std::numeric_limits<int>::max());
}

result<void> shell_core::drain() {
    COHORT_CHECK(!frame::inside(this), "drain() is called from a callback of the same shell");
    std::uint64_t target;
    {
        std::lock_guard hold(ring_);
        target = ring_.tail() + late_count_;
    }
    wait_for_head(target, helps() || inst_.workers().on_worker(), polled());
    sys::spin_guard hold(exception_lock_);
    if (!std::exchange(exception_is_new_, false)) return {};
    return fail(EIO, inst_.object(), "drain", "a serial() threw an exception");
}

void shell_core::keep_exception() {
    sys::spin_guard hold(exception_lock_);
    if (!first_exception_) first_exception_ = std::current_exception();
    exception_is_new_ = true;
}

std::exception_ptr shell_core::exception() {
    sys::spin_guard hold(exception_lock_);
    return first_exception_;
}

void shell_core::cancel() {
    std::lock_guard hold(ring_);
    cancel_before_.store(ring_.tail() + late_count_, std::memory_order_relaxed);
}

shell_stats shell_core::stats() const {
    shell_stats s;
    s.delivered = ring_.head();
    s.submitted = ring_.tail();
    s.ran_inline = inlined_.load(std::memory_order_relaxed);
    s.handovers = handovers_.load(std::memory_order_relaxed);
    s.waits = waits_.load(std::memory_order_relaxed);
    s.failed = failed_.load(std::memory_order_relaxed);
    s.batches = batches_.load(std::memory_order_relaxed);
    s.job_ns = job_ns_.load(std::memory_order_relaxed);
    s.memory_bytes = sizeof *this + ring_.extra_bytes();
    return s;
}

}  // namespace cohort::padata::detail
