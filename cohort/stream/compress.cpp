// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/codec.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>

#include <algorithm>

namespace cohort::stream::detail {

namespace {

class compress_piece final : public piece {
public:
    compress_piece(ordered_run& r, free_list<compressor>& idle, buffer input, std::size_t bound)
        : piece(r), idle_(idle), in_(std::move(input)), bound_(bound) {
        length = in_.size();
    }

    result<void> work() override {
        auto c = idle_.take();
        if (!c) {
            auto made = compressor::create(*run.options().kind, run.options().level.value_or(levels(*run.options().kind).usual));
            if (!made) return std::unexpected(made.error());
            c = std::move(*made);
        }
        out_ = run.buffers().take(bound_);
        auto n = c->block(in_.view(), out_.tail());
        idle_.give(std::move(c));
        run.buffers().give(std::move(in_));  // now, not in its turn: the reader may be short of one
        if (!n) return std::unexpected(n.error());
        out_.resize(*n);
        return {};
    }
    result<void> emit() override { return run.write_and_give(std::move(out_)); }

private:
    free_list<compressor>& idle_;
    buffer in_, out_;
    std::size_t bound_;
};

/// Submits what the feed gives. As the first block did, the last two go in parts: all workers have something to do sooner, and stop at about the same time. Where the parts are depends on the input's
/// length alone.
class block_cutter {
public:
    block_cutter(ordered_run& r, free_list<compressor>& idle, block_feed& feed, std::size_t block, std::size_t bound) : run_(r), idle_(idle), feed_(feed), block_(block), bound_(bound) {}

    /// To the end of the input, or of the run. Errors: those of the input.
    result<void> all() {
        buffer held;  // one block is kept back until it is known not to be among the last two
        for (;;) {
            auto next = run_.next(feed_);
            if (!next) return std::unexpected(next.error());
            if (next->end) return {};
            if (next->part) {
                if (!submit(std::move(next->bytes))) return {};
                continue;
            }
            if (next->bytes.size() < block_) {
                if (in_parts(std::move(held))) in_parts(std::move(next->bytes));
                return {};
            }
            if (held.size() && !submit(std::move(held))) return {};
            held = std::move(next->bytes);
        }
    }

private:
    bool submit(buffer b) {
        const std::uint64_t bytes = b.capacity() + bound_;
        return run_.submit(std::make_unique<compress_piece>(run_, idle_, std::move(b), bound_), bytes);
    }
    bool in_parts(buffer b) {
        for (std::size_t at = 0; at < b.size();) {
            const byte_view part = b.view().subspan(at, std::min(part_of(block_), b.size() - at));
            buffer copy = run_.buffers().take(part.size());
            copy.append(part);
            at += part.size();
            if (!submit(std::move(copy))) return false;
        }
        run_.buffers().give(std::move(b));
        return true;
    }

    ordered_run& run_;
    free_list<compressor>& idle_;
    block_feed& feed_;
    const std::size_t block_, bound_;
};

}  // namespace

result<pipe_report> run_compress(const pipe_options& options, sys::os& system, far_ends* far) {
    const codec kind = *options.kind;
    auto first = compressor::create(kind, options.level.value_or(levels(kind).usual));  // bad levels end here, before anything is opened
    if (!first) return std::unexpected(first.error());
    const std::size_t block = options.block_bytes ? options.block_bytes : usual_block(kind);
    const std::size_t bound = (*first)->bound(block);
    free_list<compressor> idle;  // outlives the run's jobs
    idle.give(std::move(*first));
    auto r = ordered_run::create(options, system, {.block_bytes = block, .piece_bytes = block + bound}, far);
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    const auto cuts = far ? nullptr : cut_blocks(run.reads(), block);
    if (auto all = block_cutter(run, idle, far ? far->feed : *cuts, block, bound).all(); !all) run.fail_with(all.error());
    return run.finish();
}

}  // namespace cohort::stream::detail
