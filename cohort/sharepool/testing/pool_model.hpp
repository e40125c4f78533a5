// SPDX-License-Identifier: Apache-2.0
/// The pool of README.md in small, steps 1 to 5 and 8, and the recovery of a dead member: the magazines of magazine_model.hpp over two superblocks of two blocks each.
///
/// Functions do the accesses of the code's in the same order; change both together.
#pragma once

#include <array>
#include <string>

#include <cohort/base/testing/interleave.hpp>
#include <cohort/sharepool/testing/magazine_model.hpp>

namespace cohort::sharepool::testing {

class pool_model : public magazine_model {
public:
    static constexpr int per_superblock = 2, superblocks = 2, member_slots = 5;

    pool_model(interleave::run& x, fault f, magazines kind) : magazine_model(x, f, kind) {
        x.at_end([this] { return account(); });
        for (int s = 1; s < member_slots; ++s) table_[at(s)] = {.generation = 1, .used = true};
    }

    /// How it stands at first.
    void is_in_bits(int x, owner_of stale = nobody) {
        tags_[at(x)] = {stale, true, false};
        bit(x) = true;
    }

    // ---- what members do

    /// A block, or -1: there is none just now.
    int alloc(thread& t) {
        int x = pop(t);
        if (x < 0) x = refill(t);
        return x;
    }
    /// A free block of t's own.
    void free(thread& t, int x) {
        let_go(t, x);
        tags_[at(x)] = {t.me(), true, false};
        put(t, x);
    }
    /// A block that `from` handed to t. False: it is nobody's to free any more.
    bool free_of(thread& t, int x, owner_of from) {
        m.step(t);
        tag seen = tags_[at(x)];
        for (;;) {
            if (fault_ == fault::skip_adoption) break;
            if (seen.is_free || (seen.owner != from && seen != kept)) return false;
            m.step(t);
            if (fault_ == fault::adoption_by_a_store || tags_[at(x)] == seen) break;
            seen = tags_[at(x)];
        }
        holders_[at(x)] = nobody;
        if (fault_ != fault::skip_adoption) tags_[at(x)] = {t.me(), true, false};
        put(t, x);
        return true;
    }
    /// By whoever has a block of `from`'s. False: it is `from`'s no more.
    bool share(thread& t, int x, owner_of from) {
        m.step(t);
        tag seen = tags_[at(x)];
        for (;; seen = tags_[at(x)]) {
            if (seen.is_free || seen.owner != from) return false;
            m.step(t);
            if (fault_ == fault::hand_over_by_a_store || tags_[at(x)] == seen) break;
        }
        tags_[at(x)] = {seen.owner, false, true};
        return true;
    }
    /// A block is taken out, and another comes to its place.
    void replace(thread& t, int y) {
        if (fault_ != fault::items_overtake_tags) {
            pop(t);
            return free(t, y);
        }
        // What others see on a machine whose stores overtake one another.
        let_go(t, y);
        tags_[at(y)] = {t.me(), true, false};
        m.step(t);
        cpu_magazine& c = here(t);
        const int x = std::exchange(c.items[at(c.count - 1)], y);
        m.step(t);
        tags_[at(x)] = {t.me(), false, false};
        got(t, x);
    }
    /// Takes blocks out of this CPU's magazine, two at once, and gives them to their superblocks.
    void flush(thread& t) {
        std::array<int, 2> out{-1, -1};
        if (kind_ == magazines::slots) {
            for (int& x : out) x = pop_slot(t);
        } else {
            m.sequence(t, [&]() -> std::optional<int> { return pop_two(t, out); });
        }
        for (const int x : out) {
            if (x < 0) continue;
            if (fault_ == fault::give_before_the_tag) give(t, x);
            m.step(t);
            if (fault_ != fault::flush_drops_the_tags) tags_[at(x)] = {t.me(), true, false};
            if (fault_ != fault::give_before_the_tag) give(t, x);
        }
    }

    // ---- recovery

    using marks = std::array<bool, blocks>;

