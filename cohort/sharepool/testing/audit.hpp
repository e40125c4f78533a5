// SPDX-License-Identifier: Apache-2.0
/// An exact look at a group in which nobody acts: what its census does not tell.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <cohort/sharepool/member.hpp>

namespace cohort::sharepool::testing {

struct audit {
    std::vector<void*> handed_over;  ///< blocks and areas that outlive their owners, sorted
    std::vector<void*> reserved;     ///< areas of addresses alone
    std::string wrong;               ///< what does not add up, in words; empty: all does
};

/// Does it stand in a magazine? Then its tag says nothing: who was about to take it may have written his.
inline bool is_in_magazine(const detail::heap& h, unsigned c, detail::item i) {
    for (std::uint64_t cpu = 0; cpu < h.where.cpus; ++cpu) {
        const std::byte* m = h.magazines_of(cpu);
        if (!m) continue;
        m += c * sizeof(detail::magazine);
        if (h.by_sequences) {
            const auto& mag = *reinterpret_cast<const detail::magazine*>(m);
            if (std::find(mag.items, mag.items + std::min(mag.count, detail::most_items), i) != mag.items + std::min(mag.count, detail::most_items)) return true;
        } else {
            for (const auto& word : reinterpret_cast<const detail::slots*>(m)->at) {
                if (word != 0 && static_cast<detail::item>(word) == i) return true;
            }
        }
    }
    return false;
}

/// The runs one by one: each unit is free or belongs to a published run, and behind the highest one that was ever claimed there is nothing.
inline audit audit_of(const member& m) {
    using namespace detail;
    const heap& h = m.internals();
    audit a;
    const auto say = [&](const std::string& what) { a.wrong += (a.wrong.empty() ? "" : "; ") + what; };
    std::vector<std::int64_t> truth(most_members);  // bytes that accounts should count; 0: the group
    for (std::uint64_t unit = 0; unit < h.where.units;) {
        const std::uint64_t top = h.top_of(h.where.zone_of(unit));
        const state s = h.state_of(unit);
        const bool small = s.what() == kind::small && s.count() < classes, area = s.what() == kind::area;
        if (s == free_unit || (!small && !area)) {
            if (s != free_unit) say("unit " + std::to_string(unit) + " is of kind " + std::to_string(static_cast<int>(s.what())) + ", count " + std::to_string(s.count()) + (unit < top ? "" : ", behind the top"));
            ++unit;
            continue;
        }
        if (unit >= top) say("a run begins behind the top");
        const std::uint64_t units = small ? class_table[s.count()].units : s.units();
        for (std::uint64_t k = 1; k < units; ++k) {
            const state later = h.state_of(unit + k);
            if (later.what() != kind::claimed || later.count() != k) say("unit " + std::to_string(unit) + "+" + std::to_string(k) + " is not of its run");
        }
        const auto bytes = static_cast<std::int64_t>(small ? units << unit_shift : s.reserved() ? 0 : s.bytes());
        truth[0] += bytes;
        if (area && slot_of(s.by()) != 0) truth[slot_of(s.by())] += bytes;
        if (area && (s.by() & shared_bit)) (s.reserved() ? a.reserved : a.handed_over).push_back(h.base + (unit << unit_shift));
        if (small) {
            const auto c = static_cast<unsigned>(s.count());
            if (s.by() != nobody) say("the superblock at unit " + std::to_string(unit) + " is taken");
            for (std::uint32_t b = 0; b < class_table[c].blocks; ++b) {
                const tag t = h.card_of(unit).tags[b].load();
                const bool linked = h.card_of(unit).bits[b / 64].load() >> (b % 64) & 1;
                if (!(t & shared_bit) || (t & free_bit) || linked || is_in_magazine(h, c, make_item(unit, b))) continue;
                a.handed_over.push_back(h.address_of(make_item(unit, b), c));
            }
        }
        unit += units;
    }
    std::sort(a.handed_over.begin(), a.handed_over.end());
    for (std::uint32_t slot = 0; slot < most_members; ++slot) {
        if (const std::int64_t counted = h.account_of(slot).usage(); counted != truth[slot]) say("account " + std::to_string(slot) + " counts " + std::to_string(counted) + ", not " + std::to_string(truth[slot]));
    }
    const census n = m.count();
    const auto number = [&](const char* name, std::uint64_t found, std::uint64_t wanted) {
        if (found != wanted) say(std::string(name) + " " + std::to_string(found) + ", not " + std::to_string(wanted));
    };
    number("lost", n.lost, 0);
    number("linked twice", n.twice, 0);
    number("claimed", n.units_claimed, 0);
    number("linked, owned and kept", n.linked + n.owned + n.kept, n.blocks);
    return a;
}

/// Everything was freed: after a trim nothing is left, neither addresses nor memory.
inline std::string wrong_when_empty(member& m) {
    const std::size_t missed = m.trim();
    std::string wrong = audit_of(m).wrong;
    const census n = m.count();
    if (missed != 0) wrong += "; CPUs that could not be trimmed: " + std::to_string(missed);
    if (n.superblocks != 0) wrong += "; superblocks left: " + std::to_string(n.superblocks) + " with " + std::to_string(n.owned) + " owned and " + std::to_string(n.kept) + " kept blocks";
    if (n.areas != 0) wrong += "; areas left: " + std::to_string(n.areas);
    if (n.units_free != m.bytes() >> detail::unit_shift) wrong += "; units free: " + std::to_string(n.units_free);
    if (n.bytes != 0) wrong += "; bytes left: " + std::to_string(n.bytes);
    return wrong;
}

}  // namespace cohort::sharepool::testing
