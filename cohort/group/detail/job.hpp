// SPDX-License-Identifier: Apache-2.0
/// One job from its first process to the name of its output.
#pragma once

#include <functional>
#include <stop_token>

#include <cohort/account/charged.hpp>
#include <cohort/group/detail/holder.hpp>
#include <cohort/group/detail/usage.hpp>
#include <cohort/group/run.hpp>

namespace cohort::group::detail {

class pool;

struct job_context {
    sys::os& os;
    const run_options& options;
    std::stop_token stop;
    const plan& what;                                                 // it is a job of
    const cohort_plan& cohort;
    work::gate* gate;                                                 // its pipes pass it; null: none
    holder& hold;                                                     // of commands that no set of the kernel's holds
    usage& use;                                                       // what the job is seen to use, as job `index`
    std::size_t index;
    detail::pool* pool;                                                    // the job's cohort is in; null: none
    account::group payer;                                             // of the job's cohort; none: no limit
    int stop_fd;                                                      // readable or hung up once stop is requested
    std::function<void(const std::function<void(job_report&)>&)> update;  // changes the shared report under its lock
};

/// Runs the job and leaves its final state in the report. Blocks; called by a thread of the job's own.
void run_job(const job_plan& job, const job_context& context);

}  // namespace cohort::group::detail
