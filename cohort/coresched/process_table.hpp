// SPDX-License-Identifier: Apache-2.0
/// Threads, processes and process groups with cookies, in memory, and prctl(PR_SCHED_CORE) on them by the kernel's rules.
///
///     cookie_table cookies;
///     process_table tasks(cookies);
///     int web = tasks.start({.uid = 7});                        // a process of one thread
///     int worker = tasks.clone(web);                            // another thread of it, with the first one's cookie
///     tasks.call(web, 1, 0, 1, 0);                              // by web: CREATE for its whole process
///     tasks.cookie_of(worker) == tasks.cookie_of(web);
///
/// Kernel: sched_core_share_pid, sched_core_fork, sched_core_free (kernel/sched/core_sched.c, v6.12); ptrace_may_access with PTRACE_MODE_READ_REALCREDS, as far as users and
/// dumpable go. Difference: what GET answers is the cookie's number, not a hash of an address.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/coresched/verbs.hpp>

namespace cohort::coresched {

struct process_options {
    int group = 0;            ///< process group; 0: one of its own
    unsigned uid = 0;
    bool dumpable = true;     ///< false: only the same process and root may look at it
    std::string name = {};
};

/// Not thread-safe.
class process_table {
public:
    /// cookies must outlive it. Each thread holds a reference to its cookie until it is reaped.
    explicit process_table(cookie_table& cookies) : cookies_(cookies) {}

    /// A kernel without CONFIG_SCHED_CORE; a machine on which no core has two CPUs online; memory that is used up.
    bool built_in = true, smt = true, no_memory = false;
    /// Called when a thread's cookie has changed: for who schedules them.
    std::function<void(int tid, cookie now)> on_change = {};

    struct thread {
        int process = 0, group = 0;
        unsigned uid = 0;
        bool dumpable = true, ended = false;
        std::string name = {};
        cookie tag = no_cookie;
    };

    /// A process that nobody has forked: without a cookie. Answers its first thread's number, which is the process's.
    int start(process_options o);
    /// With the cookie of the thread that does it. by: must be there.
    int fork(int by);
    int clone(int by);
    /// A thread has ended; its cookie is held until it is reaped.
    void exit(int tid);
    void reap(int tid);
    void set_uid(int tid, unsigned uid) { threads_.at(tid).uid = uid; }

    /// prctl(62, command, id, type, address) of the thread `by`. Answers the cookie's number for GET (whose address is looked at for its alignment and for null only), else 0.
    /// Errors: in the kernel's order: EINVAL, ENODEV, EINVAL, ESRCH, EPERM, EINVAL, EFAULT, ENOMEM.
    result<std::uint64_t> call(int by, int command, int id, int type, std::uintptr_t address);

    bool there(int tid) const { return threads_.contains(tid); }
    cookie cookie_of(int tid) const { return threads_.at(tid).tag; }
    /// Those that have not ended, by number.
    const std::map<int, thread>& threads() const { return threads_; }
    std::vector<int> threads_of(int process) const;

private:
    int add(thread t);
    void set(int tid, cookie c);
    bool may_look(int by, int at) const;
    std::vector<int> reached(int id, int type) const;

    cookie_table& cookies_;
    std::map<int, thread> threads_;
    int last_ = 1000;
};

/// The verbs for one thread of a table: what the engine's tasks and tests stand behind.
class table_verbs final : public verbs {
public:
    /// by: the caller of all verbs. Both must outlive it.
    table_verbs(process_table& table, int by, std::string name) : table_(table), by_(by), name_(std::move(name)) {}
    std::string name() const override { return name_; }
    result<cookie> get(int id) override;
    result<void> create(int id, scope whom) override { return act(1, id, whom); }
    result<void> share_to(int id, scope whom) override { return act(2, id, whom); }
    result<void> share_from(int id) override { return act(3, id, scope::thread); }
    /// By a process without a cookie that ends afterwards.
    result<void> clear(int id, scope whom) override;

private:
    result<void> act(int command, int id, scope whom);
    process_table& table_;
    const int by_;
    const std::string name_;
};

}  // namespace cohort::coresched
