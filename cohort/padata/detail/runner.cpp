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

}  // namespace

/// Takes its thread's runner off the list when the thread ends.
struct leaver {
    runner* mine = nullptr;
    ~leaver() {
        if (!mine) return;
        registry& all = list();
        const lock_guard hold(all.lock);
        (mine->prev_ ? mine->prev_->next_ : all.first) = mine->next_;
        if (mine->next_) mine->next_->prev_ = mine->prev_;
    }
};

namespace {
thread_local leaver at_end;
}

/// Once: a callback that runs in a destructor of the thread's, after the runner has left, is not shown.
void runner::join() {
    known_ = true;
    thread_ = sys::thread_id();
    registry& all = list();
    at_end.mine = this;
    const lock_guard hold(all.lock);
    next_ = all.first;
    if (next_) next_->prev_ = this;
    all.first = this;
}

std::vector<runner::snapshot> runner::all() {
    std::vector<snapshot> out;
    registry& threads = list();
    const lock_guard hold(threads.lock);
    for (const runner* r = threads.first; r; r = r->next_) {
        for (const level& l : r->levels_) {
            // acquire: what was written before it. Pairs with [release: mark].
            const void* shell = l.shell.load(std::memory_order_acquire);
            if (!shell) continue;
            out.push_back({shell, l.from.load(std::memory_order_relaxed), l.seq.load(std::memory_order_relaxed), l.cpu.load(std::memory_order_relaxed), r->thread_,
                           l.serial.load(std::memory_order_relaxed)});
        }
    }
    return out;
}

}  // namespace cohort::padata::detail
