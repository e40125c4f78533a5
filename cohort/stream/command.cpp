// SPDX-License-Identifier: Apache-2.0
// Blocks through copies of a command. A worker feeds its child and keeps the output; when that grows beyond what a piece may hold, the worker
// waits for its turn and from then on passes the output straight on. Jobs are claimed in order, so the one whose turn it is always runs.
#include <cohort/stream/detail/child.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>

#include <algorithm>

namespace cohort::stream::detail {

namespace {

constexpr std::size_t pipe_bytes = 1u << 20;
constexpr std::size_t least_output = 64u << 10;
constexpr std::size_t usual_command_block = 2u << 20;  // under that the start of a process weighs; cat, 2 CPUs: 1M 0.43 s, 2M 0.30 s, 4M 0.25 s

class command_piece final : public piece {
public:
    command_piece(ordered_run& r, buffer input, std::size_t keep) : piece(r), in_(std::move(input)), keep_(keep) { length = in_.size(); }

    result<void> work() override {
        const pipe_options& o = run.options();
        auto started = child::start(run.system(), {.argv = o.argv, .directory = o.directory, .environment = o.environment}, pipe_bytes);
        if (!started) return of_block(std::move(started.error()));
        child c = std::move(*started);
        byte_view input = in_.view();
        out_ = run.buffers().take(keep_);
        bool my_turn = false;
        for (;;) {
            auto ended = c.pump(input, out_, run.stop_fd());
            if (!ended) return of_block(std::move(ended.error()));
            if (*ended) break;
            if (!my_turn && !run.wait_for_turn(seq())) return fail(ECANCELED, "command", "run", "stopped");
            my_turn = true;
            if (auto r = run.write(out_.view()); !r) return r;
            out_.clear();
        }
        auto end = c.finish(input, run.stop_fd());
        if (!end) return of_block(std::move(end.error()));
        run.count_child(end->status);
        if (!end->status.ok()) return of_block(cohort::error{EIO, {}, {}, end->status.text()});
        if (!end->read_all) {
            run.count_unread_block();
            if (run.first_unread_block()) run.note("command \"" + o.argv[0] + "\": " + place() + ": it ended well without reading all of its input (told once)");
        }
        run.buffers().give(std::move(in_));
        return {};
    }
    result<void> emit() override { return run.write_and_give(std::move(out_)); }

private:
    std::string place() const {
        return "block " + std::to_string(seq() + 1) + " (bytes " + std::to_string(offset) + "-" + std::to_string(offset + length - (length ? 1 : 0)) +
               " of " + run.in().name() + ")";
    }
    std::unexpected<cohort::error> of_block(cohort::error e) const {
        return fail(e.code, "command \"" + run.options().argv[0] + "\"", place(), e.reason.empty() ? e.act : e.reason);
    }

    buffer in_, out_;
    std::size_t keep_;
};

}  // namespace

std::size_t command_block(const pipe_options& o) { return o.block_bytes ? o.block_bytes : usual_command_block; }
std::size_t command_output(std::size_t block) { return std::max(block + block / 8, least_output); }

result<pipe_report> run_command(const pipe_options& options, sys::os& system, far_ends* far) {
    const std::size_t block = command_block(options), keep = command_output(block);
    auto r = ordered_run::create(options, system, {.block_bytes = block, .piece_bytes = block + keep}, far);
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    const auto cuts = far ? nullptr : cut_records(run.reads(), block, options.records, options.separator);
    block_feed& feed = far ? far->feed : *cuts;
    return run.all(feed, [&](buffer b) {
        const std::uint64_t held = b.capacity() + keep;
        return run.submit(std::make_unique<command_piece>(run, std::move(b), keep), held);
    });
}

}  // namespace cohort::stream::detail
