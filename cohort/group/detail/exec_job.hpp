// SPDX-License-Identifier: Apache-2.0
/// A job of kind exec: a command, once or in several instances, each started again when it has ended if the spec says so.
#pragma once

#include <functional>

#include <cohort/group/detail/child.hpp>
#include <cohort/group/detail/job.hpp>

namespace cohort::group::detail {

/// What of a job's owner it needs.
struct exec_hands {
    std::vector<std::string> environment;                           // of every process of the job
    std::function<result<int>(const std::string&)> add_output;      // a descriptor of the file, which stays open to the end of the job
    std::function<result<child>(sys::spawn_request)> launch;        // a process on the job's CPUs
};

/// Returns once every instance has ended and is not to be started again. What an instance writes follows what it wrote before it was started again; its input begins anew.
/// Errors: the first failure's, by instance; ECANCELED.
result<void> run_exec(const job_plan& job, const job_context& c, const exec_hands& hands);

}  // namespace cohort::group::detail
