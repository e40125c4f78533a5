// SPDX-License-Identifier: Apache-2.0
/// What a run can do with its blocks; pipe.cpp chooses.
#pragma once

#include <cohort/stream/detail/feed.hpp>
#include <cohort/stream/pipe.hpp>

namespace cohort::stream::detail {

/// far: its neighbours, if they are other processes.
result<pipe_report> run_compress(const pipe_options& options, sys::os& system, far_ends* far = nullptr);
result<pipe_report> run_decompress(const pipe_options& options, sys::os& system);
result<pipe_report> run_command(const pipe_options& options, sys::os& system, far_ends* far = nullptr);
/// far.function on each block.
result<pipe_report> run_function(const pipe_options& options, sys::os& system, far_ends& far);
/// Bytes of a block for a command, and of its output that are kept at once.
std::size_t command_block(const pipe_options& options);
std::size_t command_output(std::size_t block);

}  // namespace cohort::stream::detail
