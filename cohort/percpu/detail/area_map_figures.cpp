// SPDX-License-Identifier: Apache-2.0
// What an area_map says about itself: the figures of the statistics, and whether its hints are true.
#include <array>
#include <sstream>
#include <vector>

#include <cohort/percpu/detail/area_map.hpp>

namespace cohort::percpu::detail {

area_figures area_map::figures() const {
    area_figures f{.nr_alloc = nr_alloc_,
                   .max_alloc_size = max_alloc_ * min_alloc_bytes,
                   .first_bit = first_bit(),
                   .free_bytes = free_bits_ * min_alloc_bytes,
                   .contig_bytes = chunk_.contig_hint * min_alloc_bytes};
    for_each_free_run([&](free_run run) {
        if (run.end() == end_) return;  // no area follows
        f.sum_frag += run.length * min_alloc_bytes;
        f.max_frag = std::max(f.max_frag, run.length * min_alloc_bytes);
    });
    if (nr_alloc_ == 0) return f;

    const auto for_each_size = [this](auto use) {
        for (int at = next_set(bound_map_.data(), start_, end_); at < end_; at = next_set(bound_map_.data(), at + 1, end_)) use(end_of_area(at) - at);
    };
    // The median by two counts, of the high and of the low byte of sizes: sorting up to 65,536 of them would need a heap.
    constexpr int low_bits = 8;
    std::array<int, (unit_bits >> low_bits) + 1> high{};
    std::array<int, 1 << low_bits> low{};
    int smallest = unit_bits, largest = 0;
    for_each_size([&](int size) {
        ++high[static_cast<std::size_t>(size >> low_bits)];
        smallest = std::min(smallest, size);
        largest = std::max(largest, size);
    });
    int before = (nr_alloc_ - 1) / 2;
    std::size_t h = 0, l = 0;
    while (before >= high[h]) before -= high[h++];
    for_each_size([&](int size) {
        if (static_cast<std::size_t>(size >> low_bits) == h) ++low[static_cast<std::size_t>(size & ((1 << low_bits) - 1))];
    });
    while (before >= low[l]) before -= low[l++];
    f.cur_min_alloc = smallest * min_alloc_bytes;
    f.cur_med_alloc = static_cast<int>(h << low_bits | l) * min_alloc_bytes;
    f.cur_max_alloc = largest * min_alloc_bytes;
    return f;
}

namespace {

/// Bit by bit, and by nothing that the map itself uses.
std::vector<free_run> runs_of(const word* map, int from, int to) {
    std::vector<free_run> runs;
    for (int i = from; i < to; ++i) {
        if (test_bit(map, i)) continue;
        if (!runs.empty() && runs.back().end() == i) ++runs.back().length;
        else runs.push_back({i, 1});
    }
    return runs;
}

template <class... Part>
std::string text(const Part&... part) {
    std::ostringstream out;
    (out << ... << part);
    return out.str();
}

/// The rules of run_hints, over the free runs of its stretch.
template <class Int>
std::string check_runs(const run_hints<Int>& h, const std::vector<free_run>& runs, const std::string& of) {
    int longest = 0, second = 0;
    bool there = h.contig_hint == 0 && h.contig_hint_start == 0 && runs.empty();
    for (const free_run run : runs) {
        second = std::max(second, std::min(longest, run.length));
        longest = std::max(longest, run.length);
        there |= run == h.contig();
        if (run.start < h.scan_hint_start && run.length > h.scan_hint) {
            return text(of, "scan hint ", h.scan_hint, " before ", h.scan_hint_start, ", but ", run.length, " bits are free at ", run.start);
        }
    }
    if (h.contig_hint != longest) return text(of, "contig hint ", h.contig_hint, ", but the longest free run has ", longest, " bits");
    if (!there) return text(of, "contig hint starts at ", h.contig_hint_start, ", where no free run of ", h.contig_hint, " bits starts");
    if (h.runner_up < second) return text(of, "runner-up ", h.runner_up, ", but the second longest free run has ", second, " bits");
    if (h.runner_up > h.contig_hint) return text(of, "runner-up ", h.runner_up, " over contig hint ", h.contig_hint);
    return {};
}

}  // namespace

std::string area_map::check_invariants() const {
    for (int b = 0; b < blocks; ++b) {
        if (std::string broken = check_block(b); !broken.empty()) return broken;
    }
    if (std::string broken = check_chunk(); !broken.empty()) return broken;
    return check_bounds();
}

std::string area_map::check_block(int b) const {
    const block_hints& h = block_[static_cast<std::size_t>(b)];
    const std::vector<free_run> runs = runs_of(bits_of_block(b), 0, block_bits);
    const std::string of = text("block ", b, ": ");
    if (std::string broken = check_runs(h, runs, of); !broken.empty()) return broken;
    const int left = !runs.empty() && runs.front().start == 0 ? runs.front().length : 0;
    const int right = !runs.empty() && runs.back().end() == block_bits ? runs.back().length : 0;
    const int first = runs.empty() ? block_bits : runs.front().start;
    if (h.left_free != left) return text(of, "left_free ", h.left_free, ", is ", left);
    if (h.right_free != right) return text(of, "right_free ", h.right_free, ", is ", right);
    if (h.first_free != first) return text(of, "first_free ", h.first_free, ", is ", first);
    if ((has_free_ >> b & 1) != !runs.empty()) return text(of, "set of blocks with free bits is wrong");
    if ((empty_ >> b & 1) != (left == block_bits)) return text(of, "set of empty blocks is wrong");
    const bool own = (b + 1) * block_bits > start_ && b * block_bits < end_;
    if ((own_ >> b & 1) != own) return text(of, "set of own blocks is wrong");
    if ((populated_ >> b & 1) && !own) return text(of, "populated, but wholly hidden");
    return {};
}

std::string area_map::check_chunk() const {
    const std::vector<free_run> runs = runs_of(alloc_map_.data(), 0, unit_bits);
    if (std::string broken = check_runs(chunk_, runs, "chunk: "); !broken.empty()) return broken;
    int free_bits = 0;
    for (const free_run run : runs) free_bits += run.length;
    if (free_bits_ != free_bits) return text("free bits ", free_bits_, ", are ", free_bits);
    if (first_bit() != (runs.empty() ? end_ : runs.front().start)) return text("first free bit ", first_bit(), " is wrong");
    if (chunk_.scan_hint_start % block_bits != 0) return text("chunk: scan hint starts inside a block, at ", chunk_.scan_hint_start);
    return {};
}

std::string area_map::check_bounds() const {
    int areas = 0;
    for (int i = 0; i < unit_bits; ++i) {
        const bool taken = test_bit(alloc_map_.data(), i), bound = test_bit(bound_map_.data(), i);
        const bool hidden = i < start_ || i >= end_;
        if (hidden && !taken) return text("hidden bit ", i, " is free");
        if (hidden && bound != (i == end_)) return text("boundary of hidden bit ", i, " is wrong");
        if (hidden) continue;
        if (bound && !taken) return text("an area starts at ", i, ", which is free");
        if (taken && !bound && (i == start_ || !test_bit(alloc_map_.data(), i - 1))) return text("bit ", i, " is taken and belongs to no area");
        areas += bound;
    }
    if (areas != nr_alloc_) return text(nr_alloc_, " live areas counted, ", areas, " in the map");
    if ((nr_alloc_ == 0) != (max_alloc_ == 0)) return text("largest area ", max_alloc_, " of ", nr_alloc_);
    return {};
}

}  // namespace cohort::percpu::detail
