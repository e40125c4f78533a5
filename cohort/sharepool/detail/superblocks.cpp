// SPDX-License-Identifier: Apache-2.0
/// Superblocks: a run of units cut into blocks of one class. README.md, steps 4 to 7.
///
/// The class map tells which superblocks of a class have linked blocks. It is a hint that is never missing for long: who links a block sets the bit if it is not there; who finds a
/// superblock empty clears it and then looks once more. A member killed between the two leaves a bit missing: recovery sets all bits anew.
#include <cerrno>

#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool::detail {

namespace {

constexpr std::uint64_t bit_of(std::uint64_t n) { return std::uint64_t{1} << (n % 64); }
constexpr std::uint32_t words_of(unsigned c) { return (class_table[c].blocks + 63) / 64; }
/// The bits of a full superblock in its w-th word.
constexpr std::uint64_t all_of(unsigned c, std::uint32_t w) {
    const std::uint32_t rest = class_table[c].blocks - w * 64;
    return rest >= 64 ? ~std::uint64_t{0} : bit_of(rest) - 1;
}
/// Superblocks of a class that may have free blocks before one that is all free goes back at once.
constexpr unsigned kept_of(unsigned c) { return class_table[c].units == 1 ? 8 : 2; }

}  // namespace

bool heap::all_linked(std::uint64_t unit, unsigned c) const noexcept {
    const card& k = card_of(unit);
    for (std::uint32_t w = 0; w < words_of(c); ++w) {
        if (k.bits[w].load(std::memory_order_acquire) != all_of(c, w)) return false;
    }
    return true;
}

void heap::not_in_map(unsigned c, std::uint64_t unit) noexcept {
    std::atomic<std::uint64_t>& word = class_map(c, unit / 64);
    // seq_cst, as all on the map and the bits: the look behind it sees what was linked by whoever did not yet see the bit cleared. Partner: give().
    word.fetch_and(~bit_of(unit));
    if (state s = state_of(unit); s.what() != kind::small || s.count() != c) return;
    for (std::uint32_t w = 0; w < words_of(c); ++w) {
        if (card_of(unit).bits[w].load() == 0) continue;
        word.fetch_or(bit_of(unit));
        return;
    }
}

std::size_t heap::take_from(std::uint64_t unit, unsigned c, std::span<item> out) noexcept {
    state s = state_of(unit);
    if (s.what() != kind::small || s.count() != c) {
        not_in_map(c, unit);
        return 0;
    }
    // acquire: the tags and bits that the taker before us left. Partner: the store below.
    if (s.by() != nobody || !state_word(unit).compare_exchange_strong(s.word, state::of(kind::small, me, c).word, std::memory_order_acquire)) return 0;
    card& k = card_of(unit);
    std::size_t n = 0;
    bool rest = false;
    for (std::uint32_t w = 0; w < words_of(c); ++w) {
        std::uint64_t free = k.bits[w].load(std::memory_order_acquire), picked = 0;
        while (free != 0 && n < out.size()) {
            const auto number = static_cast<std::uint32_t>(__builtin_ctzll(free));
            free &= free - 1;
            picked |= bit_of(number);
            out[n] = make_item(unit, w * 64 + number);
            // Before the bit goes: a block whose bit is clear has the tag of who took it.
            k.tags[w * 64 + number].store(me | free_bit, std::memory_order_relaxed);
            ++n;
        }
        if (picked != 0) k.bits[w].fetch_and(~picked);
        rest |= free != 0;
    }
    if (!rest) not_in_map(c, unit);
    state_word(unit).store(state::of(kind::small, nobody, c).word, std::memory_order_release);
    return n;
}

std::size_t heap::take(unsigned c, std::span<item> out) noexcept {
    const std::uint64_t words = (top_of(0) + 63) / 64;
    std::atomic<std::uint32_t>& hint = head().class_hint[c];
    const std::uint64_t start = hint.load(std::memory_order_relaxed);
    for (std::uint64_t i = 0; i < words; ++i) {
        const std::uint64_t w = (start + i) % words;
        for (std::uint64_t units = class_map(c, w).load(); units != 0; units &= units - 1) {
            const std::uint64_t unit = w * 64 + static_cast<std::uint64_t>(__builtin_ctzll(units));
            if (unit >= where.units) break;
            if (const std::size_t n = take_from(unit, c, out); n != 0) {
                if (w != start) hint.store(static_cast<std::uint32_t>(w), std::memory_order_relaxed);
                return n;
            }
        }
    }
    return 0;
}

