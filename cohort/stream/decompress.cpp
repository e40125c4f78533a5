// SPDX-License-Identifier: Apache-2.0
// The reader cuts the input where headers say that frames end; workers decode whole frames; the serial side writes them, decodes what is left
// (parts of large frames, foreign or damaged bytes) by streaming, and so knows at every moment what has been proved of the input.
#include <cohort/stream/codec.hpp>
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>
#include <cohort/stream/frames.hpp>

#include <algorithm>

namespace cohort::stream::detail {

namespace {

/// What the pieces of one run share.
struct decoding {
    codec kind;
    free_list<frame_decoder> idle;
    std::unique_ptr<stream_decoder> stream;  // [holder of the turn]
};

class decode_piece final : public piece {
public:
    decode_piece(ordered_run& r, decoding& d, buffer input, const cut& c) : piece(r), d_(d), in_(std::move(input)), cut_(c) {
        length = in_.size();
    }

    result<void> work() override {
        if (!cut_.whole) return {};
        auto decoder = d_.idle.take();
        if (!decoder) {
            auto made = frame_decoder::create(d_.kind);
            if (!made) return std::unexpected(made.error());
            decoder = std::move(*made);
        }
        out_ = run.buffers().take(std::max<std::size_t>(cut_.out_bound, 1));
        done_ = decoder->frames(in_.view(), out_.tail().first(std::max<std::size_t>(cut_.out_bound, 1)));
        out_.resize(done_.produced);
        d_.idle.give(std::move(decoder));
        return {};
    }

    result<void> emit() override {
        const byte_sink out = [this](byte_view content) { return run.write(content); };
        result<void> r;
        std::size_t used = 0;
        // A frame that began before this piece and has not ended makes what the worker found here a mistake.
        if (d_.stream->at_boundary() && done_.consumed) {
            r = run.write(out_.view());
            used = done_.consumed;
            d_.stream->skip_to(offset + used);
        }
        run.buffers().give(std::move(out_));
        if (r && used < in_.size()) {
            run.count_serial_block();
            r = d_.stream->feed(offset + used, in_.view().subspan(used), out);
        }
        run.buffers().give(std::move(in_));
        if (!r && r.error().object.empty()) r.error().object = run.in().name();
        return r;
    }

private:
    decoding& d_;
    buffer in_, out_;
    cut cut_;
    frame_decoder::done done_;
};

/// Input that has been read and not yet cut.
class pending_input {
public:
    explicit pending_input(std::size_t capacity) : bytes_(capacity) {}
    byte_view view() const { return bytes_.view().subspan(start_); }
    void drop(std::size_t n) { start_ += n; }
    /// Makes room for and reads more; answers how much came.
    result<std::size_t> more(ordered_run& run, std::size_t wanted) {
        if (start_ && (start_ == bytes_.size() || bytes_.room() < wanted)) {
            const byte_view rest = view();
            std::memmove(bytes_.data(), rest.data(), rest.size());
            bytes_.resize(rest.size());
            start_ = 0;
        }
        if (bytes_.room() < wanted) bytes_.reserve(bytes_.size() + wanted);
        auto n = run.fill(bytes_.tail().first(wanted));
        if (n) bytes_.resize(bytes_.size() + *n);
        return n;
    }

private:
    buffer bytes_;
    std::size_t start_ = 0;
};

/// Cuts and submits to the end of the input. Errors: those of the input.
result<void> cut_all(ordered_run& run, decoding& d, const cut_options& o) {
    cutter cuts(o);
    pending_input pending(2 * o.target_in);
    bool end = false;
    for (;;) {
        const cut here = cuts.next(pending.view(), end);
        if (here.length) {
            buffer in = run.buffers().take(here.length);
            in.append(pending.view().first(here.length));
            pending.drop(here.length);
            if (!run.submit(std::make_unique<decode_piece>(run, d, std::move(in), here), here.length + (here.whole ? here.out_bound : 0))) return {};
            continue;
        }
        if (end) return {};
        auto n = pending.more(run, o.target_in);
        if (!n) return std::unexpected(n.error());
        end = *n < o.target_in;
    }
}

}  // namespace

result<pipe_report> run_decompress(const pipe_options& options, sys::os& system) {
    cut_options o{.kind = *options.kind};
    // A frame has to fit several times over into what may be in flight, or the workers would wait for one another.
    const std::uint64_t memory = options.memory ? options.memory : usual_memory(1, 0);
    o.target_in = std::clamp<std::uint64_t>(options.block_bytes ? options.block_bytes : memory / 64, 4u << 10, 1u << 20);
    o.target_out = std::clamp<std::uint64_t>(memory / 16, 64u << 10, 8u << 20);
    o.max_in = std::max<std::uint64_t>(memory / 8, 64u << 10);
    o.max_out = std::max<std::uint64_t>(memory / 4, 128u << 10);
    o.max_window = std::max<std::uint64_t>(options.memory, 128u << 20);
    decoding d{.kind = o.kind, .idle = {}, .stream = nullptr};
    auto stream = stream_decoder::create({.kind = o.kind, .max_window = o.max_window});
    if (!stream) return std::unexpected(stream.error());
    d.stream = std::move(*stream);
    auto r = ordered_run::create(options, system, {.block_bytes = o.target_in, .piece_bytes = o.target_in + o.target_out});
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    if (auto all = cut_all(run, d, o); !all) run.fail_with(all.error());
    return run.finish([&]() -> result<void> {
        auto last = d.stream->finish();
        if (!last) last.error().object = run.in().name();
        return last;
    });
}

}  // namespace cohort::stream::detail
