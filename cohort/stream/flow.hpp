// SPDX-License-Identifier: Apache-2.0
/// A stream through three processes that a pool joins: producer -> workers -> consumer. Each record is a block of the input; its raw pointer goes from process to process, and nothing is copied between them.
///
///     auto f = flow::create(m, {.kind = codec::zstd, .workers = 2});      // m: a member of the pool (sharepool/member.hpp)
///     for (flow_role r : flow_roles) start(program, f->words(r, id));      // three programs that call flow_stage(), with COHORT_POOL_JOIN=id; the producer reads its standard input, the consumer writes its standard output
///     ... wait for the three, or end them when one has failed ...
///     flow_report done = f->finish();                                      // puts the pool in order, whoever was killed
///
/// Output is that of `pipe` with the same options, byte for byte: the producer cuts as its reader does, the workers are its own (a padata shell, in order).
/// Kernel: none.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/member.hpp>
#include <cohort/stream/codec.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::stream {

enum class flow_role { producer, workers, consumer };
inline constexpr std::array<flow_role, 3> flow_roles = {flow_role::producer, flow_role::workers, flow_role::consumer};
const char* role_name(flow_role r);

/// A value type. One of `kind` (a codec), `argv` (a command) and `plugin` (a library, flow_function.h) says what is done.
struct flow_options {
    std::optional<codec> kind = {};
    std::optional<int> level = {};
    std::vector<std::string> argv = {};  ///< one process for each block
    std::string plugin = {};
    bool records = false;                ///< blocks end where a record ends; not with a codec
    std::string separator = "\n";
    std::uint64_t block_bytes = 0;       ///< 0: as pipe_options::block_bytes
    int workers = 0;                     ///< 0: one for each CPU of the process
    std::uint64_t memory = 0;            ///< bytes of records in flight; 0: 64 MiB or more where the workers need it, at most half of the pool
    std::string name = "flow";
};

struct flow_stage_report {
    int pid = 0;                         ///< 0: it did not come so far
    std::uint64_t bytes = 0, records = 0;
    std::uint64_t waits = 0;             ///< times it slept because its neighbour was slower: producer and workers for room, consumer for work
    std::optional<error> why;            ///< it failed of this
    bool consequence = false;            ///< of another's end
};
struct flow_report {
    std::array<flow_stage_report, 3> stages;
    std::uint64_t blocks = 0;            ///< through the shell
    std::uint64_t in_flight = 0;         ///< records that may be in flight, and
    std::uint64_t in_flight_bytes = 0;   ///< their bytes
    std::uint64_t for_workers = 0, with_workers = 0, for_consumer = 0;  ///< records, now: in the queue to the workers, in their hands (less, at the end of the input, by the parts in which they are worked on), in the queue to the consumer
    std::uint64_t left = 0;              ///< objects that were freed after the processes had ended: records in queues, and what the dead owned

    const flow_stage_report& of(flow_role r) const { return stages[static_cast<std::size_t>(r)]; }
};

struct flow_shared;

/// What starts and ends a flow. A resource of one thread; finish() or the destructor puts the pool in order.
class flow {
public:
    /// Errors: EINVAL, options; ENOMEM, the pool is too small for such blocks (the reason says what it needs).
    static result<flow> create(sharepool::member& m, const flow_options& o);
    flow(flow&& f) noexcept;
    flow& operator=(flow&&) = delete;
    ~flow();

    /// What a stage's program hands to flow_stage(). It is to be in the group of that id from its start (share_pool::current()).
    std::vector<std::string> words(flow_role r, int group) const;
    /// As it stands; any time.
    flow_report now() const;
    /// Once all three processes have ended: what the dead left is put in order, records in queues are freed. A second call does nothing but report.
    flow_report finish();

private:
    flow(sharepool::member& m, const flow_options& o, flow_shared* s) : member_(&m), options_(o), shared_(s) {}
    sharepool::member* member_;
    flow_options options_;
    flow_shared* shared_;
    flow_report last_;
};

/// The whole program of a stage: `words` are those of flow::words(). Its exit code: 0, or 5 with the reason in the flow's report; 2 and 5 with the reason on standard error, where it did not come so far.
int flow_stage(std::span<const std::string> words, sys::os& system);

}  // namespace cohort::stream
