// SPDX-License-Identifier: Apache-2.0
/// Two threads, each on a CPU of its own, that do the same at the same time: the 2t of the micro-benchmarks.
#pragma once

#include <functional>
#include <memory>

#include "support.hpp"

namespace cohort::bench {

/// The caller is the first of them; the second sleeps between runs, so that per-thread state of peers stays that of two threads.
class team {
public:
    explicit team(const settings& s);
    ~team();

    /// Runs work(0) here and work(1) there, from one moment on; returns when both are done.
    void run(const std::function<void(int who)>& work);
    /// work on the second thread only.
    void run_there(const std::function<void()>& work);

private:
    struct state;
    std::unique_ptr<state> state_;
};

}  // namespace cohort::bench
