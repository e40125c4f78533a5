// SPDX-License-Identifier: Apache-2.0
/// A member's own view of a group's memory, and the operations of the protocol (README.md, steps 1 to 8).
///
/// Synchronization: what lies in shared memory is written as layout.hpp marks it; the heap itself is constant after attach(). All functions may be called from any thread of the
/// member at once. None waits for another member.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include <cohort/sharepool/detail/layout.hpp>
#include <cohort/sharepool/detail/sequence.hpp>
#include <cohort/sys/facts.hpp>

namespace cohort::sharepool::detail {

class heap {
public:
    std::byte* meta = nullptr;     // [const after attach]
    std::byte* base = nullptr;     // [const]
    std::byte* tags = nullptr;     // [const] of the first card
    item end = 0;                  // [const] items from here on are none
    tag me = nobody;               // [const]
    bool by_sequences = false;     // [const]
    bool unmaps = false;           // [const] debug mode: every object is an area, and its addresses are never used again
    std::size_t area_from = largest_block + 1;  // [const] objects of so many bytes are areas; 0 in debug mode
    layout where{};                // [const]
    int data_fd = -1, meta_fd = -1;  // [const]

    // ---- words of the shared memory ----
    header& head() const noexcept { return *reinterpret_cast<header*>(meta); }
    member_row& member_at(std::uint32_t slot) const noexcept { return reinterpret_cast<member_row*>(meta + members_at)[slot]; }
    std::atomic<std::uint32_t>& cpu_entry(std::uint64_t cpu) const noexcept { return reinterpret_cast<std::atomic<std::uint32_t>*>(meta + cpu_table_at)[cpu]; }
    std::atomic<std::uint64_t>& state_word(std::uint64_t unit) const noexcept { return reinterpret_cast<std::atomic<std::uint64_t>*>(meta + states_at)[unit]; }
    state state_of(std::uint64_t unit) const noexcept { return {state_word(unit).load(std::memory_order_acquire)}; }
    std::atomic<std::uint64_t>& class_map(unsigned c, std::uint64_t word) const noexcept {
        return reinterpret_cast<std::atomic<std::uint64_t>*>(meta + where.class_maps_at())[c * where.class_map_words() + word];
    }
    card& card_of(std::uint64_t unit) const noexcept { return reinterpret_cast<card*>(meta + where.cards_at())[unit]; }
    std::atomic<tag>& tag_of(item i) const noexcept { return reinterpret_cast<std::atomic<tag>*>(tags)[i]; }
    /// nullptr: the CPU has none yet.
    std::byte* magazines_of(std::uint64_t cpu) const noexcept {
        const std::uint32_t at = cpu_entry(cpu).load(std::memory_order_acquire);
        return at == 0 ? nullptr : meta + where.magazines_at() + cpu * magazines_bytes;
    }
    void* address_of(item i, unsigned c) const noexcept { return base + (std::uint64_t{unit_of(i)} << unit_shift) + std::uint64_t{number_of(i)} * class_table[c].size; }

