// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/multithreaded.hpp>

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/ticks.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::padata {

namespace {

struct range {
    std::size_t begin, end;
};

/// The kernel's rule, with max_chunk: how large a chunk is. Chunk ends fall on absolute multiples of it.
std::size_t chunk_size(const mt_job& job, std::size_t threads) {
    std::size_t align = std::max<std::size_t>(job.align, 1);
    std::size_t chunk = std::max({job.size / (threads * 4), job.min_chunk, std::size_t{1}});
    if (job.max_chunk) chunk = std::min(chunk, std::max(job.max_chunk, job.min_chunk));
    std::size_t over = chunk % align;
    if (over == 0) return chunk;
    std::size_t up = align - over;
    return chunk > std::numeric_limits<std::size_t>::max() - up ? std::numeric_limits<std::size_t>::max() : chunk + up;
}

/// The job while it runs; on the caller's stack.
/// Synchronization: cursor_ hands out chunks; a chunk belongs to who took it. The caller reads failure_ and done_ after retire(), when no helper is left.
class mt_run final : public work::runnable {
public:
    mt_run(const mt_job& job, std::size_t threads)
        : job_(job),
          chunk_(chunk_size(job, threads)),
          first_(job.start / chunk_),
          end_(job.start + job.size),
          chunks_((end_ - 1) / chunk_ - first_ + 1),
          threads_(threads) {}

    std::size_t chunks() const { return chunks_; }

    /// Takes chunks until none is left. Several at a time while they are cheaper than taking them, but never more than a quarter of a fair share.
    void participate(work::gate* around, int cpu) {
        std::size_t at_once = 1;
        std::vector<range> mine;
        for (;;) {
            const work::inside gated(around, cpu);  // before it takes chunks: others can have them while it waits
            if (stop_.load(std::memory_order_relaxed)) break;
            if (job_.stop.stop_requested()) {
                fail_with(ECANCELED, nullptr);
                break;
            }
            std::size_t taken = cursor_.fetch_add(at_once, std::memory_order_relaxed);
            if (taken >= chunks_) break;
            std::size_t count = std::min(at_once, chunks_ - taken);
            std::uint64_t begin = sys::ticks();
            for (std::size_t i = 0; i < count && !stop_.load(std::memory_order_relaxed); ++i) {
                if (!run_chunk(taken + i)) break;
                if (job_.undo) mine.push_back(bounds(taken + i));
            }
            double ns = static_cast<double>(sys::ticks() - begin) * sys::ns_per_tick() / static_cast<double>(count);
            std::size_t wanted = ns * 2 < take_ns ? static_cast<std::size_t>(take_ns / std::max(ns, 0.5)) : 1;
            std::size_t fair = (chunks_ - std::min(chunks_, taken + count)) / (threads_ * 4);
            at_once = std::clamp<std::size_t>(std::min(wanted, at_once * 4), 1, std::max<std::size_t>(fair, 1));
        }
        if (!mine.empty()) {
            sys::spin_guard hold(lock_);
            done_.insert(done_.end(), mine.begin(), mine.end());
        }
    }

    /// After retire(): what was finished, as maximal ranges in ascending order.
    std::vector<range> finished() {
        sys::spin_guard hold(lock_);
        std::sort(done_.begin(), done_.end(), [](const range& a, const range& b) { return a.begin < b.begin; });
        std::vector<range> out;
        for (const range& r : done_) {
            if (!out.empty() && out.back().end == r.begin) out.back().end = r.end;
            else out.push_back(r);
        }
        return out;
    }
    int failure() const { return error_; }
    const std::exception_ptr& exception() const { return exception_; }

private:
    static constexpr double take_ns = 2'000;  // chunks taken at once should last about so long

    bool run(work::context& ctx) override {
        if (!ready() || helpers_.fetch_add(1, std::memory_order_relaxed) >= threads_ - 1) return false;
        ctx.found(*this);
        participate(ctx.set->around(), ctx.cpu);
        return true;
    }
    bool ready() const noexcept override {
        return cursor_.load(std::memory_order_seq_cst) < chunks_ && helpers_.load(std::memory_order_seq_cst) < threads_ - 1 &&
               !stop_.load(std::memory_order_seq_cst);
    }

    range bounds(std::size_t chunk) const {
        std::size_t begin = chunk == 0 ? job_.start : (first_ + chunk) * chunk_;
        std::size_t end = chunk + 1 == chunks_ ? end_ : (first_ + chunk + 1) * chunk_;
        return {begin, end};
    }

    bool run_chunk(std::size_t chunk) {
        range r = bounds(chunk);
        try {
            int error = job_.run(r.begin, r.end);
            if (error == 0) return true;
            fail_with(error < 0 ? -error : error, nullptr);
        } catch (...) {
            fail_with(EIO, std::current_exception());
        }
        return false;
    }

    void fail_with(int error, std::exception_ptr exception) {
        {
            sys::spin_guard hold(lock_);
            if (error_ == 0) {
                error_ = error;
                exception_ = std::move(exception);
            }
        }
        stop_.store(true, std::memory_order_seq_cst);
    }

    const mt_job& job_;
    const std::size_t chunk_, first_, end_, chunks_, threads_;  // [const after init]
    alignas(64) std::atomic<std::size_t> cursor_{0};            // [atomic: next chunk; orders nothing: retire() does]
    std::atomic<std::size_t> helpers_{0};                       // [atomic: helpers that came, at most threads_ - 1 of them stay]
    std::atomic<bool> stop_{false};                             // [atomic: an error; no new chunk starts]
    alignas(64) sys::spinlock lock_;
    std::vector<range> done_;                                   // [guarded: lock_] only where there is an undo
    int error_ = 0;                                             // [guarded: lock_]
    std::exception_ptr exception_;                              // [guarded: lock_]
};

}  // namespace

result<void> do_multithreaded(instance& inst, const mt_job& job) {
    auto refuse = [&](int code, const char* why) { return fail(code, inst.internals().object(), "do_multithreaded", why); };
    if (!job.run) return refuse(EINVAL, "run is empty");
    if (job.max_threads < 0) return refuse(EINVAL, "max_threads is negative");
    if (job.start > std::numeric_limits<std::size_t>::max() - job.size) return refuse(EOVERFLOW, "start + size is beyond the largest number");
    if (job.size == 0) return {};
    if (job.stop.stop_requested()) return refuse(ECANCELED, "stopped before the first chunk");

    work::worker_set& workers = inst.internals().workers();
    std::size_t least = std::max({job.min_chunk, job.align, std::size_t{1}});
    auto most = static_cast<std::size_t>(job.max_threads ? job.max_threads : std::max(workers.general_workers(), 1));
    std::size_t threads = std::clamp<std::size_t>(job.size / least, 1, most);

    mt_run run(job, threads);
    if (threads > 1 && run.chunks() > 1) {
        if (job.numa_aware) workers.publish_on(run, inst.internals().spread_over_nodes(static_cast<int>(threads) - 1));
        else workers.publish(run);
        run.participate(workers.around(), sys::current_cpu());
        workers.retire(run);
    } else {
        run.participate(workers.around(), sys::current_cpu());
    }
    if (run.failure() == 0) return {};
    if (job.undo) {
        const work::inside gated(workers.around(), sys::current_cpu());
        for (const range& r : run.finished()) job.undo(r.begin, r.end);
    }
    if (run.exception()) std::rethrow_exception(run.exception());
    return refuse(run.failure(), run.failure() == ECANCELED ? "stopped" : "run() returned an error");
}

}  // namespace cohort::padata