    /// Of a member all of whose threads have ended. May be called by several at once.
    void recover(thread& t, const member& d) {
        marks marked{};
        if (fault_ == fault::marks_before_the_death) mark(t, marked);
        m.wait_for_end(d);
        if (d.dead) recover(t, d.name, marked);
    }
    /// The member goes in order: it recovers itself.
    void leave(thread& t) {
        marks marked{};
        recover(t, t.me(), marked);
        t.of->dead = true;
    }
    /// Takes the slot of a member that was recovered, once it is free.
    void join_in_place_of(thread& t, const member& d) {
        place_in_table& p = table_[at(d.name.slot)];
        interleave::run::wait_until([&p, &d] { return !p.used || (d.threads_left == 0 && !d.dead); });
        if (!d.gone()) return;
        m.step(t);
        p.used = true;
        t.of->name = {d.name.slot, p.generation};
        joined_ = t.of;
    }
    bool joined(const thread& t) const { return joined_ == t.of; }

private:
    struct superblock {
        owner_of taker;
        std::array<bool, per_superblock> bits{};
    };
    struct place_in_table {
        int generation = 0;
        bool used = false;
    };

    bool& bit(int x) { return superblocks_[at(x / per_superblock)].bits[at(x % per_superblock)]; }

    // ---- superblocks

    /// Takes what is free in one superblock; the first goes to the caller, the others into the magazine.
    int refill(thread& t) {
        for (int s = 0; s < superblocks; ++s) {
            superblock& b = superblocks_[at(s)];
            if (fault_ != fault::take_does_not_take_the_superblock) {
                m.step(t);
                if (b.taker != nobody) continue;
                b.taker = t.me();
            }
            m.step(t);
            const auto chosen = b.bits;
            const auto clear = [&] {
                m.step(t);
                for (int i = 0; i < per_superblock; ++i) b.bits[at(i)] = b.bits[at(i)] && !chosen[at(i)];
            };
            if (fault_ == fault::take_clears_the_bits_before_the_tags) clear();
            int first = -1;
            for (int i = 0; i < per_superblock; ++i) {
                if (!chosen[at(i)]) continue;
                first = first < 0 ? i : first;
                if (fault_ == fault::take_drops_the_tags) continue;
                m.step(t);
                tags_[at(s * per_superblock + i)] = {t.me(), false, false};
            }
            if (first >= 0 && fault_ != fault::take_clears_the_bits_before_the_tags) clear();
            m.step(t);
            if (b.taker == t.me()) b.taker = nobody;
            if (first < 0) continue;
            for (int i = first + 1; i < per_superblock; ++i) {
                if (!chosen[at(i)]) continue;
                m.step(t);
                tags_[at(s * per_superblock + i)] = {t.me(), true, false};
                put(t, s * per_superblock + i);
            }
            return got(t, s * per_superblock + first);
        }
        return -1;
    }
    void put(thread& t, int x) {
        if (!push(t, x)) give(t, x);
    }
    /// x: unlinked, its tag t's and free.
    void give(thread& t, int x) {
        m.step(t);
        bit(x) = true;
    }

    // ---- recovery

