// SPDX-License-Identifier: Apache-2.0
/// One line on stderr that shows how far long work is.
///
///     progress_bar bar(os, "pipe");
///     bar.show(done, total);       // pipe [##########..........]  50 %  1.2 GiB  410 MiB/s  3 s left
///     bar.clear();                 // before other text, and at the end
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include <cohort/sys/os.hpp>

namespace cohort::cli {

/// Synchronization: any thread may call anything.
class progress_bar {
public:
    progress_bar(sys::os& system, std::string title) : os_(system), title_(std::move(title)), began_(system.now()) {}
    void show(std::uint64_t done, std::optional<std::uint64_t> total);
    void clear();

private:
    sys::os& os_;
    const std::string title_;
    const std::uint64_t began_;
    std::mutex lock_;
    bool shown_ = false;  // [guarded: lock_]
};

}  // namespace cohort::cli
