// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/slots.hpp>

#include <cohort/base/check.hpp>
#include <cohort/percpu/detail/trace_points.hpp>

namespace cohort::percpu::detail {

static_assert(slots <= 32, "the set of used slots is one word");

// ---- Lists

void chunk_index::link(chunk_node& chunk, int slot, bool front) {
    list& l = list_[static_cast<std::size_t>(slot)];
    chunk.slot = slot;
    chunk.prev = front ? nullptr : l.tail;
    chunk.next = front ? l.head : nullptr;
    (chunk.prev ? chunk.prev->next : l.head) = &chunk;
    (chunk.next ? chunk.next->prev : l.tail) = &chunk;
    used_ |= std::uint32_t{1} << slot;
    l.longest = std::max(l.longest, chunk.map->contig_hint());
}

void chunk_index::unlink(chunk_node& chunk) {
    list& l = list_[static_cast<std::size_t>(chunk.slot)];
    (chunk.prev ? chunk.prev->next : l.head) = chunk.next;
    (chunk.next ? chunk.next->prev : l.tail) = chunk.prev;
    if (l.head == nullptr) used_ &= ~(std::uint32_t{1} << chunk.slot);
    chunk.prev = chunk.next = nullptr;
    chunk.slot = -1;
}

void chunk_index::move(chunk_node& chunk, int slot, bool front) {
    unlink(chunk);
    link(chunk, slot, front);
}

/// Where a chunk that is in use belongs.
int chunk_index::slot_of(const chunk_node& chunk) {
    if (chunk.kind == chunk_kind::reserved) return reserved_slot;
    const area_map& map = *chunk.map;
    if (map.contig_hint() == 0) return 0;
    if (map.fully_free() && !chunk.immutable()) return free_slot;
    return slot_of_bytes(map.contig_hint() * min_alloc_bytes);
}

/// What can take more than before is tried next, what can take less comes last of its like.
void chunk_index::relocate(chunk_node& chunk) {
    const int slot = chunk.isolated ? chunk.slot : slot_of(chunk);
    if (slot != chunk.slot) return move(chunk, slot, slot > chunk.slot);
    list& l = list_[static_cast<std::size_t>(slot)];
    l.longest = std::max(l.longest, chunk.map->contig_hint());
}

void chunk_index::insert(chunk_node& chunk) {
    COHORT_CHECK(chunk.map != nullptr && chunk.slot == -1, "a chunk without a map, or one that is in an index already");
    chunk.isolated = false;
    link(chunk, slot_of(chunk), true);
    if (chunk.kind != chunk_kind::reserved) nr_empty_pop_pages_ += chunk.map->nr_empty_pop_pages();
    figures_.nr_max_chunks = std::max(figures_.nr_max_chunks, ++figures_.nr_chunks);
}

void chunk_index::remove(chunk_node& chunk) {
    if (chunk.kind != chunk_kind::reserved && !chunk.isolated) nr_empty_pop_pages_ -= chunk.map->nr_empty_pop_pages();
    unlink(chunk);
    chunk.isolated = false;
    --figures_.nr_chunks;
}

// ---- Areas

void chunk_index::count_alloc(int bits) {
    const int bytes = bits * min_alloc_bytes;
    ++figures_.nr_alloc;
    figures_.nr_max_alloc = std::max(figures_.nr_max_alloc, ++figures_.nr_cur_alloc);
    figures_.min_alloc_size = figures_.min_alloc_size ? std::min(figures_.min_alloc_size, bytes) : bytes;
    figures_.max_alloc_size = std::max(figures_.max_alloc_size, bytes);
}

std::optional<placement> chunk_index::alloc(int bits, int align, bool populated_only) {
    const std::uint32_t searched = (std::uint32_t{2} << free_slot) - 1;
    trace::search(bits, slot_of_bytes(bits * min_alloc_bytes), used_ & searched);
    // Chunks that miss move to slot 0 only, which is not among these.
    for (std::uint32_t left = used_ & searched & (~std::uint32_t{0} << slot_of_bytes(bits * min_alloc_bytes)); left != 0; left &= left - 1) {
        if (auto found = alloc_from(std::countr_zero(left), bits, align, populated_only)) return found;
    }
    populated_only_failed_ |= populated_only;
    return std::nullopt;
}

std::optional<placement> chunk_index::alloc_from(int slot, int bits, int align, bool populated_only) {
    list& l = list_[static_cast<std::size_t>(slot)];
    if (bits > l.longest) return std::nullopt;
    int longest = 0;  // of those that missed and stay
    for (chunk_node *chunk = l.head, *next; chunk != nullptr; chunk = next) {
        next = chunk->next;
        area_map& map = *chunk->map;
        ++figures_.nr_tried;
        const std::optional<int> at = map.may_fit(bits, align) ? map.find_fit(bits, align, populated_only) : std::nullopt;
        trace::fit(slot, bits, map.contig_hint(), at.value_or(-1));
        if (at) {
            if (chunk->isolated) reintegrate(*chunk);
            change(*chunk, [&] { map.alloc_area(bits, *at); });
            relocate(*chunk);
            count_alloc(bits);
            return placement{chunk, *at};
        }
        // Chunks that have only crumbs left would all be tried by each small request.
        if (slot < slot_fail_threshold && !populated_only) move(*chunk, 0, true);
        else longest = std::max(longest, map.contig_hint());
    }
    l.longest = longest;
    return std::nullopt;
}

std::optional<int> chunk_index::alloc_reserved(chunk_node& chunk, int bits, int align, bool populated_only) {
    COHORT_CHECK(chunk.slot == reserved_slot, "a chunk that is not reserved is searched as if");
    const std::optional<int> at = chunk.map->alloc(bits, align, populated_only);
    if (at) count_alloc(bits);
    return at;
}

freed chunk_index::free(chunk_node& chunk, int at) {
    int bits = -1;
    change(chunk, [&] { bits = chunk.map->free(at); });
    if (bits < 0) return {-1, false};
    ++figures_.nr_dealloc;
    --figures_.nr_cur_alloc;
    if (chunk.kind == chunk_kind::reserved) return {bits, false};
    // Without a populated block nothing else would bring it back.
    if (chunk.slot == sidelined_slot && chunk.map->fully_free() && chunk.map->nr_empty_pop_pages() == 0) reintegrate(chunk);
    relocate(chunk);
    if (chunk.slot == free_slot && has_surplus()) return {bits, true};
    if (chunk.slot != free_slot && worth_depopulating(chunk)) {
        isolate(chunk);
        return {bits, true};
    }
    return {bits, false};
}

void chunk_index::set_populated(chunk_node& chunk, block_run run) {
    change(chunk, [&] { chunk.map->set_populated(run); });
}
void chunk_index::clear_populated(chunk_node& chunk, block_run run) {
    change(chunk, [&] { chunk.map->clear_populated(run); });
}

}  // namespace cohort::percpu::detail