    void recover(thread& t, owner_of d, marks& marked) {
        reset_states(t, d);
        if (kind_ == magazines::slots) reset_slots(t, d);
        if (fault_ != fault::marks_before_the_death && fault_ != fault::sweep_before_mark) mark(t, marked);
        sweep(t, d, marked);
        if (fault_ == fault::sweep_before_mark) mark(t, marked);
        free_member_slot(t, d);
    }
    void reset_states(thread& t, owner_of d) {
        if (fault_ == fault::leaves_superblocks_of_the_dead) return;
        for (superblock& b : superblocks_) {
            m.step(t);  // one compare-and-swap
            if (b.taker == d || fault_ == fault::resets_superblocks_of_the_living) b.taker = nobody;
        }
    }
    void reset_slots(thread& t, owner_of d) {
        if (fault_ == fault::slots_of_the_dead_stay) return;
        for (cpu_magazine& c : cpus_) {
            for (slot& s : c.slots) {
                m.step(t);  // one compare-and-swap
                if (s.by == d || fault_ == fault::slots_of_all_are_given_back) s.by = nobody;
            }
        }
    }
    void mark(thread& t, marks& marked) {
        for (cpu_magazine& c : cpus_) {
            if (fault_ == fault::marks_one_cpu_only && &c != &here(t)) continue;
            m.step(t);
            const int n = kind_ == magazines::slots ? places : c.count;
            for (int i = 0; i < n; ++i) {
                m.step(t);
                const slot& s = c.slots[at(i)];
                const int x = kind_ == magazines::slots ? s.item : c.items[at(i)];
                if (x < 0 || (fault_ == fault::claimed_slots_are_not_marked && s.by != nobody)) continue;
                marked[at(x)] = true;
            }
        }
    }
    void sweep(thread& t, owner_of d, const marks& marked) {
        for (int x = 0; x < blocks; ++x) {
            if (fault_ == fault::sweep_passes_over_taken_superblocks && superblocks_[at(x / per_superblock)].taker != nobody) continue;
            m.step(t);
            if (marked[at(x)] || !claim_of_the_dead(t, x, d, tags_[at(x)])) continue;
            m.step(t);
            bit(x) = true;
        }
    }
    /// True: x is t's now, to be linked.
    bool claim_of_the_dead(thread& t, int x, owner_of d, tag seen) {
        for (; seen.owner == d; seen = tags_[at(x)]) {
            m.step(t);
            if (bit(x) && fault_ != fault::sweep_ignores_the_bits) return false;
            m.step(t);
            if (tags_[at(x)] == seen || fault_ == fault::sweep_claims_by_a_store) break;
            if (fault_ == fault::sweep_does_not_look_again) return false;
        }
        if (seen.owner != d) return false;
        if (m.lives(holders_[at(x)]) && holders_[at(x)] != t.me()) m.broken("recovery took a block from the living");
        if (seen.shared && fault_ != fault::sweep_frees_what_was_handed_over) {
            tags_[at(x)] = kept;
            return false;
        }
        if (seen.shared) m.broken("recovery freed a block that was handed over");
        holders_[at(x)] = nobody;
        tags_[at(x)] = {fault_ == fault::sweep_claims_for_nobody ? nobody : t.me(), true, false};
        return true;
    }
    void free_member_slot(thread& t, owner_of d) {
        place_in_table& p = table_[at(d.slot)];
        m.step(t);  // one compare-and-swap
        const bool as_it_was = p.used && p.generation == d.generation;
        if (!as_it_was && fault_ != fault::slot_of_the_member_freed_by_a_store) return;
        p = {fault_ == fault::generation_stays ? d.generation : d.generation + 1, false};
    }

    /// When nobody runs and all the dead are recovered.
    std::string account() {
        for (int x = 0; x < blocks; ++x) {
            const std::string name = "block " + std::to_string(x);
            int linked = bit(x) ? 1 : 0;
            for (const cpu_magazine& c : cpus_) {
                for (int i = 0; i < places; ++i) {
                    if (kind_ == magazines::slots && c.slots[at(i)].item == x) ++linked;
                    if (kind_ == magazines::sequences && i < c.count && c.items[at(i)] == x) ++linked;
                }
            }
            const tag& w = tags_[at(x)];
            const bool held = holders_[at(x)] != nobody;
            if (linked > 1) return name + " is linked twice";
            if (linked == 1 && held) return name + " is linked and held";
            if (linked == 0 && w != kept && (w.is_free || !m.lives(w.owner) || w.owner != holders_[at(x)])) return name + " is lost";
        }
        for (const superblock& b : superblocks_) {
            if (b.taker != nobody) return "a superblock is stuck";
        }
        for (const cpu_magazine& c : cpus_) {
            for (const slot& s : c.slots) {
                if (s.by != nobody) return "a slot is stuck";
            }
        }
        if (joined_ && !table_[at(joined_->name.slot)].used) return "the slot of a living member is free";
        return "";
    }

    std::array<superblock, superblocks> superblocks_;
    std::array<place_in_table, member_slots> table_;
    const member* joined_ = nullptr;
};

}  // namespace cohort::sharepool::testing