    // ---- blocks ----
    /// A block of class c with the tag `as` (me, with shared_bit or without). nullptr: no memory. About 3 ns where the magazine holds one.
    [[gnu::always_inline]] void* alloc(unsigned c, tag as) noexcept {
        std::uint64_t block;
        if (by_sequences && sequence::pop(meta, tags, c * sizeof(magazine), end, as, block)) [[likely]] {
            return address_of(static_cast<item>(block), c);
        }
        return alloc_slow(c, as);
    }
    /// Where an address points to.
    struct found {
        enum class what : std::uint8_t { block, area, outside, nothing, inside } is = what::outside;
        std::uint8_t c = 0;         ///< of a block
        item block = 0;
        std::uint64_t unit = 0;     ///< the first of its superblock or area
        state s{};                  ///< of that unit
    };
    [[gnu::always_inline]] found find(const void* p) const noexcept {
        const auto distance = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - base);
        if (distance >= where.units << unit_shift) [[unlikely]] return {};
        std::uint64_t unit = distance >> unit_shift;
        state s = state_of(unit);
        if (s.what() == kind::claimed && s.count() != 0) {
            unit -= s.count();
            s = state_of(unit);
        }
        if (s.what() != kind::small) [[unlikely]] return find_other(distance, unit, s);
        const class_facts& f = class_table[s.count()];
        const std::uint64_t in = distance - (unit << unit_shift), number = in * f.reciprocal >> reciprocal_bits;
        if (number * f.size != in || number >= f.blocks) [[unlikely]] return {.is = found::what::inside, .unit = unit, .s = s};
        return {.is = found::what::block, .c = static_cast<std::uint8_t>(s.count()), .block = make_item(unit, static_cast<std::uint32_t>(number)), .unit = unit, .s = s};
    }
    /// 0, or an errno, nothing changed: EINVAL, p is not the start of a block or area in use; EALREADY, it is free already.
    [[gnu::always_inline]] int free(void* p) noexcept {
        const found f = find(p);
        if (f.is != found::what::block) [[unlikely]] return free_other(f);
        std::atomic<tag>& t = tag_of(f.block);
        if (t.load(std::memory_order_relaxed) != me) [[unlikely]] {
            if (const int e = adopt(t); e != 0) return e;
        } else {
            t.store(me | free_bit, std::memory_order_relaxed);
        }
        if (by_sequences && sequence::push(meta, f.c * sizeof(magazine), class_table[f.c].items, f.block)) [[likely]] return 0;
        free_slow(f.c, f.block);
        return 0;
    }
    /// A tag of another, or one's own with shared_bit, becomes me|free_bit. 0; EALREADY, it is free; EINVAL, it is no block's in use.
    int adopt(std::atomic<tag>& t) noexcept;

    // ---- superblocks (superblocks.cpp) ----
    /// Up to out.size() blocks of class c, unlinked, with the tag me|free_bit. 0: there are none, or all superblocks that have some are taken.
    std::size_t take(unsigned c, std::span<item> out) noexcept;
    /// Links a block that is ours (tag me|free_bit) in its superblock.
    void give(unsigned c, item i) noexcept;
    /// A new superblock of class c, all its blocks linked. 0 or EDQUOT, EOVERFLOW, ENOMEM, ENOSPC.
    int add_superblock(unsigned c) noexcept;
    /// The superblock's pages go back if all its blocks are linked in it. True: they did.
    bool retire_superblock(std::uint64_t unit, unsigned c) noexcept;
    /// Every superblock that is all free. The number of those.
    std::size_t retire_all_free() noexcept;
    /// Empties the magazines of the CPU that the thread is on into their superblocks.
    void empty_magazines_here() noexcept;

    // ---- runs of units (runs.cpp) ----
    /// A run of units, claimed, with pages for the first `bytes`; its first one. Then publish() or retire(). Errors: EOVERFLOW, no such run is free; ENOMEM, ENOSPC; those of policy.
    std::expected<std::uint64_t, int> claim(std::uint64_t units, std::uint64_t alignment, std::uint64_t bytes, unsigned zone = 0, const sys::mempolicy* policy = nullptr) noexcept;
    std::expected<std::uint64_t, int> claim(std::uint64_t units, std::uint64_t alignment) noexcept { return claim(units, alignment, units << unit_shift); }
    /// Where claim() looks.
    unit_range open_part(unsigned zone) const noexcept;
    /// Every unit that was ever claimed lies below its zone's.
    std::uint64_t top_of(unsigned zone) const noexcept;
    /// f(unit) for each unit that was ever claimed, in rising order.
    template <class F>
    void each_unit(F&& f) const {
        for (unsigned z = 0; z < where.zones(); ++z) {
            for (std::uint64_t unit = where.zone(z).first, top = top_of(z); unit < top; ++unit) f(unit);
        }
    }
    /// The first unit, and by it the run, becomes `as`.
    void publish(std::uint64_t first, state as) noexcept;
    void abandon(std::uint64_t first, std::uint64_t units) noexcept;
    /// A run that is ours alone, claimed or taken: its pages go, its units become free.
    void retire(std::uint64_t first, std::uint64_t units) noexcept;
    /// The first unit is retiring(me, units): pages go, units become free. `anew`: nobody has begun it before.
    void finish_retiring(std::uint64_t first, std::uint64_t units, bool anew) noexcept;
    /// A run that d, which is dead, had claimed or was retiring; s is the state of its first unit.
    void finish_for(tag d, std::uint64_t first, state s) noexcept;
    /// 0; EALREADY: its state is not s any more. Not tried again here: a slow recovery would free what the next one has there.
    int retire_area(std::uint64_t first, state s) noexcept;
    /// Debug mode: what others have freed is not to be touched by this process either.
    void forbid_what_is_gone() noexcept;

