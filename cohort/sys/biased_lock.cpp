// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/biased_lock.hpp>

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>

namespace cohort::sys {

namespace detail {

namespace {

spinlock pool_lock;
bias_slot* pool = nullptr;  // [guarded: pool_lock]

/// Gives the slot back when its thread ends; locks taken after that (by other thread_local objects) go the slow way.
struct slot_holder {
    bias_slot* slot = nullptr;
    bool ended = false;
    ~slot_holder() {
        ended = true;
        my_slot = nullptr;
        if (!slot) return;
        spin_guard hold(pool_lock);
        slot->next_free = pool;
        pool = slot;
    }
};
thread_local slot_holder holder;

}  // namespace

bias_slot* take_bias_slot() noexcept {
    if (!has_asymmetric_fence() || holder.ended) return nullptr;
    if (!holder.slot) {
        {
            spin_guard hold(pool_lock);
            holder.slot = pool;
            if (pool) pool = pool->next_free;
        }
        if (!holder.slot) holder.slot = new (std::nothrow) bias_slot;
    }
    return holder.slot;
}

}  // namespace detail

bool has_asymmetric_fence() noexcept {
    // Signal handlers ask, too: no guard, whose holder the handler may have interrupted. Registering twice does no harm.
    static constinit std::atomic<signed char> answer{-1};
    signed char known = answer.load(std::memory_order_relaxed);
    if (known < 0) {
        known = ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
        answer.store(known, std::memory_order_relaxed);
    }
    return known > 0;
}

namespace {
[[maybe_unused]] const bool asked_early = has_asymmetric_fence();  // it is dearer once there are threads
}

void barrier_on_all_threads() noexcept { ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

void biased_lock::lock_slow() noexcept {
    spin_.lock();
    if (detail::bias_slot* o = owner_.load(std::memory_order_relaxed)) {
        owner_.store(nullptr, std::memory_order_seq_cst);
        streak_ = 0;
        // Even when we are the owner: we are not inside, or we would not be here; then nothing has to be waited for.
        if (o != detail::my_slot) {
            barrier_on_all_threads();
            // acquire: pairs with [release: unlock] of the owner.
            for (int i = 0; o->inside.load(std::memory_order_acquire) == this; ++i) {
                if (i < 64) cpu_relax();
                else yield_thread();
            }
        }
    }
    const void* me = static_cast<const void*>(&detail::my_slot);  // its address is this thread's
    streak_ = last_ == me ? streak_ + 1 : 0;
    last_ = me;
    if (streak_ < streak_for_bias) return;
    streak_ = 0;
    if (!detail::my_slot) detail::my_slot = detail::take_bias_slot();
    // The bias holds from the next lock() on; this one still ends by spin_.
    // seq_cst: pairs with [seq_cst: biased].
    owner_.store(detail::my_slot, std::memory_order_seq_cst);
}

}  // namespace cohort::sys
