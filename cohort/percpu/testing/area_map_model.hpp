// SPDX-License-Identifier: Apache-2.0
/// An area_map beside a plain reference, a byte per bit; perform(op) does one thing to both and compares. Random tests and the fuzz target drive it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <cohort/percpu/detail/area_map.hpp>

namespace cohort::percpu::testing {

using namespace detail;

struct area_op {
    enum kind_t : std::uint8_t { alloc, alloc_populated, free_live, free_any, populate, unpopulate };
    kind_t kind = alloc;
    int bits = 1;       // alloc
    int align = 1;      // alloc
    std::uint32_t which = 0;  // free_live: which one, modulo their number; free_any: the offset; populate: first block, and 64 times how many
};

class area_map_model {
public:
    explicit area_map_model(int start = 0, int end = unit_bits) : map(start, end), start_(start), end_(end), taken_(unit_bits, 1) {
        std::fill(taken_.begin() + start, taken_.begin() + end, std::uint8_t{0});
    }

    /// Empty when map and reference agree, else what differs.
    std::string perform(const area_op& op) {
        switch (op.kind) {
            case area_op::alloc: return alloc(op, false);
            case area_op::alloc_populated: return alloc(op, true);
            case area_op::free_live: return live_.empty() ? "" : free_at(nth_live(op.which));
            case area_op::free_any: return free_at(static_cast<int>(op.which % (unit_bits + 64)) - 32);
            default: return change_populated(op);
        }
    }
    /// Every bit, every size, the figures, and the map's own invariants.
    std::string compare() const;

    area_map map;
    const std::map<int, int>& live() const { return live_; }
    /// What alloc answered last; -1: nothing.
    int last_at() const { return last_at_; }

private:
    std::string alloc(const area_op& op, bool populated_only);
    std::string free_at(int at);
    std::string change_populated(const area_op& op);
    int nth_live(std::uint32_t n) const { return std::next(live_.begin(), n % static_cast<std::uint32_t>(live_.size()))->first; }
    bool free_bit(int i, bool populated_only) const { return !taken_[static_cast<std::size_t>(i)] && (!populated_only || populated_[i / block_bits]); }
    /// The lowest free run of `bits` bits, cut at unpopulated blocks; -1: none.
    int lowest(int bits, bool populated_only) const {
        int run = 0;
        for (int i = start_; i < end_; ++i) {
            run = free_bit(i, populated_only) ? run + 1 : 0;
            if (run == bits) return i - bits + 1;
        }
        return -1;
    }
    template <class... Part>
    static std::string text(const Part&... part) {
        std::ostringstream out;
        (out << ... << part);
        return out.str();
    }

