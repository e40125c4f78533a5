// SPDX-License-Identifier: Apache-2.0
/// The kernel's core scheduling: the verbs, and what they do not do by themselves: many targets at once, whole cgroups, clearing, a check beforehand, a report of what was changed.
///
///     coresched::control kernel(os);
///     if (auto a = coresched::facility(os); !a.there()) return say(a.why);     // "CONFIG_SCHED_CORE is not set in kernel 6.1.0-43-amd64"
///     kernel.create(4711, scope::process);                                    // its threads share with nobody else now
///     auto r = coresched::tag(os, {.what = origin::fresh}, {.cgroups = {"/sys/fs/cgroup/web"}});
///     if (r.failure) say(r.failure->line(), r.changed);                        // which thread, which errno; what has been changed before it
///     coresched::tag(os, {.what = origin::none}, {.ids = {4711}});             // clears
///
/// Kernel: prctl(PR_SCHED_CORE), kernel/sched/core_sched.c (v6.12); util-linux coresched(1).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/coresched/verbs.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::coresched {

/// Whether the kernel has the facility, and what speaks against its use.
struct availability {
    int code = 0;                        ///< 0: it is there; EINVAL: the kernel is built without it; ENODEV: no core has two CPUs online; another: it is kept from us
    std::string why = {};                ///< of the code, in words
    std::vector<std::string> dangers = {};   ///< cookies can stop this machine, and why
    std::vector<std::string> notes = {};     ///< what else to know
    bool there() const { return code == 0; }
    bool safe() const { return dangers.empty(); }
};
/// Changes nothing.
availability facility(sys::os& os);

/// The verbs on the running kernel. The caller is the calling thread. Synchronization: any thread. os must outlive it.
/// Errors: the kernel's, with the reason in words. EPERM: one of the threads may not be looked at by the caller (ptrace, read); of many none was changed.
class control final : public verbs {
public:
    explicit control(sys::os& os) : os_(os) {}
    std::string name() const override { return "kernel"; }
    result<cookie> get(int id) override;
    result<void> create(int id, scope whom) override;
    result<void> share_to(int id, scope whom) override;
    result<void> share_from(int id) override;
    /// Shares from a thread without a cookie: the caller, or one that is found among its process, its parents and all others. Cost: /proc is read where the caller has one.
    result<void> clear(int id, scope whom) override;

private:
    result<std::uint64_t> call(sys::core_command command, int id, scope whom);
    sys::os& os_;  // [const after init]
};

/// Where a cookie comes from.
enum class origin { fresh, of, none };
struct source {
    origin what = origin::fresh;
    int id = 0;                               ///< of: whose; 0: the caller's
    cookie expected = no_cookie;              ///< of: not 0: the number that its cookie must have (ESTALE otherwise)
};

/// Threads that shall get it.
struct targets {
    std::vector<int> ids = {};
    scope whom = scope::process;              ///< of each id
    std::vector<std::string> cgroups = {};    ///< directories of a cgroup hierarchy; with all that is below
};

struct tag_options {
    bool dry_run = false;                     ///< looks at everything that would be changed, and changes nothing
    bool even_if_unsafe = false;              ///< goes on where facility() tells of dangers
    int most_rounds = 1000;                   ///< looks for new threads, until none is found
};

/// One thread.
struct tagged {
    int id = 0, pid = 0;
    std::string name = {};
    cookie before = no_cookie, after = no_cookie;
};

struct tag_report {
    std::optional<error> failure = {};        ///< nothing: every target has the cookie
    int failed_id = 0;                        ///< the thread (or process) the failure is about; 0: none in particular
    bool unsupported = false;                 ///< the failure: there is no such facility here, or it is not safe
    cookie value = no_cookie;                 ///< the cookie's number; 0 after clearing and after a dry run
    std::vector<tagged> changed = {};         ///< dry run: what would be
    std::vector<tagged> already = {};         ///< had it before
    std::vector<int> gone = {};               ///< ended meanwhile
    int rounds = 0;
    bool ok() const { return !failure; }
};

/// Gives one cookie to all of them: first looks at every thread (so that a lack of permission is found before anything is changed), then changes, then looks again until no
/// thread is new and all have it. An id that is not there is a failure (ESRCH), one that ends meanwhile is not. The caller's own cookie stays.
/// Failures besides the verbs': ENOENT, no such cgroup; EAGAIN, threads come faster than they are tagged; EOPNOTSUPP, not safe here.
tag_report tag(sys::os& os, const source& from, const targets& whom, const tag_options& o = {});

/// The thread takes a cookie for itself: what a launcher does before it becomes the program. Errors: those of the verbs; EINVAL, the source has none; EOPNOTSUPP, not safe here.
result<cookie> take(sys::os& os, const source& from, const tag_options& o = {});

/// Threads by cookie.
struct holder_list {
    std::vector<tagged> threads = {};         ///< those with a cookie (before == after), by cookie, then number
    std::size_t untagged = 0;
    std::size_t hidden = 0;                   ///< not ours to look at
};
/// All threads of the machine, or of these cgroups. Errors: those of facility(); ENOENT.
result<holder_list> list(sys::os& os, const std::vector<std::string>& cgroups = {});

/// "/sys/fs/cgroup/web", or a path in a mounted hierarchy ("/web", "web") -> the directory. Errors: ENOENT.
result<std::string> cgroup_directory(sys::os& os, const std::string& text);

}  // namespace cohort::coresched
