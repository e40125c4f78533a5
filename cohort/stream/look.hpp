// SPDX-License-Identifier: Apache-2.0
/// A look into a pipe's run, from outside and at any time.
///
///     pipe_look look;                                     // outlives the run
///     pipe_options o{..., .look = &look};
///     std::thread runs([&] { run_pipe(o, os); });
///     if (auto now = look.now()) print(now->blocks);      // nothing: it has not begun, or has ended
///
/// Kernel: none.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include <cohort/base/mutex.hpp>

namespace cohort::stream {

/// Synchronization: any thread may call anything. lock_ is held over the answer, so that a run is not asked after it has ended.
class pipe_look {
public:
    struct figures {
        std::uint64_t blocks = 0;      ///< in flight: read, and not yet written
        std::vector<int> threads;      ///< the numbers of its workers' threads; the reader is the caller of run_pipe()
    };
    std::optional<figures> now() const {
        const lock_guard hold(lock_);
        return ask_ ? std::optional(ask_()) : std::nullopt;
    }
    /// The run's part: who answers; null: nobody any more.
    void answer_by(std::function<figures()> ask) {
        const lock_guard hold(lock_);
        ask_ = std::move(ask);
    }

private:
    mutable mutex lock_;
    std::function<figures()> ask_ COHORT_GUARDED_BY(lock_);
};

}  // namespace cohort::stream
