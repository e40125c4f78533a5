// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/pipe.hpp>

#include <cohort/stream/block.hpp>
#include <cohort/stream/detail/modes.hpp>

namespace cohort::stream {

namespace {

/// What is wrong with the options by themselves; everything else is found by opening.
result<void> check(const pipe_options& o) {
    const auto bad = [](std::string act, std::string reason) { return fail(EINVAL, "pipe", std::move(act), std::move(reason)); };
    if (o.kind.has_value() == !o.argv.empty()) return bad("choose", "one of a codec and a command is needed, not both");
    if (!o.argv.empty() && o.argv[0].empty()) return bad("choose a command", "its name is empty");
    if (!o.kind && o.decompress) return bad("decompress", "there is no codec");
    if (o.level && (!o.kind || o.decompress)) return bad("set a level", "only compression has levels");
    if (o.records && o.argv.empty()) return bad("split at records", "only blocks for a command are split");
    if (o.records && o.separator.empty()) return bad("split at records", "the separator is empty");
    if (o.workers < 0) return bad("set the number of workers", std::to_string(o.workers) + " is negative");
    const std::uint64_t most = o.kind ? largest_block(*o.kind) : std::uint64_t{1} << 30;
    if (o.block_bytes > most) return bad("set the block size", std::to_string(o.block_bytes) + " is over " + std::to_string(most));
    return {};
}

}  // namespace

result<pipe_report> run_pipe(const pipe_options& options, sys::os& system) {
    if (auto ok = check(options); !ok) return std::unexpected(ok.error());
    try {
        if (!options.kind) return detail::run_command(options, system);
        return options.decompress ? detail::run_decompress(options, system) : detail::run_compress(options, system);
    } catch (const over_limit& e) {
        return std::unexpected(e.why);
    } catch (const std::bad_alloc&) {
        return fail(ENOMEM, "pipe", "hold a block", "no memory; a smaller block or memory limit may do");
    }
}

}  // namespace cohort::stream