    // ---- accounts (accounts.cpp) ----
    /// Around each change of a state that is charged or uncharged, and the charge.
    class account_change {
    public:
        explicit account_change(heap& h) noexcept;
        ~account_change();
        account_change(const account_change&) = delete;
        account_change& operator=(const account_change&) = delete;

    private:
        std::atomic<std::uint64_t>& acting_;
    };
    /// Counts bytes with the owner (nobody: the group alone) and the group. 0; EDQUOT, one of them is at its limit, and nothing changed.
    int charge(tag owner, std::uint64_t bytes) noexcept;
    void uncharge(tag owner, std::uint64_t bytes) noexcept;
    /// Bytes of the group become the owner's, or are the group's own again; nothing for nobody.
    void own(tag owner, std::uint64_t bytes) noexcept;
    void disown(tag owner, std::uint64_t bytes) noexcept;
    /// What is counted and may be counted: of a row, and of the group (slot 0).
    account::counter& account_of(std::uint32_t slot) const noexcept { return slot == 0 ? head().used : member_at(slot).used; }
    /// Puts right what members that were killed left in the accounts. False: somebody is changing them at this moment, or settles.
    bool settle() noexcept;
    /// The same if somebody died since it was done: a charge that was refused may be tried again.
    bool settle_if_needed() noexcept { return head().unsettled.load(std::memory_order_relaxed) != 0 && settle(); }

    // ---- magazines (heap.cpp) ----
    /// Magazines for a CPU. 0 or ENOMEM.
    int make_present(std::uint64_t cpu) noexcept;
    /// One block out of this CPU's magazine, with the tag `as`.
    bool pop(unsigned c, tag as, item& block) noexcept;
    /// The block has the tag me|free_bit. False: the magazine is full, or there is none.
    bool push(unsigned c, item block) noexcept;

private:
    void* alloc_slow(unsigned c, tag as) noexcept;
    void free_slow(unsigned c, item block) noexcept;
    int free_other(const found& f) noexcept;
    std::expected<std::uint64_t, int> find_and_claim(std::uint64_t units, std::uint64_t alignment, unsigned zone) noexcept;
    found find_other(std::uint64_t distance, std::uint64_t unit, state s) const noexcept;
    void prepare_magazine(unsigned c) noexcept;
    bool pop_slot(unsigned c, tag as, item& block) noexcept;
    bool push_slot(unsigned c, item block) noexcept;
    slots* slots_here(unsigned c) noexcept;
    std::size_t take_from(std::uint64_t unit, unsigned c, std::span<item> out) noexcept;
    bool all_linked(std::uint64_t unit, unsigned c) const noexcept;
    void not_in_map(unsigned c, std::uint64_t unit) noexcept;
    void clear_card(std::uint64_t unit) noexcept;
    int add_superblock_once(unsigned c) noexcept;
    bool settle_if_quiet() noexcept;
    void leave_gone(std::uint64_t first, std::uint64_t units) noexcept;
    std::atomic<std::uint64_t> gone_seen_{0};  // [atomic: relaxed; a race makes one look more]
};

}  // namespace cohort::sharepool::detail
