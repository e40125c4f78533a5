// SPDX-License-Identifier: Apache-2.0
/// The memory pressure meter: a rate of events, digitally filtered with a half-life of 10 seconds; one event a second reads 1000.
///
/// Kernel: struct fmeter; Documentation/admin-guide/cgroup-v1/cpusets.rst, section 1.5.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cohort::cpuset::detail {

class pressure_meter {
public:
    /// now: seconds.
    void mark(std::int64_t events, std::int64_t now) {
        update(now);
        count_ = std::min<std::int64_t>(most_count, count_ + std::min<std::int64_t>(events, most_count) * scale);
    }
    std::int64_t read(std::int64_t now) {
        update(now);
        return value_;
    }

private:
    static constexpr std::int64_t keep = 933, scale = 1000, most_count = 1'000'000, most_ticks = 99;

    void update(std::int64_t now) {
        std::int64_t ticks = std::min(most_ticks, now - at_);
        if (ticks <= 0) return;
        for (; ticks > 0; --ticks) value_ = value_ * keep / scale;
        at_ = now;
        value_ += (scale - keep) * count_ / scale;
        count_ = 0;
    }

    std::int64_t count_ = 0, value_ = 0, at_ = 0;
};

}  // namespace cohort::cpuset::detail
