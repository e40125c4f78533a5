// SPDX-License-Identifier: Apache-2.0
/// Where chunks come from and where pages go: growth and the balance work of detail/core.hpp.
#include <algorithm>
#include <new>

#include <cohort/percpu/detail/core.hpp>
#include <cohort/percpu/detail/trace_points.hpp>
#include <cohort/sys/usdt.hpp>

#if defined(__SANITIZE_ADDRESS__)
#define COHORT_LEAK_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COHORT_LEAK_SANITIZER 1
#endif
#endif
#if defined(COHORT_LEAK_SANITIZER)
// What objects point to is not leaked.
extern "C" void __lsan_register_root_region(const void*, std::size_t);
extern "C" void __lsan_unregister_root_region(const void*, std::size_t);
#endif

namespace cohort::percpu {

namespace {

using detail::page_up;
constexpr std::size_t payers_bytes = sizeof(detail::payer) * detail::unit_bits;

}  // namespace

// ---- Chunks

/// Makes a chunk, unless another thread has since the caller looked.
refusal allocator::core::grow(shard& s, layout kind, unsigned generation) noexcept {
    if (growth_.interrupted()) return refusal::busy;
    const lock_guard hold(growth_);
    if (s.generation.load(std::memory_order_relaxed) != generation) return refusal::none;
    return make_chunk(s, kind) ? refusal::none : refusal::no_chunk;
}

chunk* allocator::core::make_chunk(shard& s, layout kind) noexcept {
    const std::uintptr_t at = space_.take();
    if (at == 0) return nullptr;
    const std::size_t metadata = page_up(detail::metadata_bytes), units = detail::space::units_bytes();
    void* const meta_at = reinterpret_cast<void*>(at);
    void* const units_at = reinterpret_cast<void*>(at + detail::units_at);
    if (memory_.commit(meta_at, metadata) != 0 || memory_.commit(units_at, units) != 0) {
        memory_.uncommit(meta_at, metadata);
        space_.put(at);
        return nullptr;
    }
    const bool first = !first_.load(std::memory_order_relaxed) && kind == layout::coloured && number_of(s) == 0;
    const int reserved = first ? static_cast<int>(options.reserved_bytes) / detail::min_alloc_bytes : 0;
    auto* c = new (reinterpret_cast<void*>(at + detail::chunk_at)) chunk(*this, {magazines_, kind, options.index}, number_of(s), reserved);
    c->kind = first ? detail::chunk_kind::first : detail::chunk_kind::ordinary;
    bind_to_nodes(*c);
#if defined(COHORT_LEAK_SANITIZER)
    __lsan_register_root_region(units_at, units);
#endif
    space_.announce(at, true);
    trace::create_chunk(at, number_of(s), static_cast<unsigned>(kind));
    COHORT_USDT(percpu_create_chunk, at);
    s.lock.lock();
    auto& index = s.index[static_cast<std::size_t>(kind)];
    index.insert(*c);
    if (first) {
        if (reserved > 0) index.insert(c->reserved_node);
        first_.store(c, std::memory_order_relaxed);
    }
    s.generation.fetch_add(1, std::memory_order_relaxed);
    unlock(s);
    return c;
}

/// Of a chunk that is in no index and holds nothing.
void allocator::core::destroy_chunk(chunk& c) noexcept {
    const std::uintptr_t at = c.address();
    trace::destroy_chunk(at);
    COHORT_USDT(percpu_destroy_chunk, at);
    space_.announce(at, false);
    if (detail::payer* p = c.payers.load(std::memory_order_relaxed)) memory_.release(p, payers_bytes);
    void* const units_at = reinterpret_cast<void*>(at + detail::units_at);
#if defined(COHORT_LEAK_SANITIZER)
    __lsan_unregister_root_region(units_at, detail::space::units_bytes());
#endif
    memory_.uncommit(units_at, detail::space::units_bytes());
    memory_.uncommit(reinterpret_cast<void*>(at), page_up(detail::metadata_bytes));
    space_.put(at);
}

/// Runs of CPUs on one node are bound at once; a refusal is no error, since it is a wish.
void allocator::core::bind_to_nodes(chunk& c) noexcept {
    const auto& node_of = options.node_of;
    const unsigned n = possible_cpus();
    if (options.index != by::cpu || node_of.size() < n) return;
    for (unsigned first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && node_of[end] == node_of[first];) ++end;
        if (end - first == n) return;  // one node: nothing to choose
        if (node_of[first] < 0) continue;
        (void)memory_.prefer_node(reinterpret_cast<void*>(c.address() + detail::units_at + first * detail::stride), (end - first) * detail::stride, node_of[first]);
    }
}

