// SPDX-License-Identifier: Apache-2.0
/// The magazines of README.md in small, steps 1, 2 and 8: two CPUs, one size class, with restartable sequences or with slots.
///
/// Functions do the accesses of the code's in the same order; change both together. `fault` leaves a step out or moves it, here and in pool_model.hpp.
/// What a user knows (who holds which block) is kept beside, in no step.
#pragma once

#include <algorithm>
#include <array>
#include <optional>

#include <cohort/base/testing/interleave.hpp>
#include <cohort/sharepool/testing/member_model.hpp>

namespace cohort::sharepool::testing {

enum class fault {
    none,
    // removals
    drop_the_tag,
    tag_after_the_commit,
    flush_drops_the_tags,
    push_commits_before_the_item,
    items_overtake_tags,
    take_clears_the_bits_before_the_tags,
    take_drops_the_tags,
    take_does_not_take_the_superblock,
    give_before_the_tag,
    // frees
    skip_adoption,
    adoption_by_a_store,
    hand_over_by_a_store,
    // recovery
    marks_before_the_death,
    sweep_before_mark,
    marks_one_cpu_only,
    sweep_ignores_the_bits,
    sweep_claims_by_a_store,
    sweep_claims_for_nobody,
    sweep_does_not_look_again,
    sweep_passes_over_taken_superblocks,
    sweep_frees_what_was_handed_over,
    resets_superblocks_of_the_living,
    leaves_superblocks_of_the_dead,
    generation_stays,
    slot_of_the_member_freed_by_a_store,
    // slots in place of sequences
    slot_cleared_before_the_tag,
    slot_claimed_by_a_store,
    claimed_slots_are_not_marked,
    slots_of_the_dead_stay,
    slots_of_all_are_given_back,
};

enum class magazines { sequences, slots };

class magazine_model {
public:
    static constexpr int blocks = 4, cpus = 2, places = 3;

    magazine_model(interleave::run& x, fault f, magazines kind) : m(x), fault_(f), kind_(kind) {}

    machine m;

    /// How it stands at first: x in the magazine of a CPU, with the tag that `stale` left.
    void is_in_magazine(int cpu, int x, owner_of stale = nobody) {
        tags_[at(x)] = {stale, true, false};
        cpu_magazine& c = cpus_[at(cpu)];
        c.slots[at(c.count)].item = x;
        c.items[at(c.count++)] = x;
    }

protected:
    struct tag {
        owner_of owner;
        bool is_free = false, shared = false;
        bool operator==(const tag&) const = default;
    };
    static constexpr tag kept{nobody, false, true};
    struct slot {
        int item = -1;
        owner_of by;
        bool operator==(const slot&) const = default;
    };
    struct cpu_magazine {
        int count = 0;
        std::array<int, places> items{-1, -1, -1};
        std::array<slot, places> slots;
    };
    static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
    cpu_magazine& here(const thread& t) { return cpus_[at(t.cpu)]; }

    int pop(thread& t) {
        if (kind_ == magazines::slots) return got(t, pop_slot(t));
        return m.sequence(t, [&]() -> std::optional<int> {
            if (!m.on(t)) return {};
            cpu_magazine& c = here(t);
            if (c.count == 0) return -1;
            const int x = c.items[at(c.count - 1)];
            if (x < 0) return no_block();
            const bool early = fault_ != fault::drop_the_tag && fault_ != fault::tag_after_the_commit;
            if (early) {
                if (!m.on(t)) return {};
                tags_[at(x)] = {t.me(), false, false};
            }
            if (!m.on(t)) return {};
            --c.count;
            got(t, x);
            if (fault_ == fault::tag_after_the_commit) {
                m.step(t);
                tags_[at(x)] = {t.me(), false, false};
            }
            return x;
        });
    }
    std::optional<int> pop_two(thread& t, std::array<int, 2>& out) {
        out = {-1, -1};
        if (!m.on(t)) return {};
        cpu_magazine& c = here(t);
        const int n = std::min(c.count, 2);
        for (int i = 0; i < n; ++i) {
            out[at(i)] = c.items[at(c.count - 1 - i)];
            if (out[at(i)] < 0) return no_block();
            if (fault_ == fault::flush_drops_the_tags) continue;
            if (!m.on(t)) return {};
            tags_[at(out[at(i)])] = {t.me(), true, false};
        }
        if (!m.on(t)) return {};
        c.count -= n;
        return n;
    }
    /// False: the magazine is full.
    bool push(thread& t, int x) {
        if (kind_ == magazines::slots) return push_slot(t, x);
        return m.sequence(t, [&]() -> std::optional<bool> {
            if (!m.on(t)) return {};
            cpu_magazine& c = here(t);
            if (c.count == places) return false;
            if (fault_ == fault::push_commits_before_the_item) {
                const int place = c.count++;
                m.step(t);
                c.items[at(place)] = x;
                return true;
            }
            c.items[at(c.count)] = x;
            if (!m.on(t)) return {};
            ++c.count;
            return true;
        });
    }
    int pop_slot(thread& t) {
        for (slot& s : here(t).slots) {
            m.step(t);
            const slot seen = s;
            if (seen.item < 0 || seen.by != nobody) continue;
            m.step(t);
            if (s != seen && fault_ != fault::slot_claimed_by_a_store) continue;
            s = {seen.item, t.me()};
            const int x = seen.item;
            const auto clear = [&] { m.step(t), s = {}; };
            if (fault_ == fault::slot_cleared_before_the_tag) clear();
            m.step(t);
            if (fault_ != fault::drop_the_tag) tags_[at(x)] = {t.me(), false, false};
            if (fault_ != fault::slot_cleared_before_the_tag) clear();
            return x;
        }
        return -1;
    }
    bool push_slot(thread& t, int x) {
        for (slot& s : here(t).slots) {
            m.step(t);
            if (s.item >= 0) continue;
            s = {x, nobody};  // by compare-and-swap
            return true;
        }
        return false;
    }

    // ---- what users know

    int no_block() {
        m.broken("a magazine counts what is no block");
        return -1;
    }
    int got(thread& t, int x) {
        if (x < 0) return x;
        if (holders_[at(x)] != nobody) m.broken("a block was handed out that somebody holds");
        holders_[at(x)] = t.me();
        return x;
    }
    void let_go(thread& t, int x) {
        m.step(t);
        if (holders_[at(x)] != t.me()) m.broken("a block went out of its holder's hands");
        holders_[at(x)] = nobody;
    }

    const fault fault_;
    const magazines kind_;
    std::array<cpu_magazine, cpus> cpus_;
    std::array<tag, blocks> tags_;
    std::array<owner_of, blocks> holders_{};  // what users know
};

}  // namespace cohort::sharepool::testing
