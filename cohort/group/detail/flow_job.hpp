// SPDX-License-Identifier: Apache-2.0
/// A job of kind flow: three processes of its own, and the commands that make its input and take its output.
#pragma once

#include <functional>

#include <cohort/group/detail/child.hpp>
#include <cohort/group/detail/job.hpp>

namespace cohort::group::detail {

/// `launch` starts a process on the job's CPUs. output_fd: where the consumer writes; below 0: the spec's output command takes the bytes. Whichever process fails or is killed, all have ended and the pool is in
/// order when it returns. Errors: the first failure's, by role; ECANCELED.
result<void> run_flow(const job_plan& job, const job_context& c, int output_fd, const std::vector<std::string>& environment, const std::function<result<child>(sys::spawn_request)>& launch);

}  // namespace cohort::group::detail