/// The pages of an object on every possible CPU.
refusal allocator::core::populate_all(std::uintptr_t value, int bits) noexcept {
    chunk& c = *detail::space::find(value);
    const int first = chunk::bit_of(value) * detail::min_alloc_bytes, end = first + bits * detail::min_alloc_bytes;
    const std::uintptr_t page = sys::page_bytes();
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        const auto unit = reinterpret_cast<std::uintptr_t>(c.at(cpu, 0));
        const std::uintptr_t from = (unit + static_cast<unsigned>(first)) & ~(page - 1), to = (unit + static_cast<unsigned>(end) + page - 1) & ~(page - 1);
        if (memory_.populate(reinterpret_cast<void*>(from), to - from) != 0) return refusal::no_populate;
    }
    trace::populate(value, end - first, possible_cpus());
    return refusal::none;
}

// ---- Magazines

std::uintptr_t allocator::core::make_block(unsigned cpu) noexcept {
    constexpr std::size_t bytes = page_up(detail::magazine_block_bytes);
    void* at = memory_.reserve(bytes, detail::largest_page_bytes);
    if (!at) return 0;
    const std::uintptr_t block = reinterpret_cast<std::uintptr_t>(at) + detail::block_colour(cpu);
    std::uintptr_t expected = 0;
    if (memory_.commit(at, bytes) != 0 || !made_[cpu].compare_exchange_strong(expected, block)) {
        memory_.release(at, bytes);
        return 0;
    }
    magazines_->block[cpu].store(block, std::memory_order_release);
    return block;
}

/// Takes the CPU's block out of the table, waits until no sequence is inside, empties it, puts it back.
void allocator::core::empty_block(unsigned cpu) noexcept {
    const std::uintptr_t block = magazines_->block[cpu].exchange(0);
    if (block == 0) return;
    sys::restart_sequences_on(static_cast<int>(cpu));
    for (int cls = 0; cls < detail::classes; ++cls) {
        auto* stack = reinterpret_cast<std::uint64_t*>(block + detail::stack_places[static_cast<std::size_t>(cls)]);
        const std::uint64_t n = *stack & 0xff;
        if (n == 0) continue;
        for (std::uint64_t i = 1; i <= n; ++i) detail::annotate_taken(stack[i]);
        to_maps(std::span(stack + 1, n));
        __atomic_store_n(stack, *stack - n, __ATOMIC_RELAXED);  // looked at by stats(); not counted as taken
    }
    // release: the stacks as they are now. Pairs with the loads of sequences, which depend on the address.
    magazines_->block[cpu].store(block, std::memory_order_release);
}

/// Those that took nothing since the last time, or all.
void allocator::core::empty_magazines(bool all) noexcept {
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        const std::uintptr_t block = made_[cpu].load(std::memory_order_acquire);
        if (block == 0) continue;
        std::uint64_t taken = 0;
        for (int cls = 0; cls < detail::classes; ++cls) {
            // relaxed: its CPU goes on using it; the sum only tells whether anything happened.
            taken += __atomic_load_n(reinterpret_cast<std::uint64_t*>(block + detail::stack_places[static_cast<std::size_t>(cls)]), __ATOMIC_RELAXED) >> 8;
        }
        if (all || taken == taken_before_[cpu]) empty_block(cpu);
        taken_before_[cpu] = taken;
    }
}

// ---- Balance

/// Gives back, of the blocks that were taken out of use, the pages that lie in free runs on every CPU; a run that goes beyond the blocks lends its ends.
void allocator::core::depopulate(shard& s, detail::depopulation d) noexcept {
    chunk& c = chunk::of(*d.chunk);
    struct bytes_run {
        int from, to;
    };
    std::array<bytes_run, detail::blocks> runs;
    std::size_t n = 0;
    s.lock.lock();
    c.areas.for_each_free_run([&](detail::free_run run) {
        const int from = run.start, to = run.start + run.length;
        const detail::block_run inside{(from + detail::block_bits - 1) / detail::block_bits, to / detail::block_bits};
        if (inside.first < inside.end && (inside.set() & d.blocks)) runs[n++] = {from * detail::min_alloc_bytes, to * detail::min_alloc_bytes};
    });
    unlock(s);
    const std::uintptr_t page = sys::page_bytes();  // not the largest there is: that would keep most of what could go
    const auto give_back = [&](std::uintptr_t first, std::uintptr_t end) {
        const std::uintptr_t from = (first + page - 1) & ~(page - 1), to = end & ~(page - 1);
        if (from >= to) return true;
        if (memory_.give_back(reinterpret_cast<void*>(from), to - from) != 0) return false;
        trace::give_back(from, to - from);
        return true;
    };
    detail::block_set failed = 0;
    for (std::size_t i = 0; i < n; ++i) {
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
            // Pages of absent CPUs exist only where populate_now asked for them.
            if (!detail::is_present(options.index, cpu) && !populated_absent_.load(std::memory_order_relaxed)) continue;
            const auto unit = reinterpret_cast<std::uintptr_t>(c.at(cpu, 0));
            if (!give_back(unit + static_cast<unsigned>(runs[i].from), unit + static_cast<unsigned>(runs[i].to))) {
                failed |= detail::block_run{runs[i].from / detail::block_bytes, (runs[i].to - 1) / detail::block_bytes + 1}.set();
            }
        }
        // The tags of what is free are zero as well; that they stay in memory is no failure.
        const std::uintptr_t tags = c.address() + detail::tags_at;
        (void)give_back(tags + static_cast<unsigned>(runs[i].from / detail::min_alloc_bytes), tags + static_cast<unsigned>(runs[i].to / detail::min_alloc_bytes));
    }
    s.lock.lock();
    s.index[static_cast<std::size_t>(c.kind_of)].depopulated(c, d.blocks & ~failed);
    unlock(s);
}

