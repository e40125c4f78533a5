// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/area_map.hpp>

#include <type_traits>

#include <cohort/base/check.hpp>

namespace cohort::percpu::detail {

static_assert(std::is_trivially_destructible_v<area_map>, "it lives in pages that are given back as they are");

std::optional<block_run> first_run(block_set set, int from) {
    if (from >= blocks) return std::nullopt;
    set &= ~block_set{0} << from;
    if (set == 0) return std::nullopt;
    const int first = std::countr_zero(set);
    return block_run{first, first + std::countr_one(set >> first)};
}

std::optional<block_run> last_run(block_set set) {
    if (set == 0) return std::nullopt;
    const int above = std::countl_zero(set);
    return block_run{blocks - above - std::countl_one(set << above), blocks - above};
}

area_map::area_map(int start, int end) : start_(start), end_(end), free_bits_(end - start) {
    COHORT_CHECK(start >= 0 && start < end && end <= unit_bits, "a chunk of no bits, or of bits outside of its unit");
    const auto hide = [](word& w, word mask) { w |= mask; };
    if (start > 0) for_each_word(alloc_map_.data(), 0, start, hide);
    if (end < unit_bits) {
        for_each_word(alloc_map_.data(), end, unit_bits, hide);
        set_bit(bound_map_.data(), end);
    }
    own_ = blocks_of(start, end - start).set();
    for (int b = 0; b < blocks; ++b) rescan_block(b);
    rescan_chunk();
}

int area_map::first_bit() const {
    if (has_free_ == 0) return end_;
    const int b = std::countr_zero(has_free_);
    return b * block_bits + block_[static_cast<std::size_t>(b)].first_free;
}

// ---- Allocation

std::optional<int> area_map::alloc(int bits, int align, bool populated_only) {
    if (!may_fit(bits, align)) return std::nullopt;
    const std::optional<int> at = find_fit(bits, align, populated_only);
    if (at) alloc_area(bits, *at);
    return at;
}

std::optional<int> area_map::find_fit(int bits, int align, bool populated_only) {
    COHORT_CHECK(bits > 0 && align > 0 && align <= block_bits && std::has_single_bit(static_cast<unsigned>(align)), "illegal size or alignment of an area");
    // A block that may not be used is as good as a full one.
    block_set usable = populated_only ? has_free_ & populated_ : has_free_;
    int longest = 0;  // of the runs that start before the block in hand
    if (bits > chunk_.scan_hint && chunk_.scan_hint_start > 0) {
        usable &= ~block_set{0} << (chunk_.scan_hint_start / block_bits);
        longest = chunk_.scan_hint;
    }
    const auto found = [&](int in_block, int at) {
        if (!populated_only) chunk_.learn(bits, longest, in_block * block_bits);
        return at;
    };
    free_run carry;  // the run at the end of the blocks before
    for (; usable != 0; usable &= usable - 1) {
        const int b = std::countr_zero(usable), base = b * block_bits;
        const block_hints& h = block_[static_cast<std::size_t>(b)];
        if (carry.length && carry.end() != base) {
            if (const int at = fit_in(carry, bits, align); at >= 0) return found(carry.start / block_bits, at);
            carry = {};
        }
        const free_run over_border{base - carry.length, carry.length + h.left_free};
        if (const int at = fit_in(over_border, bits, align); at >= 0) return found(over_border.start / block_bits, at);
        if (carry.length) longest = std::max(longest, over_border.length);
        if (h.left_free == block_bits) {
            carry = over_border;
            longest = std::max(longest, over_border.length);
            continue;
        }
        if (fit_in(h.contig(), bits, align) >= 0) return found(b, base + find_in_block(b, bits, align));
        longest = std::max<int>(longest, h.contig_hint);
        carry = {base + block_bits - h.right_free, h.right_free};
    }
    const int at = carry.length ? fit_in(carry, bits, align) : -1;
    return at >= 0 ? std::optional(at) : std::nullopt;
}

/// The first place inside block b, which has one: its longest run. An offset in the block.
int area_map::find_in_block(int b, int bits, int align) {
    block_hints& h = block_[static_cast<std::size_t>(b)];
    const word* map = bits_of_block(b);
    int from = h.first_free, longest = 0;
    if (bits > h.scan_hint && h.scan_hint_start > from) {
        from = next_clear(map, h.scan_hint_start, block_bits);
        longest = h.scan_hint;
    }
    const int at = find_clear(map, from, block_bits, bits, align);
    COHORT_CHECK(at >= 0, "a block's contig hint promises a run that is not there");
    const int start = clear_before(map, from, at);
    if (start > from) longest = bits + align - 2;  // a run that was skipped is no longer than that
    h.learn(bits, longest, start);
    return at;
}

void area_map::alloc_area(int bits, int at) {
    word in_the_way = 0;
    for_each_word(alloc_map_.data(), at, at + bits, [&](word& w, word mask) {
        in_the_way |= w & mask;
        w |= mask;
    });
    COHORT_CHECK(in_the_way == 0, "an area is allocated over one that is live");
    set_bit(bound_map_.data(), at);
    free_bits_ -= bits;
    ++nr_alloc_;
    max_alloc_ = std::max(max_alloc_, bits);
    const block_run under = blocks_of(at, bits);
    for (int b = under.first; b < under.end; ++b) {
        const int base = b * block_bits;
        take_in_block(b, std::max(at - base, 0), std::min(at + bits - base, block_bits));
    }
    if (!chunk_.taken({at, bits})) rescan_chunk();
}

/// The bits [from, to) of block b are taken now.
void area_map::take_in_block(int b, int from, int to) {
    block_hints& h = block_[static_cast<std::size_t>(b)];
    h.left_free = static_cast<std::uint16_t>(std::min<int>(h.left_free, from));
    h.right_free = static_cast<std::uint16_t>(std::min<int>(h.right_free, block_bits - to));
    if (h.first_free >= from && h.first_free < to) h.first_free = static_cast<std::uint16_t>(next_clear(bits_of_block(b), to, block_bits));
    if (!h.taken({from, to - from})) rescan_block(b);
    empty_ &= ~(block_set{1} << b);
    if (h.contig_hint == 0) has_free_ &= ~(block_set{1} << b);
}

// ---- Freeing

/// Where the live area that starts at `at` ends: at the next start, or at the next free bit.
int area_map::end_of_area(int at) const {
    return next_bit([this](int w) { return bound_map_[static_cast<std::size_t>(w)] | ~alloc_map_[static_cast<std::size_t>(w)]; }, at + 1, unit_bits);
}

int area_map::free(int at) {
    if (!is_live_start(at)) return -1;
    const int bits = end_of_area(at) - at;
    for_each_word(alloc_map_.data(), at, at + bits, [](word& w, word mask) { w &= ~mask; });
    clear_bit(bound_map_.data(), at);
    free_bits_ += bits;
    if (--nr_alloc_ == 0) max_alloc_ = 0;
    const block_run under = blocks_of(at, bits);
    free_run run{at, 0};
    for (int b = under.first; b < under.end; ++b) {
        const int base = b * block_bits;
        const free_run in_block = give_in_block(b, std::max(at - base, 0), std::min(at + bits - base, block_bits));
        if (b == under.first) run.start = base + in_block.start;
        run.length = base + in_block.end() - run.start;
    }
    chunk_.appeared(joined(run));
    // Of the chunk's scan hint only whole blocks can be skipped.
    chunk_.scan_hint_start &= -block_bits;
    return bits;
}

/// The bits [from, to) of block b are free now. Returns the run of the block that they are in, by offsets in the block.
free_run area_map::give_in_block(int b, int from, int to) {
    block_hints& h = block_[static_cast<std::size_t>(b)];
    const word* map = bits_of_block(b);
    const int start = clear_before(map, 0, from);
    const free_run run{start, next_set(map, to, block_bits) - start};
    if (run.start == 0) h.left_free = static_cast<std::uint16_t>(run.length);
    if (run.end() == block_bits) h.right_free = static_cast<std::uint16_t>(run.length);
    h.first_free = std::min(h.first_free, static_cast<std::uint16_t>(run.start));
    h.appeared(run);
    has_free_ |= block_set{1} << b;
    if (run.length == block_bits) empty_ |= block_set{1} << b;
    return run;
}

/// A run that is as long as it can be inside its first and last block, with what is free beyond their borders.
free_run area_map::joined(free_run run) const {
    int first = run.start / block_bits, end = run.end();
    if (run.start % block_bits == 0 && first > 0) {
        const int empty = std::countl_one(empty_ << (blocks - first));
        first -= empty;
        run.start = first * block_bits;
        if (first > 0) run.start -= block_[static_cast<std::size_t>(first - 1)].right_free;
    }
    if (end % block_bits == 0 && end < unit_bits) {
        int next = end / block_bits;
        next += std::countr_one(empty_ >> next);
        end = next * block_bits;
        if (next < blocks) end += block_[static_cast<std::size_t>(next)].left_free;
    }
    run.length = end - run.start;
    return run;
}

// ---- Hints from scratch

/// All but scan_hint, which an allocation cannot break.
void area_map::rescan_block(int b) {
    block_hints& h = block_[static_cast<std::size_t>(b)];
    const word* map = bits_of_block(b);
    h.forget();
    h.left_free = h.right_free = 0;
    const int first = next_clear(map, 0, block_bits);
    h.first_free = static_cast<std::uint16_t>(first);
    for (int start = first; start < block_bits;) {
        const free_run run{start, next_set(map, start, block_bits) - start};
        if (run.start == 0) h.left_free = static_cast<std::uint16_t>(run.length);
        if (run.end() == block_bits) h.right_free = static_cast<std::uint16_t>(run.length);
        h.found(run);
        start = next_clear(map, run.end(), block_bits);
    }
    const block_set bit = block_set{1} << b;
    has_free_ = h.contig_hint ? has_free_ | bit : has_free_ & ~bit;
    empty_ = h.contig_hint == block_bits ? empty_ | bit : empty_ & ~bit;
}

/// From the blocks' hints. A run inside a block that is not its longest is covered by the block's runner_up.
void area_map::rescan_chunk() {
    chunk_.forget();
    free_run carry;
    for (block_set left = has_free_; left != 0; left &= left - 1) {
        const int b = std::countr_zero(left), base = b * block_bits;
        const block_hints& h = block_[static_cast<std::size_t>(b)];
        if (carry.length && carry.end() != base) {
            chunk_.found(carry);
            carry = {};
        }
        carry = {base - carry.length, carry.length + h.left_free};
        if (h.left_free == block_bits) continue;
        if (carry.length) chunk_.found(carry);
        carry = {base + block_bits - h.right_free, h.right_free};
        const bool inside = h.contig_hint_start > 0 && h.contig_hint_start + h.contig_hint < block_bits;
        if (inside) chunk_.found({base + h.contig_hint_start, h.contig_hint});
        chunk_.runner_up = std::max<std::int32_t>(chunk_.runner_up, h.runner_up);
    }
    if (carry.length) chunk_.found(carry);
}

}  // namespace cohort::percpu::detail
