// SPDX-License-Identifier: Apache-2.0
// What the balance work does with the chunks of an index, and whether the index is sound.
#include <algorithm>
#include <sstream>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/percpu/detail/slots.hpp>

namespace cohort::percpu::detail {

// ---- Destroy

chunk_node* chunk_index::take_surplus(bool unpopulated_only) {
    chunk_node* chunk = list_[free_slot].head;
    if (chunk == nullptr) return nullptr;
    // The head became free last and is spared.
    for (chunk = chunk->next; chunk != nullptr; chunk = chunk->next) {
        if (unpopulated_only && chunk->map->nr_populated() > 0) continue;
        remove(*chunk);
        return chunk;
    }
    return nullptr;
}

// ---- Depopulate

/// A quarter of it is empty and populated, and the others have their reserve without it; or it was depopulated and has something again.
bool chunk_index::worth_depopulating(const chunk_node& chunk) const {
    if (chunk.immutable()) return false;
    const int own = chunk.map->nr_empty_pop_pages();
    if (chunk.isolated) return own > 0;
    return own >= chunk.map->nr_pages() / 4 && nr_empty_pop_pages_ > empty_pop_pages_high + own;
}

void chunk_index::isolate(chunk_node& chunk) {
    if (!chunk.isolated) nr_empty_pop_pages_ -= chunk.map->nr_empty_pop_pages();
    chunk.isolated = true;
    if (chunk.slot != to_depopulate_slot) move(chunk, to_depopulate_slot, false);
}

void chunk_index::reintegrate(chunk_node& chunk) {
    chunk.isolated = false;
    nr_empty_pop_pages_ += chunk.map->nr_empty_pop_pages();
    move(chunk, slot_of(chunk), true);
}

std::optional<depopulation> chunk_index::next_depopulation(int reserve) {
    while (chunk_node* chunk = list_[to_depopulate_slot].head) {
        const block_set empty = chunk->map->empty_populated();
        if (empty != 0 && nr_empty_pop_pages_ >= reserve) return depopulation{chunk, empty};
        if (empty != 0 || chunk->map->fully_free()) reintegrate(*chunk);
        else move(*chunk, sidelined_slot, false);
    }
    return std::nullopt;
}

void chunk_index::isolate_all() {
    for (int slot = 0; slot <= free_slot; ++slot) {
        for (chunk_node *chunk = list_[static_cast<std::size_t>(slot)].head, *next; chunk != nullptr; chunk = next) {
            next = chunk->next;
            if (!chunk->immutable() && chunk->map->nr_empty_pop_pages() > 0) isolate(*chunk);
        }
    }
}

void chunk_index::depopulated(chunk_node& chunk, block_set given_back) {
    COHORT_CHECK(chunk.slot == to_depopulate_slot, "a chunk was depopulated that may serve allocations");
    COHORT_CHECK((given_back & ~chunk.map->empty_populated()) == 0, "blocks were given back that are in use");
    if (given_back == 0) return reintegrate(chunk);
    change(chunk, [&] { chunk.map->clear_populated(given_back); });
    // Freed meanwhile: the rest is next_depopulation's.
    if (chunk.map->empty_populated() != 0) return;
    if (chunk.map->fully_free()) reintegrate(chunk);
    else move(chunk, sidelined_slot, false);
}

// ---- Populate

int chunk_index::take_population_wanted() {
    if (std::exchange(populated_only_failed_, false)) return empty_pop_pages_high;
    return std::max(empty_pop_pages_high - nr_empty_pop_pages_, 0);
}

std::optional<population> chunk_index::next_population(int wanted) {
    COHORT_CHECK(wanted > 0, "no block is wanted");
    for (int slot = slot_of_bytes(block_bytes); slot <= free_slot; ++slot) {
        for (chunk_node* chunk = list_[static_cast<std::size_t>(slot)].head; chunk != nullptr; chunk = chunk->next) {
            std::optional<block_run> run = first_run(chunk->map->empty_blocks() & ~chunk->map->populated());
            if (!run) continue;
            run->end = std::min(run->end, run->first + wanted);
            // What is populated in an isolated chunk would not be counted.
            if (chunk->isolated) reintegrate(*chunk);
            return population{chunk, *run};
        }
    }
    return std::nullopt;
}

bool chunk_index::wants_balance() const {
    return populated_only_failed_ || nr_empty_pop_pages_ < empty_pop_pages_low || has_surplus() || list_[to_depopulate_slot].head != nullptr;
}

// ---- Check

std::string chunk_index::check_invariants() const {
    std::ostringstream broken;
    int chunks = 0, empty = 0;
    std::int64_t live = 0;
    for (int slot = 0; slot < slots; ++slot) {
        const list& l = list_[static_cast<std::size_t>(slot)];
        if (((used_ >> slot & 1) != 0) != (l.head != nullptr)) broken << "set of used slots is wrong at " << slot << "; ";
        const chunk_node* before = nullptr;
        for (const chunk_node* c = l.head; c != nullptr; before = c, c = c->next) {
            if (c->prev != before) broken << "slot " << slot << ": a link back is wrong; ";
            if (c->slot != slot) broken << "a chunk of slot " << c->slot << " is in list " << slot << "; ";
            const bool aside = slot == sidelined_slot || slot == to_depopulate_slot;
            if (c->isolated != aside) broken << "slot " << slot << ": isolated: " << c->isolated << "; ";
            if (c->isolated && c->immutable()) broken << "the first or the reserved chunk is isolated; ";
            const int due = slot_of(*c);
            const bool set_aside_by_a_miss = slot == 0 && due < slot_fail_threshold;
            if (!aside && slot != due && !set_aside_by_a_miss) broken << "a chunk that belongs in slot " << due << " is in " << slot << "; ";
            if (c->map->contig_hint() > l.longest) broken << "a chunk of list " << slot << " has more than its longest run; ";
            ++chunks;
            live += c->map->nr_alloc();
            if (!c->isolated && c->kind != chunk_kind::reserved) empty += c->map->nr_empty_pop_pages();
        }
        if (l.tail != before) broken << "slot " << slot << ": tail is wrong; ";
    }
    if (chunks != figures_.nr_chunks) broken << figures_.nr_chunks << " chunks counted, " << chunks << " are there; ";
    if (empty != nr_empty_pop_pages_) broken << nr_empty_pop_pages_ << " empty populated blocks counted, " << empty << " are there; ";
    if (live != figures_.nr_cur_alloc || figures_.nr_alloc - figures_.nr_dealloc != live) broken << figures_.nr_cur_alloc << " areas counted, " << live << " live; ";
    return broken.str();
}

}  // namespace cohort::percpu::detail