/// Keeps some populated blocks for allocations that must not wait.
void allocator::core::populate_reserve(shard& s, layout kind) noexcept {
    auto& index = s.index[static_cast<std::size_t>(kind)];
    s.lock.lock();
    int wanted = index.in_use() ? index.take_population_wanted() : 0;
    while (wanted > 0) {
        if (const auto p = index.next_population(wanted)) {
            index.set_populated(*p->chunk, p->run);
            wanted -= p->run.count();
            continue;
        }
        unlock(s);
        const bool made = make_chunk(s, kind) != nullptr;
        s.lock.lock();
        if (!made) break;
    }
    unlock(s);
}

void allocator::core::balance_index(shard& s, layout kind, bool may_make_chunks, bool everything) noexcept {
    auto& index = s.index[static_cast<std::size_t>(kind)];
    const auto locked = [&](auto what) {
        s.lock.lock();
        auto answer = what();
        unlock(s);
        return answer;
    };
    while (chunk_node* surplus = locked([&] { return index.take_surplus(false); })) destroy_chunk(chunk::of(*surplus));
    if (everything) {
        s.lock.lock();
        index.isolate_all();
        unlock(s);
    }
    while (const auto d = locked([&] { return index.next_depopulation(everything ? 0 : detail::empty_pop_pages_high); })) depopulate(s, *d);
    if (may_make_chunks) populate_reserve(s, kind);
    while (chunk_node* surplus = locked([&] { return index.take_surplus(true); })) destroy_chunk(chunk::of(*surplus));
}

/// Signal-safe without may_make_chunks: it skips what the interrupted thread holds.
void allocator::core::balance(bool may_make_chunks, bool everything) noexcept {
    if (!detail::shard_lock::may_wait()) return;  // a handler; it stays due
    if (!growth_.try_lock()) {
        if (!everything || growth_.interrupted()) return;  // whoever holds it does it
        growth_.lock();
    }
    balance_due_.store(false, std::memory_order_relaxed);
    if (may_make_chunks && everything) empty_magazines(true);
    for (shard& s : std::span(shards_).first(active_shards_.load(std::memory_order_relaxed))) {
        if (s.lock.interrupted()) continue;
        for (const layout kind : {layout::coloured, layout::flat}) balance_index(s, kind, may_make_chunks && !everything, everything);
    }
    growth_.unlock();
}

void allocator::core::idle_work() noexcept {
    if (growth_.try_lock()) {
        empty_magazines(false);
        growth_.unlock();
    }
    balance(true, false);
}

void allocator::core::attach(work::queue* q) {
    if (queue_) queue_->cancel_sync(item_);
    queue_ = q;
    if (queue_) (void)queue_->queue_after(item_, idle_ns);
}

bool allocator::core::try_lock_for_fork() noexcept {
    if (!growth_.try_lock()) return false;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
        if (shards_[i].lock.try_lock()) continue;
        while (i > 0) unlock(shards_[--i]);
        growth_.unlock();
        return false;
    }
    return true;
}
void allocator::core::unlock_after_fork() noexcept {
    for (shard& s : shards_) unlock(s);
    growth_.unlock();
}

allocator::core::~core() {
    attach(nullptr);
    const lock_guard hold(growth_);
    if (detail::current_mode() == detail::mode::sequences) empty_magazines(true);
    std::vector<chunk*> all;  // a list's nodes stand in the chunks
    for (shard& s : shards_) {
        s.lock.lock();
        for (auto& index : s.index) {
            index.for_each_chunk([&](chunk_node& node) {
                if (node.kind != detail::chunk_kind::reserved) all.push_back(&chunk::of(node));
            });
        }
        s.lock.unlock();
    }
    for (chunk* c : all) {
        end_charges(*c);
        destroy_chunk(*c);
    }
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        if (const std::uintptr_t block = made_[cpu].load()) {
            magazines_->block[cpu].store(0);
            memory_.release(reinterpret_cast<void*>(block - detail::block_colour(cpu)), page_up(detail::magazine_block_bytes));
        }
    }
    if (owns_magazines_) memory_.release(magazines_, page_up(sizeof(detail::magazine_table)));
}

}  // namespace cohort::percpu
