// SPDX-License-Identifier: Apache-2.0
/// What a run can do with its blocks; pipe.cpp chooses.
#pragma once

#include <cohort/stream/pipe.hpp>

namespace cohort::stream::detail {

result<pipe_report> run_compress(const pipe_options& options, sys::os& system);
result<pipe_report> run_decompress(const pipe_options& options, sys::os& system);
result<pipe_report> run_command(const pipe_options& options, sys::os& system);

}  // namespace cohort::stream::detail
