// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/detail/heap.hpp>

#include <algorithm>
#include <array>
#include <cerrno>

#include <cohort/sys/rseq.hpp>
#include <cohort/sys/shared_memory.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool::detail {

int heap::make_present(std::uint64_t cpu) noexcept {
    if (cpu >= where.cpus) return ENOMEM;
    const std::uint64_t at = where.magazines_at() + cpu * magazines_bytes;
    if (const int e = sys::allocate_file_pages(meta_fd, at, magazines_bytes); e != 0) return e;
    // release: the pages are there, and zero. Partner: the sequences, which read the entry, and magazines_of(), acquire.
    cpu_entry(cpu).store(static_cast<std::uint32_t>(at), std::memory_order_release);
    return 0;
}

// ---- magazines without sequences ----

slots* heap::slots_here(unsigned c) noexcept {
    const auto cpu = static_cast<std::uint64_t>(sys::current_cpu()) % where.cpus;
    std::byte* m = magazines_of(cpu);
    if (!m) {
        if (make_present(cpu) != 0) return nullptr;
        m = magazines_of(cpu);
    }
    return reinterpret_cast<slots*>(m + c * sizeof(magazine));
}

bool heap::pop_slot(unsigned c, tag as, item& block) noexcept {
    slots* s = slots_here(c);
    if (!s) return false;
    for (std::atomic<std::uint64_t>& word : s->at) {
        std::uint64_t w = word.load(std::memory_order_relaxed);
        const auto i = static_cast<item>(w);
        if (w == 0 || w != slot_word(i, nobody) || i >= end) continue;
        // The exchange itself carries who takes it. acquire: what the one who freed it wrote. Partner: push_slot().
        if (!word.compare_exchange_strong(w, slot_word(i, me), std::memory_order_acquire, std::memory_order_relaxed)) continue;
        tag_of(i).store(as, std::memory_order_relaxed);
        // release: the tag is seen by who finds the slot empty. Partner: mark() in recovery.cpp.
        word.store(0, std::memory_order_release);
        block = i;
        return true;
    }
    return false;
}

bool heap::push_slot(unsigned c, item block) noexcept {
    slots* s = slots_here(c);
    if (!s) return false;
    const std::size_t capacity = std::min<std::size_t>(std::size(s->at), class_table[c].items);
    for (std::atomic<std::uint64_t>& word : std::span(s->at).first(capacity)) {
        std::uint64_t empty = 0;
        if (word.load(std::memory_order_relaxed) != 0) continue;
        // release: the block's content and tag. Partner: pop_slot(), acquire.
        if (word.compare_exchange_strong(empty, slot_word(block, nobody), std::memory_order_release, std::memory_order_relaxed)) return true;
    }
    return false;
}

bool heap::pop(unsigned c, tag as, item& block) noexcept {
    if (!by_sequences) return pop_slot(c, as, block);
    std::uint64_t popped = 0;
    if (!sequence::pop(meta, tags, c * sizeof(magazine), end, as, popped)) return false;
    block = static_cast<item>(popped);
    return true;
}

bool heap::push(unsigned c, item block) noexcept {
    return by_sequences ? sequence::push(meta, c * sizeof(magazine), class_table[c].items, block) : push_slot(c, block);
}

/// This CPU gets its magazines if it has none. What is no count or no item in the one of class c goes; the blocks that it hid stay with the tags that they have.
void heap::prepare_magazine(unsigned c) noexcept {
    const std::int64_t cpu = sys::rseq_cpu_id();
    if (cpu >= 0 && static_cast<std::uint64_t>(cpu) < where.cpus && !magazines_of(static_cast<std::uint64_t>(cpu))) (void)make_present(static_cast<std::uint64_t>(cpu));
    (void)sequence::drop_count(meta, c * sizeof(magazine));
    while (sequence::drop_item(meta, c * sizeof(magazine), end)) {}
}

// ---- the slow ways ----

void* heap::alloc_slow(unsigned c, tag as) noexcept {
    item block = 0;
    if (!by_sequences && pop_slot(c, as, block)) return address_of(block, c);
    if (by_sequences) prepare_magazine(c);
    std::array<item, most_items / 2 + 1> some{};
    const std::span wanted(some.data(), class_table[c].items / 2 + 1);
    std::size_t n = take(c, wanted);
    while (n == 0) {
        if (add_superblock(c) != 0) return nullptr;
        n = take(c, wanted);
    }
    // All are ours, with free_bit. One is for the caller; the others go where the next ones are looked for.
    tag_of(some[0]).store(as, std::memory_order_relaxed);
    for (std::size_t i = n; i-- > 1;) {
        if (!push(c, some[i])) give(c, some[i]);
    }
    return address_of(some[0], c);
}

void heap::free_slow(unsigned c, item block) noexcept {
    if (push(c, block)) return;
    if (by_sequences) prepare_magazine(c);
    // Full: half of it goes to the superblocks.
    item other = 0;
    for (std::uint32_t i = 0; i < class_table[c].items / 2 + 1 && pop(c, me | free_bit, other); ++i) give(c, other);
    if (!push(c, block)) give(c, block);
}

void heap::empty_magazines_here() noexcept {
    item block = 0;
    for (unsigned c = 0; c < classes; ++c) {
        while (pop(c, me | free_bit, block)) give(c, block);
    }
}

int heap::adopt(std::atomic<tag>& t) noexcept {
    tag seen = t.load(std::memory_order_relaxed);
    for (;;) {
        if (seen & free_bit) return EALREADY;
        if (seen == nobody) return EINVAL;  // never allocated: a handed-over block of nobody has shared_bit
        // By exchange: recovery may be claiming the block at this moment, another member freeing it. acq_rel: what its owner wrote to it.
        if (t.compare_exchange_weak(seen, me | free_bit, std::memory_order_acq_rel, std::memory_order_relaxed)) return 0;
    }
}

heap::found heap::find_other(std::uint64_t distance, std::uint64_t unit, state s) const noexcept {
    if (s.what() != kind::area) return {.is = found::what::nothing, .unit = unit, .s = s};
    return {.is = distance == unit << unit_shift ? found::what::area : found::what::inside, .unit = unit, .s = s};
}

int heap::free_other(const found& f) noexcept {
    if (f.is == found::what::area) {
        if (f.s.reserved()) return EINVAL;  // of an import: it is taken back, not freed
        // Its owner may change between the look and the exchange: it is handed over, or kept by a recovery.
        for (state s = f.s; s.what() == kind::area && s.count() == f.s.count(); s = state_of(f.unit)) {
            if (retire_area(f.unit, s) == 0) return 0;
        }
        return EALREADY;
    }
    return f.is == found::what::nothing && f.s.what() == kind::retiring ? EALREADY : EINVAL;
}

}  // namespace cohort::sharepool::detail
