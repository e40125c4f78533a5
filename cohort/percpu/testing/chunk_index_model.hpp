// SPDX-License-Identifier: Apache-2.0
/// A chunk_index beside a plain reference: what is live in which chunk, which blocks are populated. perform(op) does one thing to both and compares; the balance
/// work runs as its users run it, with steps between that others could have taken.
#pragma once

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <cohort/percpu/detail/slots.hpp>

namespace cohort::percpu::testing {

using namespace detail;

struct index_op {
    enum kind_t : std::uint8_t { alloc, alloc_populated, alloc_reserved, free_live, free_bad, destroy, depopulate, populate, balance };
    kind_t kind = alloc;
    int bits = 1;
    int align = 1;
    std::uint32_t which = 0;
};

class chunk_index_model {
public:
    struct chunk {
        explicit chunk(chunk_kind kind, int start = 0) : map(start) { node.map = &map, node.kind = kind; }
        area_map map;
        chunk_node node;
    };

    explicit chunk_index_model(int max_chunks) : max_chunks_(max_chunks) {
        add(chunk_kind::first, 5 * block_bits + 9);
        reserved_ = add(chunk_kind::reserved, 40 * block_bits);
    }
    /// Empty when all is as it should be, else what is not.
    std::string perform(const index_op& op) {
        std::string broken = step(op);
        return broken.empty() ? index.check_invariants() : broken;
    }
    /// Each map against its live areas and its own invariants.
    std::string compare() const;

    chunk_index index;
    std::size_t nr_live() const { return live_.size(); }
    std::size_t nr_chunks() const { return chunks_.size(); }
    /// What the steps did, so that a test can tell that it walked all of them.
    struct {
        int created = 0, destroyed = 0, given_back = 0, isolated = 0, populated = 0, from_sidelined = 0, refused = 0;
    } seen;

private:
    using place = std::pair<chunk*, int>;

    std::string step(const index_op& op);
    std::string alloc(const index_op& op, bool populated_only);
    std::string took(chunk& c, int at, const index_op& op, bool populated_only);
    std::string free_one(place p);
    std::string destroy(bool unpopulated_only);
    std::string depopulate(const index_op& op);
    std::string populate();
    chunk* add(chunk_kind kind, int start = 0) {
        auto c = std::make_unique<chunk>(kind, start);
        chunk* const p = c.get();
        chunks_.push_back(std::move(c));
        index.insert(p->node);
        ++seen.created;
        return p;
    }
    chunk* of(const chunk_node* node) const {
        for (const auto& c : chunks_) {
            if (&c->node == node) return c.get();
        }
        return nullptr;
    }
    template <class... Part>
    static std::string text(const Part&... part) {
        std::ostringstream out;
        (out << ... << part);
        return out.str();
    }

