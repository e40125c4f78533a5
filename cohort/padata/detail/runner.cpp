// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/detail/runner.hpp>

#include <cohort/base/mutex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::padata::detail {
namespace {

struct registry {
    mutex lock;
    runner* first COHORT_GUARDED_BY(lock) = nullptr;
};

/// Never destroyed: threads may end after the program's static objects.
registry& list() {
    static registry* const all = new registry;
    return *all;
}

/// Takes its thread's runner off the list when the thread ends.
struct leaver {
    runner* mine = nullptr;
    ~leaver() {
        if (!mine) return;
        registry& all = list();
        const lock_guard hold(all.lock);
        (mine->prev ? mine->prev->next : all.first) = mine->next;
        if (mine->next) mine->next->prev = mine->prev;
    }
};

thread_local leaver at_end;

}  // namespace

/// Once: a callback that runs in a destructor of the thread's, after the runner has left, is not shown.
void runner::join() {
    known = true;
    thread = sys::thread_id();
    registry& all = list();
    at_end.mine = this;
    const lock_guard hold(all.lock);
    next = all.first;
    if (next) next->prev = this;
    all.first = this;
}

std::vector<runner::snapshot> runner::all() {
    std::vector<snapshot> out;
    registry& threads = list();
    const lock_guard hold(threads.lock);
    for (const runner* r = threads.first; r; r = r->next) {
        for (const level& l : r->levels) {
            // acquire: what was written before it. Pairs with [release: frame].
            const void* shell = l.shell.load(std::memory_order_acquire);
            if (!shell) continue;
            out.push_back({shell, l.from.load(std::memory_order_relaxed), l.seq.load(std::memory_order_relaxed), l.cpu.load(std::memory_order_relaxed), r->thread,
                           l.serial.load(std::memory_order_relaxed)});
        }
    }
    return out;
}

}  // namespace cohort::padata::detail
