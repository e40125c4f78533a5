// SPDX-License-Identifier: Apache-2.0
/// The word of a group and the two protocols over it, apart from the table, so that a test can run them through every order of their steps.
#pragma once

#include <cstdint>

namespace cohort::account::detail {

// {dead:1, children:15, usage:48}
inline constexpr std::uint64_t dead = std::uint64_t{1} << 63;
inline constexpr std::uint64_t one_child = std::uint64_t{1} << 48;
inline constexpr std::uint64_t usage_mask = one_child - 1;
inline constexpr std::uint64_t children_mask = ~(dead | usage_mask);

constexpr std::uint64_t usage_of(std::uint64_t word) { return word & usage_mask; }
constexpr int children_of(std::uint64_t word) { return static_cast<int>((word & children_mask) >> 48); }

enum class answer { yes, limit, removed };

/// Counts amount in one group. after: the usage it made, when yes. Word: std::atomic<std::uint64_t>, all accesses seq_cst.
template <class Word>
answer count(Word& word, Word& limit, std::uint64_t amount, std::uint64_t& after) {
    std::uint64_t seen = word.load();
    do {
        if (seen & dead) return answer::removed;
        const std::uint64_t usage = usage_of(seen), most = limit.load();
        if (usage > most || amount > most - usage) return answer::limit;
    } while (!word.compare_exchange_weak(seen, seen + amount));
    after = usage_of(seen) + amount;
    // lower() may have set a smaller limit after it was looked at: it stores the limit, then reads the usage; we count, then read the limit again. At
    // least one of the two sees the other.
    if (after > limit.load()) {
        word.fetch_sub(amount);
        return answer::limit;
    }
    return answer::yes;
}

/// Sets the limit if the usage is not over it. usage: what is over it, when false.
template <class Word>
bool set_limit(Word& word, Word& limit, std::uint64_t wanted, std::uint64_t& usage) {
    // Looked at first, so that a limit which cannot be does not refuse others' charges for a moment.
    usage = usage_of(word.load());
    if (usage > wanted) return false;
    const std::uint64_t old = limit.exchange(wanted);
    usage = usage_of(word.load());
    if (usage <= wanted) return true;
    std::uint64_t mine = wanted;
    limit.compare_exchange_strong(mine, old);  // unless somebody set another one since
    return false;
}

}  // namespace cohort::account::detail
