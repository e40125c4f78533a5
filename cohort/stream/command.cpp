// SPDX-License-Identifier: Apache-2.0
// Blocks through copies of a command. A worker feeds its child and keeps the output; when that grows beyond what a piece may hold, the worker
// waits for its turn and from then on passes the output straight on. Jobs are claimed in order, so the one whose turn it is always runs.
#include <cohort/stream/detail/child.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>
#include <cohort/stream/records.hpp>

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

/// Cuts the input into blocks that end where a record ends. Output depends on block size and input alone: every block is filled before it is cut.
class block_reader {
public:
    block_reader(ordered_run& r, std::size_t block) : run_(r), block_(block) {}

    /// The next block; empty at the end. Errors: those of the input; EFBIG, a record over the limit.
    result<buffer> next() {
        buffer b = run_.buffers().take(std::max(block_, rest_.size()));
        b.append(rest_.view());
        rest_.clear();
        std::size_t want = block_;
        for (;;) {
            if (want > b.size()) {
                if (b.capacity() < want) {
                    buffer bigger = run_.buffers().take(want);
                    bigger.append(b.view());
                    run_.buffers().give(std::exchange(b, std::move(bigger)));
                }
                auto n = run_.fill(b.tail().first(want - b.size()));
                if (!n) return std::unexpected(n.error());
                b.resize(b.size() + *n);
                if (b.size() < want) return b;  // the end: its last record needs no separator
            }
            if (!run_.options().records) return b;
            const std::size_t end = last_record_end(b.view(), run_.options().separator);
            if (end) return split(std::move(b), end);
            const std::size_t limit = std::max<std::uint64_t>(run_.memory() / 2, block_);
            if (want >= limit) {
                return fail(EFBIG, run_.in().name(), "find the end of the record at byte " + std::to_string(start_),
                            "it is longer than " + std::to_string(limit) + " bytes; a larger memory limit allows it");
            }
            want = std::min<std::size_t>(want * 2, limit);
        }
    }
    void passed(std::size_t n) { start_ += n; }

private:
    result<buffer> split(buffer b, std::size_t end) {
        rest_.reserve(b.size() - end);
        rest_.append(b.view().subspan(end));
        b.resize(end);
        return b;
    }

    ordered_run& run_;
    std::size_t block_;
    buffer rest_;
    std::uint64_t start_ = 0;
};

}  // namespace

result<pipe_report> run_command(const pipe_options& options, sys::os& system) {
    const std::size_t block = options.block_bytes ? options.block_bytes : usual_command_block;
    const std::size_t keep = std::max(block + block / 8, least_output);
    auto r = ordered_run::create(options, system, {.block_bytes = block, .piece_bytes = block + keep});
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    block_reader blocks(run, block);
    for (;;) {
        auto b = blocks.next();
        if (!b) {
            run.fail_with(b.error());
            break;
        }
        if (b->size() == 0) break;
        const std::size_t n = b->size(), held = b->capacity();
        blocks.passed(n);
        if (!run.submit(std::make_unique<command_piece>(run, std::move(*b), keep), held + keep)) break;
    }
    return run.finish();
}

}  // namespace cohort::stream::detail
