// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/address_ranges.hpp>

#include <iterator>

#include <cohort/base/check.hpp>

namespace cohort::sharepool {

namespace {
constexpr std::uint64_t below(std::uint64_t n) { return n / address_ranges::granule * address_ranges::granule; }
}  // namespace

address_ranges::address_ranges(address_range whole) {
    const std::uint64_t base = below(whole.base + (granule - 1));
    const std::uint64_t end = below(whole.end());
    if (base < whole.base || end <= base) return;  // less than one granule
    whole_ = {base, end - base};
    add(base, end - base);
}

void address_ranges::add(std::uint64_t base, std::uint64_t bytes) {
    holes_.emplace(base, bytes);
    by_size_.emplace(bytes, base);
    free_ += bytes;
}

void address_ranges::remove(std::map<std::uint64_t, std::uint64_t>::iterator hole) {
    by_size_.erase({hole->second, hole->first});
    free_ -= hole->second;
    holes_.erase(hole);
}

std::optional<std::uint64_t> address_ranges::take(std::uint64_t bytes) {
    if (bytes == 0 || bytes > whole_.bytes) return std::nullopt;
    const std::uint64_t n = below(bytes + (granule - 1));
    const auto fits = by_size_.lower_bound({n, 0});
    if (fits == by_size_.end()) return std::nullopt;
    const auto [size, base] = *fits;
    remove(holes_.find(base));
    if (size > n) add(base + n, size - n);
    return base;
}

bool address_ranges::take_at(address_range r) {
    if (r.bytes == 0 || r.base % granule != 0 || r.bytes % granule != 0 || r.end() < r.base) return false;
    auto hole = holes_.upper_bound(r.base);
    if (hole == holes_.begin()) return false;
    --hole;
    const address_range around{hole->first, hole->second};
    if (r.end() > around.end()) return false;
    remove(hole);
    if (r.base > around.base) add(around.base, r.base - around.base);
    if (r.end() < around.end()) add(r.end(), around.end() - r.end());
    return true;
}

void address_ranges::give(address_range r) {
    COHORT_CHECK(r.bytes != 0 && r.base % granule == 0 && r.bytes % granule == 0 && r.base >= whole_.base && r.end() <= whole_.end() && r.end() > r.base,
                 "a range of addresses is given back that was never given out");
    const auto next = holes_.lower_bound(r.base);
    const bool touches_next = next != holes_.end() && next->first == r.end();
    const bool touches_last = next != holes_.begin() && std::prev(next)->first + std::prev(next)->second == r.base;
    COHORT_CHECK((next == holes_.end() || next->first >= r.end()) && (next == holes_.begin() || std::prev(next)->first + std::prev(next)->second <= r.base),
                 "a range of addresses is given back that is free");
    address_range joined = r;
    if (touches_last) {
        const auto last = std::prev(next);
        joined = {last->first, last->second + r.bytes};
        remove(last);
    }
    if (touches_next) {
        joined.bytes += next->second;
        remove(next);
    }
    add(joined.base, joined.bytes);
}

std::string address_ranges::fault() const {
    std::uint64_t sum = 0, last_end = 0;
    if (holes_.size() != by_size_.size()) return "addresses: " + std::to_string(holes_.size()) + " holes, " + std::to_string(by_size_.size()) + " by size";
    for (const auto& [base, bytes] : holes_) {
        if (!by_size_.contains({bytes, base})) return "addresses: a hole is not among those by size";
        if (bytes == 0 || base < whole_.base || base + bytes > whole_.end()) return "addresses: a hole is outside";
        if (sum != 0 && base <= last_end) return "addresses: two holes touch";
        sum += bytes, last_end = base + bytes;
    }
    return sum == free_ ? "" : "addresses: " + std::to_string(free_) + " bytes free, the holes have " + std::to_string(sum);
}

}  // namespace cohort::sharepool
