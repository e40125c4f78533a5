// SPDX-License-Identifier: Apache-2.0
// Blocks through a function of a user's (flow_function.h), which is called on the block where it lies.
#include <cohort/stream/detail/modes.hpp>
#include <cohort/stream/detail/ordered_run.hpp>

#include <cstring>

namespace cohort::stream::detail {

namespace {

class function_piece final : public piece {
public:
    function_piece(ordered_run& r, cohort_flow_function f, buffer input, std::size_t keep) : piece(r), function_(f), in_(std::move(input)), keep_(keep) { length = in_.size(); }

    result<void> work() override {
        out_ = run.buffers().take(keep_);
        const int e = function_(in_.data(), in_.size(), &add, this);
        if (trouble_) return std::unexpected(std::move(*trouble_));
        if (e != 0) return fail(e, "plugin", "work on bytes " + std::to_string(offset) + "-" + std::to_string(offset + length - (length ? 1 : 0)), errno_text(e));
        run.buffers().give(std::move(in_));
        return {};
    }
    result<void> emit() override { return run.write_and_give(std::move(out_)); }

private:
    /// Output beyond what a piece may keep waits for its turn, as that of a command does. No exception may pass through the function.
    static int add(void* to, const void* bytes, std::size_t length) {
        auto& self = *static_cast<function_piece*>(to);
        byte_view rest(static_cast<const std::uint8_t*>(bytes), length);
        while (!rest.empty()) {
            if (self.out_.room() == 0) {
                if (!self.run.wait_for_turn(self.seq())) self.trouble_ = error_of(ECANCELED, "stopped");
                else if (auto r = self.run.write(self.out_.view()); !r) self.trouble_ = r.error();
                if (self.trouble_) return self.trouble_->code;
                self.out_.clear();
            }
            const byte_view now = rest.first(std::min(rest.size(), self.out_.room()));
            self.out_.append(now);
            rest = rest.subspan(now.size());
        }
        return 0;
    }
    static cohort::error error_of(int code, std::string reason) { return {code, "plugin", "run", std::move(reason)}; }

    const cohort_flow_function function_;
    buffer in_, out_;
    const std::size_t keep_;
    std::optional<cohort::error> trouble_;
};

}  // namespace

result<pipe_report> run_function(const pipe_options& options, sys::os& system, far_ends& far) {
    const std::size_t block = options.block_bytes, keep = command_output(block);
    auto r = ordered_run::create(options, system, {.block_bytes = block, .piece_bytes = block + keep}, &far);
    if (!r) return std::unexpected(r.error());
    ordered_run& run = **r;
    return run.all(far.feed, [&](buffer b) {
        const std::uint64_t held = b.capacity() + keep;
        return run.submit(std::make_unique<function_piece>(run, far.function, std::move(b), keep), held);
    });
}

}  // namespace cohort::stream::detail
