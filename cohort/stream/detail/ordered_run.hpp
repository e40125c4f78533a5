// SPDX-License-Identifier: Apache-2.0
/// One run of a stream through a padata shell: the parts that compress, decompress and command share.
///
///     reader thread                      workers                              whoever holds the turn
///     fill a block, submit(piece) --->   piece.work(): block -> output  --->  piece.emit(): output -> sink, in order
///          waits while `memory` bytes are in flight
///
/// The first error in the order of the input ends the run: later pieces are cancelled, and what was written is a true beginning of the output.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>

#include <cohort/base/histogram.hpp>
#include <cohort/percpu/allocator.hpp>
#include <cohort/padata/control.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/stream/block.hpp>
#include <cohort/stream/detail/ends.hpp>
#include <cohort/stream/detail/feed.hpp>
#include <cohort/stream/pipe.hpp>

namespace cohort::stream::detail {

class ordered_run;

/// One block on its way. Made by the reader, freed on the serial side.
class piece : public padata::job {
public:
    explicit piece(ordered_run& r) : run(r) {}

    /// On a worker; what it fails with is reported when the piece's turn comes.
    virtual result<void> work() = 0;
    /// In order; writes with run.write().
    virtual result<void> emit() = 0;

    ordered_run& run;
    std::uint64_t offset = 0, length = 0;  ///< the block's place in the input
    std::uint64_t read_at = 0;             ///< ns: when the reader handed it on
    result<void> worked;                   ///< what work() said

    void parallel() final;
    void serial() final;
};

struct run_shape {
    std::uint64_t block_bytes = 0;  ///< of input in one piece
    std::uint64_t piece_bytes = 0;  ///< of memory for one piece
};

/// What workers count.
struct run_stats {
    std::uint64_t serial_blocks, unread_blocks, child_ns, work_ns;
};

/// Synchronization: submit, finish and the reader's parts belong to the thread that called create(); write() to whoever holds the turn; the rest is
/// for any thread.
class ordered_run {
public:
    /// Opens both ends, or has them from `far`, and starts the workers. Errors: those of both.
    static result<std::unique_ptr<ordered_run>> create(const pipe_options& options, sys::os& system, const run_shape& shape, far_ends* far = nullptr);
    ~ordered_run();

    source& in() { return in_; }
    buffer_pool& buffers() { return *buffers_; }
    sys::os& system() { return os_; }
    const pipe_options& options() const { return options_; }
    int stop_fd() const { return stop_->fd(); }
    std::uint64_t memory() const { return memory_; }

    /// Fills from the input. Errors: those of the input; ECANCELED.
    result<std::size_t> fill(std::span<std::uint8_t> into) { return in_.fill(into, stop_fd()); }
    /// Hands a piece to the workers; waits for room. False: the run has failed, and the piece is gone. bytes: what the piece holds of memory.
    bool submit(std::unique_ptr<piece> p, std::uint64_t bytes);
    /// No more pieces: waits for all, asks `last` whether the end is a good one, and gives the output its name. Answers the run's first error.
    result<pipe_report> finish(const std::function<result<void>()>& last = {});

    /// Ends the run with an error; the first one counts.
    void fail_with(error e);
    /// Has the run failed, or will it when an error's turn comes? Then new work is in vain.
    bool doomed() const { return doomed_.load(std::memory_order_relaxed); }

    /// Waits until everything before `seq` has been written; then the caller, the worker of piece `seq`, holds the turn until its parallel() ends.
    /// False: the run has failed.
    bool wait_for_turn(std::uint64_t seq);
    /// To the sink; only for the holder of the turn. Errors: those of the sink.
    result<void> write(byte_view bytes) { return sink_->write(bytes, stop_fd()); }
    /// write(), after which the buffer goes back to the pool.
    result<void> write_and_give(buffer bytes) { return sink_->write_and_give(std::move(bytes), buffers(), stop_fd()); }
    /// The feed's next block.
    result<block_feed::block> next(block_feed& feed);
    /// Every block of the feed, handed to `submits` until it says false; then finish().
    result<pipe_report> all(block_feed& feed, const std::function<bool(buffer)>& submits);
    /// What a feed that cuts its input needs.
    reading reads() { return {in_, stop_fd(), *buffers_, memory_}; }

    void count_serial_block() { percpu::this_cpu::inc(stats_->member(&run_stats::serial_blocks)); }
    void count_unread_block() { percpu::this_cpu::inc(stats_->member(&run_stats::unread_blocks)); }
    void count_child(const sys::exit_status& s) { percpu::this_cpu::add(stats_->member(&run_stats::child_ns), s.user_ns + s.system_ns); }
    /// True for one caller, whichever comes first: the counters of workers cannot tell that.
    bool first_unread_block() { return !unread_told_.exchange(true, std::memory_order_relaxed); }
    std::uint64_t unread_blocks() const { return percpu::sum(stats_->member(&run_stats::unread_blocks)); }
    void note(const std::string& text);

private:
    friend class piece;
    ordered_run(const pipe_options& options, sys::os& system) : options_(options), os_(system) {}
    void deliver(piece& p);
    result<void> outcome(piece& p);
    void show_progress(std::uint64_t written);
    result<void> open_ends(far_ends* far);
    result<void> open_control();

    const pipe_options& options_;                 // [const after init]
    sys::os& os_;                                 // [const after init]
    std::unique_ptr<stop_flag> stop_;             // [const after init]
    source in_;                                   // [the reader]
    std::unique_ptr<outlet> sink_;                   // [holder of the turn; the reader before the first and after the last piece]
    std::unique_ptr<buffer_pool> buffers_;        // [const after init]
    std::unique_ptr<padata::instance> instance_;  // [const after init]
    std::unique_ptr<padata::control> control_;    // [const after init]
    std::optional<padata::shell> shell_;          // [const after init]
    std::uint64_t memory_ = 0, block_bytes_ = 0, window_ = 0;  // [const after init]
    std::uint64_t started_ = 0;                   // [const after init] os.now()
    double cpu_started_ = 0;                      // [const after init]
    int workers_ = 0;                             // [const after init]
    std::optional<cpumask> reader_was_;           // [the reader] where it may run otherwise
    bool far_ = false;                            // [const after init] blocks come from elsewhere
    std::uint64_t submitted_ = 0, read_ = 0;      // [the reader]

    std::mutex lock_;
    std::condition_variable turn_;
    std::uint64_t delivered_ = 0;                 // [guarded: lock_] pieces written; the piece of this number holds the turn
    std::optional<error> failure_;                // [guarded: lock_]
    std::uint64_t done_in_ = 0;                   // [holder of the turn] input bytes behind the turn
    std::uint64_t shown_at_ = 0;                  // [holder of the turn]
    histogram latency_;                           // [holder of the turn] ns from the reader to the output
    std::mutex note_lock_;
    std::string stuck_;                           // [guarded: lock_] for the report

    std::atomic<bool> doomed_{false};             // [atomic: set once; orders nothing, failure_ is behind lock_]
    std::atomic<bool> failed_{false};             // [atomic: set once after failure_; as doomed_]
    std::atomic<bool> unread_told_{false};        // [atomic: set once; orders nothing]
    percpu::ptr<run_stats> stats_;                // [const after init] workers count on their own CPUs

    std::optional<std::stop_callback<std::function<void()>>> on_stop_;
};

}  // namespace cohort::stream::detail
