// SPDX-License-Identifier: Apache-2.0
/// A stream through a codec or a command, in parallel, its output in the order of its input.
///
///     pipe_options o{.input_path = "in.tar", .output_path = "in.tar.zst", .kind = codec::zstd};
///     result<pipe_report> r = run_pipe(o, sys::real());
///     if (!r) return fail_with(r.error());        // nothing stands under the name in.tar.zst
///     pipe_options tr{.argv = {"tr", "0-9", "a-j"}, .records = true};      // standard input to standard output
///
/// Kernel: what pcrypt does to packets with padata: a reader submits, workers transform, the serial side sends on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>
#include <cohort/stream/codec.hpp>
#include <cohort/stream/look.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/work/gate.hpp>

namespace cohort::stream {

struct pipe_progress {
    std::uint64_t bytes_in = 0;                  ///< input whose output has been written
    std::uint64_t bytes_out = 0;
    std::optional<std::uint64_t> bytes_total;    ///< of the input, where it is a file
};

/// A value type. One of `kind` (a codec) and `argv` (a command) says what is done; both or none: EINVAL.
struct pipe_options {
    std::string input_path = {};   ///< empty: input_fd
    int input_fd = 0;              ///< borrowed
    std::string output_path = {};  ///< empty: output_fd
    int output_fd = 1;             ///< borrowed
    bool force = false;            ///< an existing output file is replaced, in one step and at the end
    bool sync = false;             ///< the output file reaches the disk before it gets its name

    std::optional<codec> kind = {};
    std::optional<int> level = {};
    bool decompress = false;

    std::vector<std::string> argv = {};         ///< one process for each block
    bool records = false;                       ///< blocks end where a record ends
    std::string separator = "\n";
    std::vector<std::string> environment = {};  ///< added to the command's
    std::string directory = {};                 ///< the command's; empty: the caller's

    std::optional<cpumask> cpus = {};         ///< padata's parallel mask; unset: every CPU this process may use
    std::optional<cpumask> serial_cpus = {};  ///< padata's serial mask
    std::optional<cpumask> reader_cpus = {};  ///< the calling thread is kept there while it reads, where that can be; unset: where it is
    int workers = 0;                          ///< 0: one for each CPU
    /// Input bytes per block, 1 .. 1 GiB; 0: what suits the codec. The output of a codec depends on it, and on no other option but level.
    std::uint64_t block_bytes = 0;
    /// Bytes of blocks in flight; 0: 64 MiB, or more where the workers need it. One block is always let in. Blocks are charged to the calling thread's
    /// current group (account::scope), in flight and idle; at its limit the run ends with ENOMEM.
    std::uint64_t memory = 0;
    work::gate* gate = nullptr;               ///< around each job; outlives the call
    std::string name = "pipe";                ///< of the padata instance
    /// Masks from outside while it runs (padata/control.hpp): unset: no; empty: in the default place, where one that cannot be made is no error; else this
    /// directory. on_control, where it is set, is told it once it is there; where it cannot be made a note says why.
    std::optional<std::string> control = {};
    std::function<void(const std::string& directory)> on_control = {};
    pipe_look* look = nullptr;                ///< answers while it runs; outlives the call
    std::chrono::nanoseconds stuck_after{0};  ///< a block that holds the others up for so long is told on stderr and in the report; 0: none is

    std::function<void(const pipe_progress&)> progress = {};       ///< about ten times a second, from any thread, one call at a time
    std::function<void(const std::string&)> note = {};             ///< what a person should know and is no error; as progress
    std::stop_token stop = {};                                     ///< ends the run with ECANCELED
};

/// Of blocks, from the reader's hands to the output, the wait for room, for a worker and for the turn included: seconds, to within 1/32.
struct block_latency {
    double p50 = 0, p99 = 0, max = 0;
};

struct pipe_report {
    std::uint64_t bytes_in = 0, bytes_out = 0;
    std::uint64_t blocks = 0;           ///< jobs that went through the shell
    std::uint64_t serial_blocks = 0;    ///< parts of large or foreign frames, decoded on the serial side
    std::uint64_t unread_blocks = 0;    ///< commands that ended well without reading all of their block
    std::uint64_t ordered = 0;          ///< completions that came in the order of the input: all of them, or the run fails
    int workers = 0;
    double seconds = 0;
    double cpu_seconds = 0;             ///< of this process
    double work_cpu_seconds = 0;        ///< of the blocks' work and writing in this process: this run's alone, without the reader
    double child_cpu_seconds = 0;       ///< of the commands
    std::uint64_t block_bytes = 0, memory = 0;
    std::uint64_t window = 0;           ///< blocks that may be in flight, besides the limit in bytes
    std::uint64_t waits = 0;            ///< times the reader waited for room
    block_latency latency;
    std::string stuck;                  ///< the block that held all others up for longer than stuck_after, the last of them; empty: none did
    std::string input, output;          ///< as a person calls them
};

/// Runs to the end of the input. The process must ignore SIGPIPE (or block it in every thread): a reader that goes away is then the error EPIPE.
/// Errors: EINVAL (options); EBADMSG, the input is damaged, cut off or foreign, with the byte; EEXIST, the output file is there; ECANCELED; ECHILD, a
/// command failed; those of the system. After any error no output file has appeared or changed; what went to a pipe has gone, and is a true beginning
/// of the output.
/// Memory: `memory`, the codec's contexts (a worker each), and for the decoding of large frames their window.
result<pipe_report> run_pipe(const pipe_options& options, sys::os& system);

/// The default of pipe_options::memory for so many workers and such blocks.
std::uint64_t usual_memory(int workers, std::uint64_t bytes_per_block);

}  // namespace cohort::stream
