// SPDX-License-Identifier: Apache-2.0
/// Scans and ranges of bits in an array of words. Every range is [from, to).
#pragma once

#include <bit>
#include <cstdint>

namespace cohort::percpu::detail {

using word = std::uint64_t;
inline constexpr int word_bits = 64;

/// The bits [from, to) of one word; 0 <= from < to <= 64.
constexpr word word_mask(int from, int to) { return (~word{0} << from) & (~word{0} >> (word_bits - to)); }

/// The first bit of [from, to) that is set in at(0), at(1), ...; `to` when there is none.
template <class WordAt>
constexpr int next_bit(WordAt at, int from, int to) {
    if (from >= to) return to;
    int w = from / word_bits;
    word bits = at(w) & (~word{0} << (from % word_bits));
    while (bits == 0) {
        if (++w * word_bits >= to) return to;
        bits = at(w);
    }
    const int found = w * word_bits + std::countr_zero(bits);
    return found < to ? found : to;
}

constexpr int next_set(const word* map, int from, int to) {
    return next_bit([map](int w) { return map[w]; }, from, to);
}
constexpr int next_clear(const word* map, int from, int to) {
    return next_bit([map](int w) { return ~map[w]; }, from, to);
}

/// Where the clear bits that end at `to` begin, looking no further back than `from`; `to` when the bit before it is set.
constexpr int clear_before(const word* map, int from, int to) {
    while (to > from) {
        const int w = (to - 1) / word_bits;
        const word bits = map[w] & (~word{0} >> (word_bits - 1 - (to - 1) % word_bits));
        if (bits != 0) {
            const int after = w * word_bits + word_bits - std::countl_zero(bits);
            return after > from ? after : from;
        }
        to = w * word_bits;
    }
    return from;
}

/// The first place in [from, to) where `bits` clear bits begin at a multiple of `align`, a power of two; -1 when there is none. `to` is a multiple of 64.
/// Cost: the words looked at, whatever number of runs they hold.
int find_clear(const word* map, int from, int to, int bits, int align);

/// Calls change(word&, mask) for each word of [from, to), which is not empty.
template <class Change>
constexpr void for_each_word(word* map, int from, int to, Change change) {
    int w = from / word_bits;
    const int last = (to - 1) / word_bits, end = (to - 1) % word_bits + 1;
    if (w == last) return change(map[w], word_mask(from % word_bits, end));
    change(map[w], word_mask(from % word_bits, word_bits));
    for (++w; w < last; ++w) change(map[w], ~word{0});
    change(map[w], word_mask(0, end));
}

constexpr bool test_bit(const word* map, int bit) { return (map[bit / word_bits] >> (bit % word_bits) & 1) != 0; }
constexpr void set_bit(word* map, int bit) { map[bit / word_bits] |= word{1} << (bit % word_bits); }
constexpr void clear_bit(word* map, int bit) { map[bit / word_bits] &= ~(word{1} << (bit % word_bits)); }

}  // namespace cohort::percpu::detail