    int max_chunks_;
    chunk* reserved_ = nullptr;
    std::vector<std::unique_ptr<chunk>> chunks_;
    std::map<place, int> live_;
};

inline std::string chunk_index_model::step(const index_op& op) {
    switch (op.kind) {
        case index_op::alloc: return alloc(op, false);
        case index_op::alloc_populated: return alloc(op, true);
        case index_op::alloc_reserved: {
            const std::optional<int> at = index.alloc_reserved(reserved_->node, op.bits, op.align, false);
            return at ? took(*reserved_, *at, op, false) : "";
        }
        case index_op::free_live:
            if (live_.empty()) return "";
            return free_one(std::next(live_.begin(), op.which % static_cast<std::uint32_t>(live_.size()))->first);
        case index_op::free_bad: {
            chunk& c = *chunks_[op.which % chunks_.size()];
            const int at = static_cast<int>(op.which / 64 % (unit_bits + 2)) - 1;
            if (live_.contains({&c, at})) return "";
            return index.free(c.node, at).bits == -1 ? "" : text("a free of ", at, ", where nothing lives, was taken");
        }
        case index_op::destroy: return destroy(op.which % 2);
        case index_op::depopulate: return depopulate(op);
        case index_op::populate: return populate();
        case index_op::balance: break;
    }
    std::string broken = destroy(false);
    if (broken.empty()) broken = depopulate(op);
    if (broken.empty()) broken = populate();
    if (broken.empty()) broken = destroy(true);
    if (broken.empty() && index.nr_empty_pop_pages() < empty_pop_pages_high && static_cast<int>(chunks_.size()) < max_chunks_) return "the balance work left no reserve";
    return broken;
}

inline std::string chunk_index_model::alloc(const index_op& op, bool populated_only) {
    const int lowest_slot = slot_of_bytes(op.bits * min_alloc_bytes);
    std::vector<std::pair<chunk*, int>> before;  // which could serve, and their slots
    for (const auto& c : chunks_) {
        if (c->node.slot >= lowest_slot && c->node.slot <= free_slot && c->map.contig_hint() >= op.bits) before.emplace_back(c.get(), c->node.slot);
    }
    std::optional<placement> p = index.alloc(op.bits, op.align, populated_only);
    const bool exact = op.align == 1 && !populated_only;
    if (!p) {
        ++seen.refused;
        if (exact && !before.empty()) return text("alloc of ", op.bits, " bits found none, although a chunk of slot ", before[0].second, " has them");
        if (populated_only || static_cast<int>(chunks_.size()) >= max_chunks_) return "";
        add(chunk_kind::ordinary);
        p = index.alloc(op.bits, op.align, false);
        if (!p) return text("a new chunk has no room for ", op.bits, " bits");
        return took(*of(p->chunk), p->at, op, false);
    }
    chunk* const c = of(p->chunk);
    int from = -1;
    for (const auto& [could, slot] : before) {
        if (could == c) from = slot;
    }
    if (from < 0) return "an area came from a chunk that had no room or was not to be searched";
    for (const auto& [could, slot] : before) {
        if (exact && slot < from) return text("an area came from slot ", from, ", slot ", slot, " had room");
    }
    if (from == sidelined_slot) {
        ++seen.from_sidelined;
        if (c->node.isolated) return "a sidelined chunk served and was not reintegrated";
    }
    return took(*c, p->at, op, populated_only);
}

inline std::string chunk_index_model::took(chunk& c, int at, const index_op& op, bool populated_only) {
    if (at % op.align != 0 || at < c.map.start() || at + op.bits > unit_bits) return text("area at ", at, " is misplaced");
    const auto after = live_.lower_bound({&c, at});
    if (after != live_.end() && after->first.first == &c && after->first.second < at + op.bits) return text("area at ", at, " lies over the next one");
    if (after != live_.begin()) {
        const auto& [where, bits] = *std::prev(after);
        if (where.first == &c && where.second + bits > at) return text("area at ", at, " lies over the one before");
    }
    if (populated_only && !c.map.is_populated(at, op.bits)) return text("area at ", at, " is not populated");
    index.set_populated(c.node, area_map::blocks_of(at, op.bits));
    live_[{&c, at}] = op.bits;
    return "";
}

inline std::string chunk_index_model::free_one(place p) {
    const int bits = live_[p], empty_before = index.nr_empty_pop_pages();
    const bool was_isolated = p.first->node.isolated;
    const freed f = index.free(p.first->node, p.second);
    if (f.bits != bits) return text("free of ", bits, " bits: ", f.bits);
    live_.erase(p);
    const chunk_node& n = p.first->node;
    if (n.isolated && !was_isolated) {
        ++seen.isolated;
        const int own = n.map->nr_empty_pop_pages();
        if (n.immutable() || own < n.map->nr_pages() / 4 || index.nr_empty_pop_pages() <= empty_pop_pages_high) return "a chunk was isolated for no reason";
        if (!f.balance || n.slot != to_depopulate_slot) return "an isolated chunk is nobody's work";
    }
    if (was_isolated && n.slot == sidelined_slot && (n.map->nr_empty_pop_pages() > 0 || n.map->fully_free())) return "a sidelined chunk keeps what it could give back";
    if (!was_isolated && !n.isolated && n.kind != chunk_kind::reserved && index.nr_empty_pop_pages() < empty_before) return "a free lost an empty block";
    int unused = 0;
    index.for_each_chunk([&](const chunk_node& c) { unused += c.slot == free_slot; });
    if (n.slot == free_slot && unused > 1 && !f.balance) return "a second unused chunk is nobody's work";
    return "";
}

inline std::string chunk_index_model::destroy(bool unpopulated_only) {
    const auto unused = [this](bool unpopulated) {
        int n = 0;
        index.for_each_chunk([&](const chunk_node& c) { n += c.slot == free_slot && (!unpopulated || c.map->nr_populated() == 0); });
        return n;
    };
    const int before = unused(false);
    while (chunk_node* n = index.take_surplus(unpopulated_only)) {
        if (n->immutable() || !n->map->fully_free() || n->slot != -1) return "a chunk was taken out that is in use";
        if (unpopulated_only && n->map->nr_populated() > 0) return "a populated chunk was taken for an unpopulated one";
        std::erase_if(chunks_, [n](const auto& c) { return &c->node == n; });
        ++seen.destroyed;
    }
    const int left = unused(false);
    if (before > 0 && left == 0) return "no unused chunk was kept";
    if (!unpopulated_only && left > 1) return "more than one unused chunk was kept";
    if (unpopulated_only && unused(true) > 1) return "more than one unpopulated chunk was kept";
    return "";
}

inline std::string chunk_index_model::depopulate(const index_op& op) {
    int rounds = 0;
    while (const auto d = index.next_depopulation()) {
        if (++rounds > 1000) return "depopulation has no end";
        chunk& c = *of(d->chunk);
        if (d->blocks == 0 || (d->blocks & ~c.map.empty_populated()) != 0) return "blocks are to be given back that are in use";
        if (index.nr_empty_pop_pages() < empty_pop_pages_high) return "blocks are to be given back that are needed";
        // Something is freed in it meanwhile.
        if (op.which % 3 == 0) {
            const auto live = live_.lower_bound({&c, 0});
            if (live != live_.end() && live->first.first == &c) {
                if (std::string broken = free_one(live->first); !broken.empty()) return broken;
            }
        }
        // From the end downwards; now and then only a part can be given back, or nothing.
        block_set done = 0, left = d->blocks;
        int end_before = blocks + 1;
        for (auto run = last_run(left); run && (op.which % 5 != 0 || done == 0); run = last_run(left)) {
            if (run->end >= end_before) return "runs are not given back from the end downwards";
            end_before = run->first;
            done |= run->set();
            left &= ~run->set();
        }
        if (op.which % 7 == 0) done = 0;
        const int populated = c.map.nr_populated();
        index.depopulated(c.node, done);
        if (c.map.nr_populated() != populated - std::popcount(done)) return "given back blocks are populated";
        if (done == 0 && c.node.isolated) return "what cannot be given back is kept out of use";
        seen.given_back += std::popcount(done);
    }
    std::string broken;
    index.for_each_chunk([&](const chunk_node& n) {
        if (n.slot == to_depopulate_slot) broken = "a chunk waits to be depopulated and is not";
        if (n.slot == sidelined_slot && n.map->nr_empty_pop_pages() > 0) broken = "a chunk was sidelined with blocks to give back";
    });
    return broken;
}

inline std::string chunk_index_model::populate() {
    for (int wanted = index.take_population_wanted(); wanted > 0;) {
        const std::optional<population> p = index.next_population(wanted);
        if (!p) {
            if (static_cast<int>(chunks_.size()) >= max_chunks_) return "";
            add(chunk_kind::ordinary);
            continue;
        }
        const area_map& map = *p->chunk->map;
        if (p->run.count() < 1 || p->run.count() > wanted) return text(p->run.count(), " blocks are to be populated, ", wanted, " were asked for");
        if ((p->run.set() & map.populated()) != 0 || (p->run.set() & ~map.empty_blocks()) != 0) return "blocks are to be populated that are, or are in use";
        const int before = index.nr_empty_pop_pages();
        index.set_populated(p->chunk[0], p->run);
        if (index.nr_empty_pop_pages() != before + p->run.count()) return "populated blocks do not count";
        wanted -= p->run.count();
        seen.populated += p->run.count();
    }
    return "";
}

inline std::string chunk_index_model::compare() const {
    for (const auto& c : chunks_) {
        if (std::string broken = c->map.check_invariants(); !broken.empty()) return broken;
        int areas = 0;
        for (auto live = live_.lower_bound({c.get(), 0}); live != live_.end() && live->first.first == c.get(); ++live, ++areas) {
            if (c->map.size_at(live->first.second) != live->second) return text("size at ", live->first.second, " is not ", live->second);
        }
        if (areas != c->map.nr_alloc()) return text(c->map.nr_alloc(), " areas in a chunk, ", areas, " were allocated");
    }
    return index.check_invariants();
}

}  // namespace cohort::percpu::testing
