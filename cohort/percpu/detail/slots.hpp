// SPDX-License-Identifier: Apache-2.0
/// The chunks of one shard, in lists by how much they can still take at once, and what the balance work has to do with them.
///
///     chunk_index index;
///     index.insert(chunk);                                            // a chunk_node whose map is set; the caller keeps it alive
///     if (auto p = index.alloc(16, 2, false)) {                       // else: create a chunk, insert it, try again
///         index.set_populated(*p->chunk, area_map::blocks_of(p->at, 16));
///         if (index.free(*p->chunk, p->at).balance) wake_balance_work();
///     }
///
/// The balance work, in the kernel's order; what stands in <> is done outside of the lock:
///
///     while (chunk_node* c = index.take_surplus(false)) <destroy c>;
///     while (auto d = index.next_depopulation()) index.depopulated(*d->chunk, <give back d->blocks, from last_run down; those that were>);
///     for (int n = index.take_population_wanted(); n > 0;) {
///         if (auto p = index.next_population(n)) <populate p->run>, index.set_populated(*p->chunk, p->run), n -= p->run.count();
///         else <create a chunk, insert it>;
///     }
///     while (chunk_node* c = index.take_surplus(true)) <destroy c>;
///
/// Kernel: pcpu_chunk_lists, pcpu_size_to_slot, pcpu_balance_free, pcpu_balance_populated, pcpu_reclaim_populated (mm/percpu.c), v6.12. Differences: a list
/// knows how much its chunks have at most, so that many that just miss a size (a slot spans a power of two) are not tried one by one for each request; a failed
/// search of populated blocks does not put a chunk into slot 0; a sidelined chunk is reintegrated when it is to be populated.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <cohort/percpu/detail/area_map.hpp>

namespace cohort::percpu::detail {

/// Slot 0 holds what is full, or not worth a try before something in it is freed; 1 .. last_sized_slot go by the longest free run, the others by state. The
/// search goes up from the size's slot and ends with free_slot, so the fullest chunk that fits is taken first and an unused one last.
constexpr int slot_of_bytes(int bytes) {
    const int slot = std::bit_width(static_cast<unsigned>(bytes)) - slot_base_shift + 2;
    return slot > 1 ? slot : 1;
}
inline constexpr int last_sized_slot = slot_of_bytes(unit_bytes);
inline constexpr int sidelined_slot = last_sized_slot + 1;      // depopulated; used when nothing before it fits, which brings it back
inline constexpr int free_slot = sidelined_slot + 1;            // nothing is allocated
inline constexpr int to_depopulate_slot = free_slot + 1;        // never searched
inline constexpr int reserved_slot = to_depopulate_slot + 1;    // never searched: alloc_reserved names the chunk
inline constexpr int slots = reserved_slot + 1;

enum class chunk_kind : std::uint8_t { ordinary, first, reserved };

/// A chunk as the index sees it; the caller sets the first two before insert().
struct chunk_node {
    area_map* map = nullptr;
    chunk_kind kind = chunk_kind::ordinary;
    bool isolated = false;  // about to be, or, depopulated: its empty populated blocks are not counted for allocations that must not wait
    int slot = -1;          // -1: in no index
    chunk_node* prev = nullptr;
    chunk_node* next = nullptr;

    /// The first and the reserved chunk are never isolated or destroyed.
    bool immutable() const { return kind != chunk_kind::ordinary; }
};

struct placement {
    chunk_node* chunk;
    int at;  // in bits
};
struct freed {
    int bits;      // -1: no live area starts there, nothing changed
    bool balance;  // the balance work has something to do
};
struct depopulation {
    chunk_node* chunk;
    block_set blocks;
};
struct population {
    chunk_node* chunk;
    block_run run;
};

/// Sizes in bytes.
struct index_figures {
    std::int64_t nr_alloc = 0, nr_dealloc = 0;
    int nr_cur_alloc = 0, nr_max_alloc = 0;
    int nr_chunks = 0, nr_max_chunks = 0;
    int min_alloc_size = 0, max_alloc_size = 0;  // 0: none yet
    std::int64_t nr_tried = 0;                   // chunks that searches have looked at
};

/// Synchronization: none; the caller's lock guards every call, and each area_map and chunk_node in it. No memory is allocated.
class chunk_index {
public:
    chunk_index() = default;
    chunk_index(const chunk_index&) = delete;
    chunk_index& operator=(const chunk_index&) = delete;

