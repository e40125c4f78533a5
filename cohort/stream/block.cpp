// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/block.hpp>

namespace cohort::stream {

/// The oldest first: sizes asked for change over a run, and old ones would stay for ever. lock_ is held.
void buffer_pool::drop_idle(std::vector<buffer>& dropped) {
    while (!idle_.empty() && held_ > limit_) {
        held_ -= idle_.front().capacity();
        dropped.push_back(std::move(idle_.front()));
        idle_.erase(idle_.begin());
    }
}

/// Idle buffers of the wrong size must not keep the group at its limit.
void buffer_pool::drop_all_idle() {
    std::vector<buffer> dropped;
    std::scoped_lock hold(lock_);
    for (buffer& b : idle_) held_ -= b.capacity();
    dropped.swap(idle_);
}

buffer buffer_pool::take(std::size_t capacity) {
    std::vector<buffer> dropped;  // freed after the lock is left
    {
        std::scoped_lock hold(lock_);
        std::size_t best = idle_.size();
        for (std::size_t i = idle_.size(); i-- > 0;) {
            const std::size_t c = idle_[i].capacity();
            if (c < capacity || c / 4 > capacity) continue;
            if (best == idle_.size() || c < idle_[best].capacity()) best = i;
        }
        if (best != idle_.size()) {
            buffer b = std::move(idle_[best]);
            idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(best));
            b.clear();
            return b;
        }
        held_ += capacity;
        drop_idle(dropped);
    }
    dropped.clear();
    try {
        return buffer(capacity, payer_, from_);
    } catch (const over_limit&) {
        drop_all_idle();
    }
    return buffer(capacity, payer_, from_);
}

void buffer_pool::give(buffer&& b) {
    if (b.capacity() == 0) return;
    std::vector<buffer> dropped;
    std::scoped_lock hold(lock_);
    idle_.push_back(std::move(b));
    drop_idle(dropped);
}

void buffer_pool::comes(std::size_t capacity) {
    std::scoped_lock hold(lock_);
    held_ += capacity;
}

void buffer_pool::goes(std::size_t capacity) {
    std::scoped_lock hold(lock_);
    held_ -= capacity;
}

}  // namespace cohort::stream
