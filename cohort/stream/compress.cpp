// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/codec.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>

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
    result<void> emit() override {
        auto r = run.write(out_.view());
        run.buffers().give(std::move(out_));
        return r;
    }

private:
    free_list<compressor>& idle_;
    buffer in_, out_;
    std::size_t bound_;
};

}  // namespace

result<pipe_report> run_compress(const pipe_options& options, sys::os& system) {
    const codec kind = *options.kind;
    auto first = compressor::create(kind, options.level.value_or(levels(kind).usual));  // bad levels end here, before anything is opened
    if (!first) return std::unexpected(first.error());
    const std::size_t block = options.block_bytes ? options.block_bytes : usual_block(kind);
    const std::size_t bound = (*first)->bound(block);
    free_list<compressor> idle;  // outlives the run's jobs
    idle.give(std::move(*first));
    auto r = ordered_run::create(options, system, {.block_bytes = block, .piece_bytes = block + bound});
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    for (bool first_block = true;; first_block = false) {
        buffer in = run.buffers().take(block);
        auto n = run.fill(in.tail().first(block));
        if (!n) {
            run.fail_with(n.error());
            break;
        }
        // Empty input makes one empty frame: an empty file is no zstd, and no gzip either.
        if (*n == 0 && !first_block) break;
        in.resize(*n);
        if (!run.submit(std::make_unique<compress_piece>(run, idle, std::move(in), bound), block + bound) || *n < block) break;
    }
    return run.finish();
}

}  // namespace cohort::stream::detail
