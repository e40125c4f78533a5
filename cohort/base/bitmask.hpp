// SPDX-License-Identifier: Apache-2.0
/// A fixed-size set of small numbers: the body of cpumask and nodemask. A value type; no allocation.
///
///     cpumask a{0, 2, 3};
///     for (int cpu : a) visit(cpu);                 // ascending
///     a.weight() == 3; a.nth(1) == 2; (a & cpumask::range(2, 9)).list() == "2-3";
///
/// Kernel: include/linux/bitmap.h, cpumask.h, nodemask.h.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>

#include <cohort/base/error.hpp>

namespace cohort {

/// Members are numbers 0 .. Bits-1. Operations that take a number outside that range ignore it (set, clear) or answer false (test).
/// Cost: proportional to Bits/64 words, save set, clear and test, which cost one word.
template <class Tag, int Bits>
class bitmask {
    static_assert(Bits % 64 == 0);
    static constexpr int words = Bits / 64;

public:
    static constexpr int capacity = Bits;

    constexpr bitmask() = default;
    constexpr bitmask(std::initializer_list<int> members) {
        for (int m : members) set(m);
    }
    /// All of first .. last, both included; empty when last < first.
    static constexpr bitmask range(int first, int last) {
        bitmask out;
        for (int m = std::max(first, 0); m <= last && m < Bits; ++m) out.set(m);
        return out;
    }

    constexpr void set(int m) { if (in_range(m)) word_[m / 64] |= bit(m); }
    constexpr void clear(int m) { if (in_range(m)) word_[m / 64] &= ~bit(m); }
    constexpr bool test(int m) const { return in_range(m) && (word_[m / 64] & bit(m)) != 0; }

    constexpr bool empty() const {
        return std::all_of(word_.begin(), word_.end(), [](std::uint64_t w) { return w == 0; });
    }
    constexpr int weight() const {
        int n = 0;
        for (std::uint64_t w : word_) n += std::popcount(w);
        return n;
    }
    /// The first member at or after `from`; -1 when there is none.
    constexpr int next(int from) const {
        if (from < 0) from = 0;
        if (from >= Bits) return -1;
        std::uint64_t w = word_[from / 64] & (~std::uint64_t{0} << (from % 64));
        for (int i = from / 64;;) {
            if (w) return i * 64 + std::countr_zero(w);
            if (++i == words) return -1;
            w = word_[i];
        }
    }
    constexpr int first() const { return next(0); }
    constexpr int last() const {
        for (int i = words; i-- > 0;) {
            if (word_[i]) return i * 64 + 63 - std::countl_zero(word_[i]);
        }
        return -1;
    }
    /// The n-th member, counted from 0; -1 when there are fewer. Kernel: cpumask_nth.
    constexpr int nth(int n) const {
        for (int m = first(); m >= 0; m = next(m + 1)) {
            if (n-- == 0) return m;
        }
        return -1;
    }
    constexpr bool subset_of(const bitmask& other) const { return (*this - other).empty(); }
    constexpr bool intersects(const bitmask& other) const { return !(*this & other).empty(); }

    friend constexpr bitmask operator&(bitmask a, const bitmask& b) { return a.apply(b, [](auto x, auto y) { return x & y; }); }
    friend constexpr bitmask operator|(bitmask a, const bitmask& b) { return a.apply(b, [](auto x, auto y) { return x | y; }); }
    friend constexpr bitmask operator^(bitmask a, const bitmask& b) { return a.apply(b, [](auto x, auto y) { return x ^ y; }); }
    /// Members of a that are not in b. Kernel: cpumask_andnot.
    friend constexpr bitmask operator-(bitmask a, const bitmask& b) { return a.apply(b, [](auto x, auto y) { return x & ~y; }); }
    constexpr bitmask& operator&=(const bitmask& b) { return *this = *this & b; }
    constexpr bitmask& operator|=(const bitmask& b) { return *this = *this | b; }
    constexpr bool operator==(const bitmask&) const = default;

    /// Ascending iteration over members.
    class iterator {
    public:
        using value_type = int;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = int;
        using iterator_category = std::input_iterator_tag;
        constexpr iterator() = default;
        constexpr iterator(const bitmask* mask, int at) : mask_(mask), at_(at) {}
        constexpr int operator*() const { return at_; }
        constexpr iterator& operator++() { at_ = mask_->next(at_ + 1); return *this; }
        constexpr iterator operator++(int) { const iterator old = *this; ++*this; return old; }
        constexpr bool operator==(const iterator& other) const { return at_ == other.at_; }

    private:
        const bitmask* mask_ = nullptr;
        int at_ = -1;
    };
    constexpr iterator begin() const { return {this, first()}; }
    constexpr iterator end() const { return {this, -1}; }

    /// "0-3,8": the kernel's list form (%*pbl); empty for the empty set.
    std::string list() const;
    /// "ff", "1,00000000": the kernel's hex form (%*pb), groups of 32 bits, leading zero groups left out; "0" for the empty set.
    std::string hex() const;
    /// Reads the kernel's list grammar: "a", "a-b", "a-b:used/group", "all", "N" (the last number, nr_bits-1), separated by commas
    /// or white space. Errors: EINVAL (grammar, start > end, bad group), ERANGE (number >= nr_bits), EOVERFLOW (does not fit an
    /// unsigned int). nr_bits: 1 .. capacity.
    static result<bitmask> parse_list(std::string_view text, int nr_bits = Bits);
    /// Reads the kernel's hex grammar: groups of at most 8 hex digits, separated by commas, an optional 0x in front of the first.
    /// Errors: EINVAL (grammar), EOVERFLOW (a group or the whole has too many bits: over nr_bits).
    static result<bitmask> parse_hex(std::string_view text, int nr_bits = Bits);

private:
    static constexpr bool in_range(int m) { return m >= 0 && m < Bits; }
    static constexpr std::uint64_t bit(int m) { return std::uint64_t{1} << (m % 64); }
    template <class F>
    constexpr bitmask& apply(const bitmask& other, F f) {
        for (int i = 0; i < words; ++i) word_[i] = f(word_[i], other.word_[i]);
        return *this;
    }

    std::array<std::uint64_t, words> word_{};
};

}  // namespace cohort
