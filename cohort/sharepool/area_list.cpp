// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/area_list.hpp>

#include <cohort/sharepool/detail/heap.hpp>

namespace cohort::sharepool {

area_list detail::areas_of(const heap& h) {
    area_list l;
    l.huge = h.head().facts.huge != 0;
    h.each_unit([&](std::uint64_t unit) {
        const state s = h.state_of(unit);
        if (s.what() == kind::small && s.count() < classes) l.small_bytes += std::uint64_t{class_table[s.count()].units} << unit_shift;
        if (s.what() != kind::area || s.reserved()) return;
        // A word that somebody wrote who does not play by the rules shows nothing that is not the group's.
        const std::uint64_t left = (h.where.units - unit) << unit_shift;
        const std::uint64_t bytes = s.bytes() < left ? s.bytes() : left;
        const member_word w{h.member_at(slot_of(s.by()) % most_members).word.load(std::memory_order_acquire)};
        const bool there = owner_of(s.by()) != nobody && w.what() == phase::present && make_tag(slot_of(s.by()), w.generation()) == owner_of(s.by());
        l.areas.push_back({reinterpret_cast<std::uint64_t>(h.base) + (unit << unit_shift), bytes, there ? static_cast<int>(w.pid()) : 0});
        l.area_bytes += bytes;
    });
    return l;
}

}  // namespace cohort::sharepool
