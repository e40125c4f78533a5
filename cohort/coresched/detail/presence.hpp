// SPDX-License-Identifier: Apache-2.0
/// Where the calling thread is: the tasks it runs, one inside the other, and the rooms it has entered for the innermost.
///
///     [web: away] -> [db: inside room 3, place 1]        a task of web runs one of db, and has left its room for that
///
/// A worker that has run a task stays inside between tasks (depth 0), so that the next one costs a look, until it must go or finds nothing more to run.
#pragma once

#include <cstdint>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/coresched/detail/books.hpp>
#include <cohort/coresched/detail/room.hpp>
#include <cohort/coresched/executor.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::coresched {

namespace detail {

/// What a room runs on; a test has another.
struct machine_platform {
    using lock = sys::spinlock;
    using guard = sys::spin_guard;
    template <class T>
    using atomic = std::atomic<T>;
    using books = detail::books;
    static std::uint64_t now() { return sys::real().now(); }
    static void sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t timeout_ns) { sys::futex_wait(word, expected, timeout_ns); }
    static void wake(std::atomic<std::uint32_t>& word) { sys::futex_wake(word, 1); }
    template <class T>
    static void relax(const std::atomic<std::uint32_t>&, const std::atomic<T>&) {
        sys::cpu_relax();
    }
};
using core_room = room<machine_platform>;

}  // namespace detail

class executor::impl {
public:
    struct core {
        core(cpumask of, detail::room_options o) : cpus(std::move(of)), room(o, cpus.weight()) {}
        const cpumask cpus;
        detail::core_room room;
    };
    struct seat {
        core* at = nullptr;  // null: a CPU that shares its core with none
        int place = -1;
    };

    explicit impl(executor_options o);
    seat seat_of(int cpu) const { return cpu >= 0 && cpu < static_cast<int>(seats_.size()) ? seats_[static_cast<std::size_t>(cpu)] : seat{}; }

    result<std::vector<tenant*>> whom(const executor& e, const char* act, int id, scope reach) COHORT_REQUIRES(lock_);
    cookie tag_of(const tenant* t) const COHORT_REQUIRES(lock_);
    void give(const std::vector<tenant*>& to, cookie c) COHORT_REQUIRES(lock_);

    const std::uint64_t number_;                 // [const after init] no other executor of this process ever had it
    const executor_options options_;
    std::vector<std::unique_ptr<core>> cores_;   // [const after init] those with siblings
    std::vector<seat> seats_;                    // [const after init] by CPU
    mutable mutex lock_;
    cookie_table cookies_ COHORT_GUARDED_BY(lock_);
    std::vector<tenant*> tenants_ COHORT_GUARDED_BY(lock_);  // by id - 1; null: gone
    cookie outside_ COHORT_GUARDED_BY(lock_) = no_cookie;    // of callers that run no task
    std::atomic<std::uint64_t> astray_{0}, wide_{0};         // [stats]
};

/// Of one thread; no other looks at it.
struct presence {
    struct visit {
        tenant* who;
        cookie tag;
        int cpu;
        int depth = 1;       // 0: between tasks
        int away = 0;        // reasons why it has left: it waits, or runs a task of another cookie
        bool rides = false;  // inside by the visit below, which has the same cookie
        bool stays = false;  // between tasks
    };
    struct entry {
        executor::impl::core* at;
        int place;
        detail::core_room::ticket ticket;
    };

    static presence& here();

    void enter(tenant& t, int cpu);
    void leave(tenant& t);
    void rest(tenant& t);
    void attach(tenant& t, int cpu);
    bool may_run(tenant& t, int cpu);
    void safepoint();
    void go_away();
    void come_back();
    bool inside() const { return !visits_.empty() && visits_.back().depth > 0; }
    tenant* runs_for(const executor& e) const;

private:
    void come_in(visit& v);
    void go_out();
    void look(executor::impl& e, int cpu, std::uint64_t now);
    bool sits_right() const;
    bool must_go() const;
    executor::impl& of(const visit& v) const { return v.who->executor_.internals(); }

    std::vector<visit> visits_;
    std::vector<entry> entries_;                      // of the innermost visit that is not away
    // Where this thread may run, as of looked_at_.
    std::vector<executor::impl::core*> reach_;
    std::uint64_t looked_for_ = 0;                    // the executor's number: another may stand at its address later
    int looked_cpu_ = -1;
    std::uint64_t looked_at_ = 0;
    tenant* resident_of_ = nullptr;                   // it is a worker of this tenant's set
};

}  // namespace cohort::coresched
