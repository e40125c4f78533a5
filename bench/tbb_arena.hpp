// SPDX-License-Identifier: Apache-2.0
/// A oneTBB arena with one thread pinned to each CPU; the thread that calls is the first of them.
#pragma once

#include <utility>
#include <vector>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_scheduler_observer.h>

#include "support.hpp"

namespace cohort::bench {

/// Puts each thread of the arena on its CPU; slot 0 is the thread that calls.
class pinned : public tbb::task_scheduler_observer {
public:
    pinned(tbb::task_arena& arena, std::vector<int> cpus) : tbb::task_scheduler_observer(arena), cpus_(std::move(cpus)) { observe(true); }
    ~pinned() override { observe(false); }
    void on_scheduler_entry(bool) override {
        const int slot = tbb::this_task_arena::current_thread_index();
        if (slot >= 0) pin_to(cpus_[static_cast<std::size_t>(slot) % cpus_.size()]);
    }

private:
    std::vector<int> cpus_;
};

struct arena_of {
    explicit arena_of(const std::vector<int>& cpus)
        : limit(tbb::global_control::max_allowed_parallelism, cpus.size()), arena(static_cast<int>(cpus.size()), 1), observer(arena, cpus) {}
    tbb::global_control limit;
    tbb::task_arena arena;
    pinned observer;
};

}  // namespace cohort::bench
