// SPDX-License-Identifier: Apache-2.0
/// The verbs of core scheduling, whoever carries them out: the kernel (control.hpp), the executor, the engine in memory.
///
///     result<void> apart(verbs& v, int a, int b) {
///         if (auto r = v.create(a, scope::process); !r) return r;     // all threads of a: a cookie that nobody else has
///         return v.create(b, scope::process);                         // and of b: another
///     }
///     v.share_to(b, scope::process);     // b's threads: the cookie of the calling thread
///     v.share_from(a);                   // the calling thread: that of a
///     v.clear(b, scope::process);        // b's threads: none
///
/// Kernel: prctl(PR_SCHED_CORE) with its four commands; clear is what it does when a thread without a cookie shares to others.
#pragma once

#include <string>

#include <cohort/base/error.hpp>
#include <cohort/coresched/cookie.hpp>

namespace cohort::coresched {

/// Whom a verb reaches from the thread that is named: it alone, its process, its process group. Numbers are the kernel's.
enum class scope { thread = 0, process = 1, process_group = 2 };

/// id: a thread's number, 0 the caller. The caller is the calling thread, save where the implementation names another.
/// Errors of all, in the order in which they are looked for: EINVAL, there is no such facility; ENODEV, no core has two CPUs online; ESRCH, no such thread; EPERM, one of the
/// threads is not the caller's to look at (with a scope of many none is changed then); ENOMEM.
/// Synchronization: any thread may call, where the implementation does not say otherwise.
class verbs {
public:
    virtual ~verbs() = default;

    /// "kernel", "executor", "engine": for reports.
    virtual std::string name() const = 0;
    /// A number that is equal for threads with equal cookies and 0 for those with none. It says nothing else, and is of this boot (or this object) only.
    virtual result<cookie> get(int id) = 0;
    virtual result<void> create(int id, scope whom) = 0;
    /// The caller's cookie. A caller without one takes it from the others, as the kernel does.
    virtual result<void> share_to(int id, scope whom) = 0;
    virtual result<void> share_from(int id) = 0;
    /// The caller keeps its own. Further error: EPERM, nobody without a cookie was found to share from.
    virtual result<void> clear(int id, scope whom) = 0;
};

}  // namespace cohort::coresched
