// SPDX-License-Identifier: Apache-2.0
/// Where a run's blocks come from: they are cut here, out of a file or pipe, or by another process (flow.hpp), by the same code.
#pragma once

#include <memory>
#include <string>

#include <cohort/stream/block.hpp>
#include <cohort/stream/detail/ends.hpp>
#include <cohort/stream/flow_function.h>
#include <cohort/stream/pipe.hpp>

namespace cohort::stream::detail {

/// One thread.
class block_feed {
public:
    struct block {
        buffer bytes;
        bool part = false;  ///< small already: goes on as it is
        bool end = false;   ///< there are no more; bytes is empty
    };
    virtual ~block_feed() = default;
    /// Errors: those of the input; EFBIG, a record over the limit.
    virtual result<block> next() = 0;
};

/// What a feed that cuts needs.
struct reading {
    source& in;
    int stop_fd;
    buffer_pool& buffers;
    std::uint64_t memory;  ///< of the run: a record may take half of it
};

/// The first block comes in parts of a quarter (of at least 1 MiB), the others whole; the last is shorter than a block, perhaps empty.
std::unique_ptr<block_feed> cut_blocks(const reading& r, std::size_t block);
/// Blocks that end where a record ends, if `records`; none of them empty.
std::unique_ptr<block_feed> cut_records(const reading& r, std::size_t block, bool records, std::string separator);
/// The parts of a block that cut_blocks makes.
std::size_t part_of(std::size_t block);

/// The ends of a run whose neighbours are other processes. Outlives the run.
struct far_ends {
    block_feed& feed;
    std::unique_ptr<outlet> out;
    memory_source& memory;
    std::string name;      ///< of the input
    cohort_flow_function function = nullptr;  ///< what is done with blocks; null: what the options say
};

}  // namespace cohort::stream::detail
