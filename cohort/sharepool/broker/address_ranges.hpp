// SPDX-License-Identifier: Apache-2.0
/// Ranges of addresses that are given out and come back.
///
///     address_ranges free({0x550000000000, 320ull << 30});
///     const auto base = free.take(64 << 20);                  // 0x550000000000
///     free.give({*base, 64 << 20});
///
/// Kernel: sp_alloc_area's walk over free areas, which takes as long as there are areas; here log(holes) steps, whatever is taken.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace cohort::sharepool {

struct address_range {
    std::uint64_t base = 0, bytes = 0;
    std::uint64_t end() const { return base + bytes; }
    bool operator==(const address_range&) const = default;
};

/// Multiples of 2 MiB. Synchronization: none, a user's own.
class address_ranges {
public:
    static constexpr std::uint64_t granule = std::uint64_t{2} << 20;

    /// The part of it that is whole granules.
    explicit address_ranges(address_range whole);
    /// The start of the smallest hole that fits, of several the lowest; empty: there is none, or bytes is 0. bytes: rounded up to 2 MiB.
    std::optional<std::uint64_t> take(std::uint64_t bytes);
    /// This one; false: it is no multiple of 2 MiB, or a part of it is taken or outside.
    bool take_at(address_range r);
    /// r was taken, by one call or several. Anything else is a caller's bug and ends the program.
    void give(address_range r);
    std::uint64_t free_bytes() const { return free_; }
    /// The longest range that take() would give.
    std::uint64_t largest() const { return by_size_.empty() ? 0 : by_size_.rbegin()->first; }
    const address_range& whole() const { return whole_; }
    /// What its own tables disagree about; empty: nothing. For tests.
    std::string fault() const;

private:
    void add(std::uint64_t base, std::uint64_t bytes);
    void remove(std::map<std::uint64_t, std::uint64_t>::iterator hole);

    std::map<std::uint64_t, std::uint64_t> holes_;                      // base -> bytes; no two touch
    std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;         // bytes, base: the same holes
    address_range whole_;
    std::uint64_t free_ = 0;
};

}  // namespace cohort::sharepool
