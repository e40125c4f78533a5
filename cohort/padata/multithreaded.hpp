// SPDX-License-Identifier: Apache-2.0
/// A multithreaded job: one range of units, cut into chunks that the caller and helpers work through together.
///
///     padata::mt_job clear{.run = [&](std::size_t b, std::size_t e) { zero(b, e); return 0; }, .start = 0, .size = pages, .min_chunk = 512};
///     if (auto r = padata::do_multithreaded(*inst, clear); !r) report(r.error());
///
/// Kernel: struct padata_mt_job, padata_do_multithreaded (kernel/padata.c, v6.12). Differences: an error stops the job and is returned, with undo of
/// what was done; it may be cancelled; callable at any time from any thread, also nested.
#pragma once

#include <cstddef>
#include <functional>
#include <stop_token>

#include <cohort/base/error.hpp>
#include <cohort/padata/instance.hpp>

namespace cohort::padata {

/// A value type; not changed by the call.
struct mt_job {
    /// Called with [begin, end) in absolute units, from several threads at once. Returns 0 or an errno (positive or negative) that stops the job.
    std::function<int(std::size_t begin, std::size_t end)> run = {};
    /// Called, after an error, an exception or a cancel, by the caller's thread for each maximal range that run() finished with 0. May be empty.
    std::function<void(std::size_t begin, std::size_t end)> undo = {};
    std::size_t start = 0, size = 0;  ///< units; start + size must not overflow
    std::size_t align = 1;            ///< chunk boundaries are multiples of it (save the first and last); 0 counts as 1
    std::size_t min_chunk = 1;        ///< no chunk smaller (save the first and last); 0 counts as 1
    std::size_t max_chunk = 0;        ///< no chunk larger; 0: the kernel's rule, a quarter of a thread's share
    int max_threads = 0;              ///< with the caller; 0: as many as the parallel mask has CPUs
    bool numa_aware = false;          ///< helpers are spread over memory nodes, in turn
    std::stop_token stop = {};        ///< cancel: no new chunk starts
};

/// Runs the job and returns when every chunk is finished and no helper touches it. size 0: nothing is called, success.
/// Errors: what run() returned first (as a positive errno); ECANCELED; EOVERFLOW (start + size); EINVAL (no run, max_threads < 0). An exception of run() is
/// rethrown here after undo. Cost: launch under half a microsecond with spinning workers; one call per chunk.
result<void> do_multithreaded(instance& inst, const mt_job& job);

}  // namespace cohort::padata
