// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/detail/ordered_run.hpp>

#include <algorithm>
#include <ctime>
#include <utility>

#include <cohort/sys/thread.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::stream {

std::uint64_t usual_memory(int workers, std::uint64_t bytes_per_block) {
    // Two blocks a worker: one being worked on, one that waits for its turn to be written, or for a worker. More only touches more fresh pages.
    return std::max<std::uint64_t>(64u << 20, 2 * static_cast<std::uint64_t>(workers) * bytes_per_block);
}

namespace detail {

namespace {

constexpr std::uint64_t progress_ns = 100'000'000;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

void piece::parallel() {
    if (!run.failed_.load(std::memory_order_relaxed)) {
        const std::uint64_t before = sys::thread_cpu_ns();
        try {
            worked = work();
        } catch (const over_limit& e) {
            worked = std::unexpected(e.why);
        } catch (const std::bad_alloc&) {
            worked = fail(ENOMEM, run.in().name(), "work on a block", "no memory");
        }
        percpu::this_cpu::add(run.stats_->member(&run_stats::work_ns), sys::thread_cpu_ns() - before);
        // The reader may stop; pieces before this one still go their way.
        if (!worked) run.doomed_.store(true, std::memory_order_relaxed);
    }
    padata::do_serial(*this);
}

void piece::serial() {
    std::unique_ptr<piece> self(this);
    const std::uint64_t before = sys::thread_cpu_ns();
    run.deliver(*this);
    percpu::this_cpu::add(run.stats_->member(&run_stats::work_ns), sys::thread_cpu_ns() - before);
}

result<std::unique_ptr<ordered_run>> ordered_run::create(const pipe_options& options, sys::os& system, const run_shape& shape, far_ends* far) {
    std::unique_ptr<ordered_run> r(new ordered_run(options, system));
    auto stop = stop_flag::create(system);
    if (!stop) return std::unexpected(stop.error());
    r->stop_ = std::move(*stop);
    if (auto opened = r->open_ends(far); !opened) return std::unexpected(opened.error());

    auto inst = padata::instance::create({.name = options.name, .parallel = options.cpus, .serial = options.serial_cpus, .max_workers = options.workers, .gate = options.gate,
                                          .watchdog = options.stuck_after, .on_stuck = [self = r.get()](const padata::head_state& h) {
                                              std::scoped_lock hold(self->lock_);
                                              self->stuck_ = h.line();
                                          }});
    if (!inst) return std::unexpected(inst.error());
    r->instance_ = std::move(*inst);
    // After the workers and whatever looks after them have been started: those threads would inherit it.
    if (options.reader_cpus) {
        if (auto was = system.sched_getaffinity(0); was && system.sched_setaffinity(0, *options.reader_cpus)) r->reader_was_ = *was;
    }
    int workers = r->instance_->usable_mask(padata::mask_kind::parallel).weight();
    if (options.workers > 0) workers = std::min(workers, options.workers);
    r->workers_ = workers;
    r->block_bytes_ = shape.block_bytes;
    r->memory_ = options.memory ? options.memory : usual_memory(workers, shape.piece_bytes);
    r->buffers_ = std::make_unique<buffer_pool>(r->memory_, far ? account::group{} : account::current(), far ? &far->memory : nullptr);
    auto stats = percpu::make<run_stats>();
    if (!stats) return std::unexpected(stats.error());
    r->stats_ = std::move(*stats);

    // A job may start and end long before its turn, so the window is in bytes; its count only has to be out of the way.
    const std::uint64_t jobs = std::clamp<std::uint64_t>(r->memory_ / std::max<std::uint64_t>(shape.piece_bytes, 1) * 4, 64, 1u << 16);
    r->window_ = jobs;
    auto shell = padata::shell::create(*r->instance_, {.window = static_cast<std::uint32_t>(jobs), .window_bytes = r->memory_,
                                                       .when_full = padata::full_policy::block, .inline_jobs = false});
    if (!shell) return std::unexpected(shell.error());
    r->shell_.emplace(std::move(*shell));
    if (auto opened = r->open_control(); !opened) return std::unexpected(opened.error());
    if (options.look) {
        options.look->answer_by([self = r.get()] {
            const padata::shell_stats s = self->shell_->stats();
            return pipe_look::figures{.blocks = s.submitted - std::min(s.delivered, s.submitted), .threads = self->instance_->workers().threads()};
        });
    }
    r->started_ = system.now();
    r->cpu_started_ = cpu_seconds();
    ordered_run* self = r.get();
    r->on_stop_.emplace(options.stop, [self] { self->fail_with({ECANCELED, self->in_.name(), "pipe", "stopped"}); });
    return r;
}

ordered_run::~ordered_run() {
    if (options_.look) options_.look->answer_by({});
    if (reader_was_) (void)os_.sched_setaffinity(0, *reader_was_);
    on_stop_.reset();
    if (shell_) {
        fail_with({ECANCELED, in_.name(), "pipe", "given up"});
        (void)shell_->drain();
        shell_.reset();
    }
}

result<void> ordered_run::open_ends(far_ends* far) {
    if (far) {
        far_ = true;
        in_ = source::elsewhere(far->name);
        sink_ = std::move(far->out);
        return {};
    }
    auto in = source::open(options_, os_);
    if (!in) return std::unexpected(in.error());
    in_ = std::move(*in);
    auto out = sink::open(options_, os_);
    if (!out) return std::unexpected(out.error());
    sink_ = std::make_unique<sink>(std::move(*out));
    return {};
}

result<void> ordered_run::open_control() {
    if (!options_.control) return {};
    auto made = padata::control::create(*instance_, {.directory = *options_.control});
    if (!made && !options_.control->empty()) return std::unexpected(made.error());
    if (!made) {
        if (options_.on_control) note("masks cannot be changed from outside: " + made.error().line());
        return {};
    }
    control_ = std::move(*made);
    if (options_.on_control) options_.on_control(control_->directory());
    return {};
}

result<block_feed::block> ordered_run::next(block_feed& feed) {
    auto b = feed.next();
    if (b && far_) buffers_->comes(b->bytes.capacity());
    return b;
}

result<pipe_report> ordered_run::all(block_feed& feed, const std::function<bool(buffer)>& submits) {
    for (;;) {
        auto b = next(feed);
        if (!b) {
            fail_with(b.error());
            break;
        }
        if (b->end || !submits(std::move(b->bytes))) break;
    }
    return finish();
}

bool ordered_run::submit(std::unique_ptr<piece> p, std::uint64_t bytes) {
    if (doomed()) return false;
    p->bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, ~std::uint32_t{0}));
    p->offset = read_;
    p->read_at = os_.now();
    read_ += p->length;
    for (bool told = false;;) {
        auto r = shell_->do_parallel(*p);
        if (r) break;
        // A mask without a usable CPU: nothing is lost, the input waits until one returns.
        if (!instance_->stopped()) {
            fail_with(r.error());
            return false;
        }
        if (!std::exchange(told, true)) note("waits: " + instance_->why_stopped());
        os_.sleep_until(os_.now() + 20'000'000);
        if (doomed()) return false;
    }
    (void)p.release();  // serial() frees it
    ++submitted_;
    return true;
}

