// SPDX-License-Identifier: Apache-2.0
/// A cpumask that hot paths test without a lock while set_cpumask replaces it.
#pragma once

#include <array>
#include <atomic>
#include <bit>

#include <cohort/base/cpumask.hpp>

namespace cohort::padata::detail {

/// Synchronization: store() by one thread at a time; test() and nth() by any. A reader during a store may see CPUs of the old and of the new mask, never
/// others: each word changes at once, and a mask change promises no more than that while it runs.
class atomic_mask {
public:
    void store(const cpumask& mask) {
        for (int w = 0; w < words; ++w) {
            std::uint64_t bits = 0;
            for (int i = 0; i < 64; ++i) bits |= std::uint64_t{mask.test(w * 64 + i)} << i;
            word_[static_cast<std::size_t>(w)].store(bits, std::memory_order_relaxed);
        }
    }
    bool test(int cpu) const {
        return cpu >= 0 && cpu < max_cpus &&
               (word_[static_cast<std::size_t>(cpu) / 64].load(std::memory_order_relaxed) >> (cpu % 64) & 1) != 0;
    }
    cpumask load() const {
        cpumask out;
        for (int w = 0; w < words; ++w) {
            std::uint64_t bits = word_[static_cast<std::size_t>(w)].load(std::memory_order_relaxed);
            for (; bits; bits &= bits - 1) out.set(w * 64 + std::countr_zero(bits));
        }
        return out;
    }

private:
    static constexpr int words = max_cpus / 64;
    std::array<std::atomic<std::uint64_t>, words> word_{};  // [atomic: relaxed; orders nothing]
};

}  // namespace cohort::padata::detail
