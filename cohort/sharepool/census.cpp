// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>
#include <vector>

#include <cohort/sharepool/census.hpp>
#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {

using namespace detail;

namespace {

std::vector<item> all_in_magazines(const heap& h) {
    std::vector<item> all;
    for (std::uint64_t cpu = 0; cpu < h.where.cpus; ++cpu) {
        std::byte* m = h.magazines_of(cpu);
        for (unsigned c = 0; m && c < classes; ++c, m += sizeof(magazine)) {
            if (h.by_sequences) {
                const auto& mag = *reinterpret_cast<const magazine*>(m);
                const std::uint32_t count = std::min(__atomic_load_n(&mag.count, __ATOMIC_ACQUIRE), most_items);
                for (std::uint32_t i = 0; i < count; ++i) all.push_back(__atomic_load_n(&mag.items[i], __ATOMIC_ACQUIRE));
            } else {
                for (const auto& word : reinterpret_cast<const slots*>(m)->at) {
                    if (const std::uint64_t w = word.load(std::memory_order_acquire)) all.push_back(static_cast<item>(w));
                }
            }
        }
    }
    std::sort(all.begin(), all.end());
    return all;
}

}  // namespace

census detail::count_of(const heap& h) {
    census n{.bytes = sys::allocated_bytes(h.data_fd), .metadata_bytes = sys::allocated_bytes(h.meta_fd)};
    const std::vector<item> in_magazines = all_in_magazines(h);
    n.in_magazines = in_magazines.size();
    n.twice = static_cast<std::uint64_t>(std::count_if(in_magazines.begin(), in_magazines.end(), [before = ~item{0}](item i) mutable { return std::exchange(before, i) == i; }));
    std::vector<tag> present;
    for (std::uint32_t slot = 1; slot < most_members; ++slot) {
        const member_word w{h.member_at(slot).word.load(std::memory_order_acquire)};
        if (w.what() == phase::present) present.push_back(make_tag(slot, w.generation()));
    }
    const auto is_present = [&](tag t) { return std::find(present.begin(), present.end(), owner_of(t)) != present.end(); };
    n.units_free = h.where.units;
    std::uint64_t placed = 0;
    h.each_unit([&](std::uint64_t unit) {
        const state s = h.state_of(unit);
        n.units_free -= s.what() != kind::free;
        n.units_claimed += s.what() == kind::retiring || (s.what() == kind::claimed && s.count() == 0);
        n.areas += s.what() == kind::area;
        if (s.what() != kind::small || s.count() >= classes) return;
        ++n.superblocks;
        const auto c = static_cast<unsigned>(s.count());
        const card& k = h.card_of(unit);
        for (std::uint32_t b = 0; b < class_table[c].blocks; ++b) {
            ++n.blocks;
            const item i = make_item(unit, b);
            const tag t = k.tags[b].load(std::memory_order_acquire);
            const bool here = k.bits[b / 64].load(std::memory_order_acquire) >> (b % 64) & 1, there = std::binary_search(in_magazines.begin(), in_magazines.end(), i);
            placed += there;
            n.linked += here || there;
            n.twice += here && there;
            if (here || there) continue;
            if (owner_of(t) != nobody && is_present(t)) ++n.owned;
            else if (owner_of(t) == nobody && t == shared_bit) ++n.kept;
            else ++n.lost;
        }
    });
    n.twice += in_magazines.size() - placed - std::min<std::uint64_t>(n.twice, in_magazines.size() - placed);  // items in magazines that name no block of a superblock
    return n;
}

std::vector<usage> detail::accounts_in(const heap& h) {
    std::vector<usage> all;
    for (std::uint32_t slot = 0; slot < most_members; ++slot) {
        const member_word w{h.member_at(slot).word.load(std::memory_order_acquire)};
        if (slot != 0 && w.what() != phase::present) continue;
        const account::counter& c = h.account_of(slot);
        const std::uint64_t limit = c.limit;
        all.push_back({.pid = slot == 0 ? 0 : static_cast<int>(w.pid()), .bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(c.usage(), 0)), .peak = c.peak, .limit = limit == no_limit ? 0 : limit,
                       .refused = c.failures});
    }
    return all;
}

}  // namespace cohort::sharepool