    void insert(chunk_node& chunk);
    /// Live areas in it stay counted: a chunk is removed when it is fully free, or with the whole index.
    void remove(chunk_node& chunk);

    /// From the fullest chunk that fits. Nothing: no searched chunk has a place (see area_map for alignments). Cost: the chunks of the slots passed, a hint each; of
    /// slots where no chunk is large enough, none once that is known.
    std::optional<placement> alloc(int bits, int align, bool populated_only);
    /// From this chunk, which is reserved.
    std::optional<int> alloc_reserved(chunk_node& chunk, int bits, int align, bool populated_only);
    freed free(chunk_node& chunk, int at);

    void set_populated(chunk_node& chunk, block_run run);
    void clear_populated(chunk_node& chunk, block_run run);

    // ---- Balance work

    /// Something of what follows has work. Cost: constant.
    bool wants_balance() const;
    /// Takes out a fully free chunk that is one too many (one is kept), or nullptr. unpopulated_only: only one without populated blocks.
    chunk_node* take_surplus(bool unpopulated_only);
    /// The next chunk to give blocks back of, and which: all of its empty populated ones. While there are fewer than `reserve` elsewhere, chunks go back into use instead. Until
    /// depopulated() is told, nothing is allocated from the chunk; areas in it may be freed.
    std::optional<depopulation> next_depopulation(int reserve = empty_pop_pages_high);
    /// Takes out of use what has an empty populated block, however little that is: next_depopulation(0) then names them one by one.
    void isolate_all();
    /// `given_back`, a part of what next_depopulation named, is not populated any more; none: it could not be done, the chunk goes back into use.
    void depopulated(chunk_node& chunk, block_set given_back);
    /// Was it ever asked for anything? A reserve for a layout that nobody uses would be a chunk for nothing.
    bool in_use() const { return figures_.nr_max_chunks > 0 || populated_only_failed_; }
    /// How many blocks to populate so that allocations that must not wait find some; after one of them failed, a full reserve more.
    int take_population_wanted();
    /// Up to `wanted` (> 0) blocks in a row, of the fullest chunk that has some. Nothing: a new chunk is needed.
    std::optional<population> next_population(int wanted);

    // ---- Figures

    /// Empty populated blocks of chunks that are searched and not isolated.
    int nr_empty_pop_pages() const { return nr_empty_pop_pages_; }
    const index_figures& figures() const { return figures_; }
    /// Ascending by slots.
    template <class F>
    void for_each_chunk(F f) const {
        for (const list& l : list_) {
            for (chunk_node* c = l.head; c != nullptr;) {
                chunk_node* const next = c->next;
                f(*c);
                c = next;
            }
        }
    }
    /// Lists against slots, counts against chunks; not the maps. Empty when all is well.
    std::string check_invariants() const;

private:
    struct list {
        chunk_node* head = nullptr;
        chunk_node* tail = nullptr;
        int longest = 0;  // no chunk of it has more free bits in a row
    };

    static int slot_of(const chunk_node& chunk);
    void link(chunk_node& chunk, int slot, bool front);
    void unlink(chunk_node& chunk);
    void move(chunk_node& chunk, int slot, bool front);
    void relocate(chunk_node& chunk);
    std::optional<placement> alloc_from(int slot, int bits, int align, bool populated_only);
    void isolate(chunk_node& chunk);
    void reintegrate(chunk_node& chunk);
    bool worth_depopulating(const chunk_node& chunk) const;
    bool has_surplus() const { return list_[free_slot].head != list_[free_slot].tail; }
    void count_alloc(int bits);
    /// Whatever may change which blocks of the chunk are empty or populated goes through here.
    template <class Change>
    void change(chunk_node& chunk, Change what) {
        const int before = chunk.map->nr_empty_pop_pages();
        what();
        if (chunk.kind != chunk_kind::reserved && !chunk.isolated) nr_empty_pop_pages_ += chunk.map->nr_empty_pop_pages() - before;
    }

    std::array<list, slots> list_{};
    std::uint32_t used_ = 0;  // bit: the slot's list has a chunk
    int nr_empty_pop_pages_ = 0;
    bool populated_only_failed_ = false;
    index_figures figures_;
};

}  // namespace cohort::percpu::detail
