// SPDX-License-Identifier: Apache-2.0
/// Counts of times, to within 1/32 of each.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace cohort {

class histogram {
public:
    void add(std::uint64_t value) {
        ++counts_[index(value)];
        ++total_;
    }
    void add(const histogram& other) {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
        total_ += other.total_;
    }
    std::uint64_t total() const { return total_; }
    /// The least value that `percent` of all are not above, rounded up within its bucket; 0 where there is none.
    std::uint64_t percentile(double percent) const {
        if (total_ == 0) return 0;
        const auto wanted = static_cast<std::uint64_t>(percent / 100 * static_cast<double>(total_ - 1)) + 1;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen >= wanted) return top(i);
        }
        return top(counts_.size() - 1);
    }

private:
    static constexpr unsigned fine = 5;  // 32 buckets an octave

    static std::size_t index(std::uint64_t v) {
        if (v < 2u << fine) return v;
        const unsigned octave = static_cast<unsigned>(std::bit_width(v)) - 1 - fine;
        return (std::size_t{octave} << fine) + (v >> octave);
    }
    static std::uint64_t top(std::size_t i) {
        if (i < 2u << fine) return i;
        const std::size_t octave = (i >> fine) - 1;
        return (((i & ((1u << fine) - 1)) + (1u << fine) + 1) << octave) - 1;
    }

    std::array<std::uint64_t, (64 - fine + 1) << fine> counts_{};
    std::uint64_t total_ = 0;
};

}  // namespace cohort