void heap::give(unsigned c, item i) noexcept {
    const std::uint64_t unit = unit_of(i);
    const std::uint32_t number = number_of(i);
    if (number >= class_table[c].blocks) return;  // garbage from a magazine
    std::atomic<std::uint64_t>& bits = card_of(unit).bits[number / 64];
    const std::uint64_t before = bits.fetch_or(bit_of(number));
    std::atomic<std::uint64_t>& map = class_map(c, unit / 64);
    if (!(map.load() & bit_of(unit))) map.fetch_or(bit_of(unit));
    if ((before | bit_of(number)) != all_of(c, number / 64) || !all_linked(unit, c)) return;
    // All free. It goes back if there are others that have blocks.
    unsigned others = 0;
    const std::uint64_t words = where.class_map_words(), near = unit / 64;
    for (std::uint64_t w = near < 4 ? 0 : near - 4; w < words && w <= near + 4; ++w) others += static_cast<unsigned>(__builtin_popcountll(class_map(c, w).load()));
    if (others > kept_of(c)) (void)retire_superblock(unit, c);
}

int heap::add_superblock(unsigned c) noexcept {
    int e = add_superblock_once(c);
    if (e == EDQUOT && settle_if_needed()) e = add_superblock_once(c);
    return e;
}

int heap::add_superblock_once(unsigned c) noexcept {
    const class_facts& f = class_table[c];
    const std::uint64_t bytes = std::uint64_t{f.units} << unit_shift;
    const account_change change(*this);
    if (charge(nobody, bytes) != 0) return EDQUOT;
    const auto claimed = claim(f.units, 1);
    if (!claimed) {
        uncharge(nobody, bytes);
        return claimed.error();
    }
    const std::uint64_t unit = *claimed;
    const std::uint64_t card_at = where.cards_at() + unit * sizeof(card), map_at = where.class_maps_at() + (c * where.class_map_words() + unit / 64) * 8;
    int e = sys::allocate_file_pages(meta_fd, card_at, round_up(tags_at + f.blocks * sizeof(tag), page));
    if (e == 0) e = sys::allocate_file_pages(meta_fd, map_at / page * page, page);
    if (e != 0) {
        retire(unit, f.units);
        uncharge(nobody, bytes);
        return e;
    }
    card& k = card_of(unit);
    for (std::uint32_t i = 0; i < f.blocks; ++i) k.tags[i].store(nobody | free_bit, std::memory_order_relaxed);
    for (std::uint32_t w = 0; w < words_of(c); ++w) k.bits[w].store(all_of(c, w), std::memory_order_relaxed);
    publish(unit, state::of(kind::small, nobody, c));
    class_map(c, unit / 64).fetch_or(bit_of(unit));
    return 0;
}

void heap::clear_card(std::uint64_t unit) noexcept {
    if (sys::punch_hole(meta_fd, where.cards_at() + unit * sizeof(card), sizeof(card)) == 0) return;
    card& k = card_of(unit);
    for (std::atomic<tag>& t : k.tags) t.store(nobody, std::memory_order_relaxed);
    for (std::atomic<std::uint64_t>& b : k.bits) b.store(0, std::memory_order_release);  // after the tags: see README.md, step 7
}

bool heap::retire_superblock(std::uint64_t unit, unsigned c) noexcept {
    state s = state::of(kind::small, nobody, c);
    if (!state_word(unit).compare_exchange_strong(s.word, state::of(kind::small, me, c).word, std::memory_order_acquire)) return false;
    if (!all_linked(unit, c)) {
        state_word(unit).store(state::of(kind::small, nobody, c).word, std::memory_order_release);
        return false;
    }
    class_map(c, unit / 64).fetch_and(~bit_of(unit));
    const account_change change(*this);
    // Nobody's any more, before the bits go: a recovery that has read an old tag must not find it without its bit.
    card& k = card_of(unit);
    for (std::uint32_t i = 0; i < class_table[c].blocks; ++i) k.tags[i].store(nobody | free_bit, std::memory_order_relaxed);
    retire(unit, class_table[c].units);
    uncharge(nobody, std::uint64_t{class_table[c].units} << unit_shift);
    return true;
}

std::size_t heap::retire_all_free() noexcept {
    std::size_t n = 0;
    each_unit([&](std::uint64_t unit) {
        const state s = state_of(unit);
        if (s.what() == kind::small && s.count() < classes && s.by() == nobody && all_linked(unit, static_cast<unsigned>(s.count()))) {
            n += retire_superblock(unit, static_cast<unsigned>(s.count()));
        }
    });
    return n;
}

}  // namespace cohort::sharepool::detail
