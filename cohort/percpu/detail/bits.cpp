// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/bits.hpp>

namespace cohort::percpu::detail {
namespace {

/// Bits i of which [i, i + bits) are all set in the 128 bits of `high` over `low`, for the i of `low`; bits is 1 .. 64.
constexpr word starts_of_runs(word low, word high, int bits) {
    // Runs of n are where runs of n - step start `step` bits apart; a step is at most what is there.
    for (int n = 1; n < bits;) {
        const int step = n < bits - n ? n : bits - n;
        low &= low >> step | high << (word_bits - step);
        high &= high >> step;
        n += step;
    }
    return low;
}

/// The bits of a word that are multiples of `align`, a power of two.
constexpr word multiples_of(int align) {
    if (align >= word_bits) return 1;
    word bits = 1;
    for (int n = align; n < word_bits; n *= 2) bits |= bits << n;
    return bits;
}

/// No two runs of more than 64 bits touch one word from inside: each word ends the run before it, goes on with it, or begins one.
int find_long(const word* map, int from, int to, int bits, int align) {
    int start = from;  // of the run that reaches up to the word in hand
    for (int w = from / word_bits; w * word_bits < to; ++w) {
        word taken = map[w];
        if (w == from / word_bits) taken &= ~word{0} << (from % word_bits);
        if (taken == 0) continue;
        const int at = (start + align - 1) & -align;
        if (at + bits <= w * word_bits + std::countr_zero(taken)) return at;
        start = (w + 1) * word_bits - std::countl_zero(taken);
    }
    const int at = (start + align - 1) & -align;
    return at + bits <= to ? at : -1;
}

}  // namespace

int find_clear(const word* map, int from, int to, int bits, int align) {
    if (bits > word_bits) return find_long(map, from, to, bits, align);
    const word aligned = multiples_of(align);
    word past = ~word{0} << (from % word_bits);
    for (int w = from / word_bits; w * word_bits < to; ++w) {
        const word low = ~map[w] & past;
        past = ~word{0};
        // Alignments over a word leave bit 0 of every align / 64th word.
        if (low == 0 || (align > word_bits && w * word_bits % align != 0)) continue;
        const word high = (w + 1) * word_bits < to ? ~map[w + 1] : 0;
        if (const word found = starts_of_runs(low, high, bits) & aligned) return w * word_bits + std::countr_zero(found);
    }
    return -1;
}

}  // namespace cohort::percpu::detail
