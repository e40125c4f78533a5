// SPDX-License-Identifier: Apache-2.0
/// A process that tells others what its per-CPU allocators hold: what `cohort percpu stat PID` asks.
///
///     percpu::export_stats();                                 // or COHORT_PERCPU_STAT=1 in the environment
///     percpu::ask_stats(pid, true);                           // result<std::string>: JSON, from another process
///     percpu::process_stats_json();                           // of this one
///
/// Kernel: /sys/kernel/debug/percpu_stats. The way is a socket "cohort-percpu-PID" that serves the same user and root, from a thread that sleeps otherwise.
#pragma once

#include <string>

#include <cohort/base/error.hpp>

namespace cohort::percpu {

/// From now on, until the program ends. A second call does nothing. A forked child does not answer until it calls this itself.
/// Errors: EADDRINUSE, somebody else has taken this process's name; EAGAIN, no thread.
result<void> export_stats();

/// What the process answers, as text or JSON. Errors: ESRCH, there is no such process; EOPNOTSUPP, it does not answer such questions; EACCES, it is another user's;
/// EPROTO, the answer is cut short or who answered is not that process.
result<std::string> ask_stats(int pid, bool json);

/// Of all allocators of this process. JSON: {schema_version, pid, allocators: [those of allocator_stats::json()]}.
std::string process_stats_text();
std::string process_stats_json();

}  // namespace cohort::percpu