    int start_, end_, last_at_ = -1;
    std::vector<std::uint8_t> taken_;  // live or hidden
    std::map<int, int> live_;          // offset -> bits
    bool populated_[blocks] = {};
};

inline std::string area_map_model::alloc(const area_op& op, bool populated_only) {
    const std::optional<int> at = map.alloc(op.bits, op.align, populated_only);
    last_at_ = at.value_or(-1);
    const std::string what = text("alloc of ", op.bits, " bits at alignment ", op.align, populated_only ? " of populated blocks" : "", ": ", last_at_);
    if (op.align == 1) {
        if (const int first = lowest(op.bits, populated_only); last_at_ != first) return text(what, ", the first fit is ", first);
    }
    if (!at) {
        const bool certain = lowest(op.bits + op.align - 1, populated_only) >= 0;
        return certain ? text(what, ", although ", op.bits + op.align - 1, " bits are free in a row") : "";
    }
    if (*at % op.align != 0) return what + ", not aligned";
    if (*at < start_ || *at + op.bits > end_) return what + ", outside of the chunk";
    for (int i = *at; i < *at + op.bits; ++i) {
        if (!free_bit(i, populated_only)) return text(what, ", but bit ", i, " is not to be had");
        taken_[static_cast<std::size_t>(i)] = 1;
    }
    live_[*at] = op.bits;
    return "";
}

inline std::string area_map_model::free_at(int at) {
    const auto found = live_.find(at);
    const int expected = found == live_.end() ? -1 : found->second;
    if (map.is_live_start(at) != (expected > 0)) return text("is_live_start of ", at, " is wrong");
    if (map.size_at(at) != std::max(expected, 0)) return text("size at ", at, ": ", map.size_at(at), ", is ", expected);
    const int bits = map.free(at);
    if (bits != expected) return text("free of ", at, ": ", bits, ", expected ", expected);
    if (expected < 0) return "";
    std::fill_n(taken_.begin() + at, bits, std::uint8_t{0});
    live_.erase(found);
    return "";
}

inline std::string area_map_model::change_populated(const area_op& op) {
    const int first = static_cast<int>(op.which % blocks);
    const block_run run{first, std::min<int>(blocks, first + 1 + static_cast<int>(op.which / blocks % blocks))};
    const bool on = op.kind == area_op::populate;
    if (on) map.set_populated(run);
    else map.clear_populated(run);
    for (int b = run.first; b < run.end; ++b) populated_[b] = on && (b + 1) * block_bits > start_ && b * block_bits < end_;
    return "";
}

inline std::string area_map_model::compare() const {
    if (std::string broken = map.check_invariants(); !broken.empty()) return broken;
    int free_bits = 0, first_bit = end_, last_taken = start_ - 1, nr_populated = 0, nr_empty = 0;
    std::vector<free_run> runs, seen;
    for (int i = start_; i < end_; ++i) {
        const auto at = live_.find(i);
        if (map.size_at(i) != (at == live_.end() ? 0 : at->second)) return text("size at ", i, ": ", map.size_at(i));
        if (taken_[static_cast<std::size_t>(i)]) {
            last_taken = i;
            continue;
        }
        ++free_bits;
        first_bit = std::min(first_bit, i);
        if (runs.empty() || runs.back().end() != i) runs.push_back({i, 0});
        ++runs.back().length;
    }
    map.for_each_free_run([&](free_run run) { seen.push_back(run); });
    if (runs != seen) return "for_each_free_run names other runs";
    for (int b = 0; b < blocks; ++b) {
        const auto begin = taken_.begin() + b * block_bits;
        nr_populated += populated_[b];
        nr_empty += populated_[b] && std::find(begin, begin + block_bits, 1) == begin + block_bits;
        if (map.is_populated(b * block_bits, 1) != populated_[b]) return text("block ", b, " populated: ", !populated_[b]);
    }
    if (map.nr_populated() != nr_populated) return text("populated ", map.nr_populated(), ", are ", nr_populated);
    if (map.nr_empty_pop_pages() != nr_empty) return text("empty populated ", map.nr_empty_pop_pages(), ", are ", nr_empty);

    const area_figures f = map.figures();
    int sum_frag = 0, max_frag = 0;
    for (const free_run run : runs) {
        if (run.start > last_taken) continue;
        sum_frag += run.length * min_alloc_bytes;
        max_frag = std::max(max_frag, run.length * min_alloc_bytes);
    }
    std::vector<int> sizes;
    for (const auto& [at, bits] : live_) sizes.push_back(bits * min_alloc_bytes);
    std::sort(sizes.begin(), sizes.end());
    const bool some = !sizes.empty();
    if (f.free_bytes != free_bits * min_alloc_bytes || f.first_bit != first_bit || f.nr_alloc != static_cast<int>(sizes.size())) return "figures: counts";
    if (f.sum_frag != sum_frag || f.max_frag != max_frag) return text("figures: fragments ", f.sum_frag, " ", f.max_frag, ", are ", sum_frag, " ", max_frag);
    if (f.cur_min_alloc != (some ? sizes.front() : 0) || f.cur_max_alloc != (some ? sizes.back() : 0)) return "figures: smallest or largest area";
    if (f.cur_med_alloc != (some ? sizes[(sizes.size() - 1) / 2] : 0)) return text("figures: median ", f.cur_med_alloc);
    return "";
}

}  // namespace cohort::percpu::testing