void ordered_run::fail_with(error e) {
    {
        std::scoped_lock hold(lock_);
        if (failure_) return;
        failure_ = std::move(e);
        failed_.store(true, std::memory_order_relaxed);
        doomed_.store(true, std::memory_order_relaxed);
    }
    turn_.notify_all();
    stop_->raise();
    shell_->cancel();
}

bool ordered_run::wait_for_turn(std::uint64_t seq) {
    std::unique_lock hold(lock_);
    turn_.wait(hold, [&] { return failure_ || delivered_ == seq; });
    return !failure_;
}

result<void> ordered_run::outcome(piece& p) {
    if (p.seq() != delivered_ || p.offset != done_in_) return fail(EIO, in_.name(), "keep the order", "a block came out of its turn");
    if (p.error()) std::rethrow_exception(p.error());
    if (!p.worked) return p.worked;
    return p.emit();
}

/// On the serial side: one piece at a time, in order.
void ordered_run::deliver(piece& p) {
    if (!failed_.load(std::memory_order_relaxed)) {
        result<void> done;
        try {
            done = outcome(p);
        } catch (const over_limit& e) {
            done = std::unexpected(e.why);
        } catch (const std::bad_alloc&) {
            done = fail(ENOMEM, in_.name(), "write a block", "no memory");
        } catch (const std::exception& e) {
            done = fail(EIO, in_.name(), "work on a block", e.what());
        }
        if (done) latency_.add(os_.now() - p.read_at);
        else fail_with(std::move(done.error()));
    }
    done_in_ += p.length;
    const std::uint64_t written = sink_->written();  // from the next line on the sink is whose turn it is
    {
        std::scoped_lock hold(lock_);
        ++delivered_;
    }
    turn_.notify_all();
    if (options_.progress) show_progress(written);
}

