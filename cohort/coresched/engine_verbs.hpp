// SPDX-License-Identifier: Apache-2.0
/// The tasks of an engine as threads of processes: the verbs change their cookies, by the kernel's rules, and the engine schedules them so.
///
///     engine e(machine);
///     engine_threads threads(e);
///     const task_id a = e.add({.name = "a"}), b = e.add({.name = "b"});
///     const int pa = threads.start(a, {.uid = 7}), pb = threads.start(b, {.uid = 7});
///     table_verbs v = threads.by(pa);                   // what a calls
///     v.create(0, scope::process);
///     v.share_to(pb, scope::thread);                    // e.cookie_of(a) == e.cookie_of(b)
///
/// Kernel: kernel/sched/core_sched.c (v6.12), as process_table.hpp says.
#pragma once

#include <map>

#include <cohort/coresched/engine.hpp>
#include <cohort/coresched/process_table.hpp>

namespace cohort::coresched {

/// Not thread-safe, as the engine. The engine must outlive it.
class engine_threads {
public:
    explicit engine_threads(engine& e) : engine_(e), table_(e.cookies()) {
        table_.on_change = [this](int tid, cookie now) {
            if (const auto it = tasks_.find(tid); it != tasks_.end()) engine_.set_cookie(it->second, now);
        };
    }
    engine_threads(const engine_threads&) = delete;
    engine_threads& operator=(const engine_threads&) = delete;

    /// A task as a process of one thread, or (of: not 0) as another thread of that one's process. Answers the thread's number. The task gets the thread's cookie.
    int start(task_id t, process_options o) { return add(table_.start(std::move(o)), t); }
    int clone(task_id t, int of) { return add(table_.clone(of), t); }
    /// The task ends, and its thread is reaped.
    void exit(int tid) {
        table_.exit(tid);
        table_.reap(tid);
        engine_.exit(tasks_.at(tid));
        tasks_.erase(tid);
    }
    process_table& table() { return table_; }
    /// What thread `tid` calls. Valid as long as this is.
    table_verbs by(int tid) { return {table_, tid, "engine"}; }

private:
    int add(int tid, task_id t) {
        tasks_[tid] = t;
        engine_.set_cookie(t, table_.cookie_of(tid));
        return tid;
    }
    engine& engine_;
    process_table table_;
    std::map<int, task_id> tasks_;
};

}  // namespace cohort::coresched
