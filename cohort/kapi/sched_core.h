// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for core scheduling's system call, over cohort/coresched: code that is written to prctl(2)'s page compiles with older headers, and against other carriers.
///
///     if (sched_core_share_pid(PR_SCHED_CORE_CREATE, pid, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0)) return -errno;      // negative errno, as in the kernel
///     unsigned long long cookie;
///     sched_core_share_pid(PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, (unsigned long)&cookie);
///     sched_core_use(&executor);                             // from now on: these verbs; NULL: the running kernel
///
/// Kernel: include/uapi/linux/prctl.h, kernel/sched/core_sched.c: sched_core_share_pid (v6.12). Difference: the caller is the calling thread of the carrier that was chosen.
#pragma once

#include <cohort/coresched/verbs.hpp>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_GET 0
#define PR_SCHED_CORE_CREATE 1
#define PR_SCHED_CORE_SHARE_TO 2
#define PR_SCHED_CORE_SHARE_FROM 3
#define PR_SCHED_CORE_MAX 4
#endif
#ifndef PR_SCHED_CORE_SCOPE_THREAD
#define PR_SCHED_CORE_SCOPE_THREAD 0
#define PR_SCHED_CORE_SCOPE_THREAD_GROUP 1
#define PR_SCHED_CORE_SCOPE_PROCESS_GROUP 2
#endif

/// 0 or a negative errno, in prctl's order: -EINVAL (a kernel without it), -ENODEV, -EINVAL (type, cmd, a negative pid, an address where none belongs), -ESRCH, -EPERM, -EINVAL
/// (GET, SHARE_FROM of more than a thread; an address that is not a multiple of 8), -EFAULT (GET into null), -ENOMEM. pid 0: the calling thread.
int sched_core_share_pid(unsigned int cmd, int pid, int type, unsigned long uaddr);

/// Who carries the verbs out from now on, in the whole program; it must outlive their use. NULL: the running kernel.
void sched_core_use(cohort::coresched::verbs* carrier);