void ordered_run::show_progress(std::uint64_t written) {
    const std::uint64_t now = os_.now();
    if (now - shown_at_ < progress_ns && shown_at_) return;
    shown_at_ = now;
    options_.progress({.bytes_in = done_in_, .bytes_out = written, .bytes_total = in_.size()});
}

void ordered_run::note(const std::string& text) {
    std::scoped_lock hold(note_lock_);
    if (options_.note) options_.note(text);
}

result<pipe_report> ordered_run::finish(const std::function<result<void>()>& last) {
    auto drained = shell_->drain();
    on_stop_.reset();  // after this the run can no longer be stopped: it ends as it stands
    if (!drained) fail_with(drained.error());
    {
        std::scoped_lock hold(lock_);
        if (failure_) return std::unexpected(*failure_);
    }
    if (delivered_ != submitted_) return fail(EIO, in_.name(), "keep the order", "a block was lost");
    if (last) {
        if (auto r = last(); !r) return std::unexpected(r.error());
    }
    const std::uint64_t written = sink_->written();
    if (auto r = sink_->commit(); !r) return std::unexpected(r.error());
    pipe_report out;
    out.bytes_in = done_in_;
    out.bytes_out = written;
    out.blocks = out.ordered = delivered_;
    out.serial_blocks = percpu::sum(stats_->member(&run_stats::serial_blocks));
    out.unread_blocks = unread_blocks();
    out.workers = workers_;
    out.seconds = static_cast<double>(os_.now() - started_) / 1e9;
    out.cpu_seconds = cpu_seconds() - cpu_started_;
    out.work_cpu_seconds = static_cast<double>(percpu::sum(stats_->member(&run_stats::work_ns))) / 1e9;
    out.child_cpu_seconds = static_cast<double>(percpu::sum(stats_->member(&run_stats::child_ns))) / 1e9;
    out.block_bytes = block_bytes_;
    out.memory = memory_;
    if (shell_) {
        const auto stats = shell_->stats();
        out.waits = stats.waits;
    }
    out.window = window_;
    const auto latency = [this](double percent) { return static_cast<double>(latency_.percentile(percent)) / 1e9; };
    out.latency = {latency(50), latency(99), latency(100)};
    {
        std::scoped_lock hold(lock_);
        out.stuck = stuck_;
    }
    out.input = in_.name();
    out.output = sink_->name();
    if (options_.progress) options_.progress({.bytes_in = done_in_, .bytes_out = written, .bytes_total = in_.size()});
    return out;
}

}  // namespace detail
}  // namespace cohort::stream
