// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/detail/core.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <new>

#include <cohort/account/charged.hpp>
#include <cohort/percpu/detail/trace_points.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/usdt.hpp>

namespace cohort::percpu {

using detail::tag_of;

namespace detail {
constinit magazine_table default_magazines[2];
}

namespace {

/// What an accounted object costs beside its copies: the record of who pays.
constexpr std::size_t payer_bytes = sizeof(detail::payer);

std::uint64_t charge_for(int bits) { return std::uint64_t{static_cast<unsigned>(bits)} * detail::min_alloc_bytes * possible_cpus() + payer_bytes; }

detail::magazine_table* make_table(sys::address_space& memory) {
    constexpr std::size_t bytes = (sizeof(detail::magazine_table) + detail::largest_page_bytes - 1) & ~(detail::largest_page_bytes - 1);
    void* at = memory.reserve(bytes, detail::largest_page_bytes);
    if (!at) throw std::bad_alloc();
    if (memory.commit(at, bytes) != 0) {
        memory.release(at, bytes);
        throw std::bad_alloc();
    }
    return new (at) detail::magazine_table;
}

}  // namespace

allocator::core::core(allocator_options o, sys::address_space& memory, detail::magazine_table* magazines)
    : options(std::move(o)), memory_(memory), space_(memory), magazines_(magazines ? magazines : make_table(memory)), owns_magazines_(!magazines),
      made_(std::make_unique<std::atomic<std::uintptr_t>[]>(possible_cpus())), taken_before_(possible_cpus()), item_([this] {
          idle_work();
          (void)queue_->queue_after(item_, idle_ns);
      }) {}

// ---- Allocation

attempt allocator::core::alloc(std::size_t size, std::size_t align, wish how) noexcept {
    trace::request(size, align, how.atomic, how.reserved);
    attempt got;
    const auto refuse = [&](refusal why) {
        failures_.fetch_add(1, std::memory_order_relaxed);
        trace::fail(size, align, how.atomic, static_cast<unsigned>(why));
        COHORT_USDT(percpu_alloc_percpu_fail, how.reserved, how.atomic, size, align);
        if (!has(how.flags, alloc_flags::nowarn)) warn(how, size, align, why);
        return attempt{0, why};
    };
    if (size == 0 || size > unit_limit || !std::has_single_bit(align) || align > static_cast<std::size_t>(detail::max_align)) return refuse(refusal::illegal);
    if (how.reserved && align > detail::cache_line) return refuse(refusal::illegal);  // the first chunk is coloured
    if (how.stop && !has(how.flags, alloc_flags::nofail) && how.stop->stop_requested()) return refuse(refusal::stopped);
    how.bits = static_cast<int>((size + detail::min_alloc_bytes - 1) / detail::min_alloc_bytes);
    how.align = static_cast<int>(std::max<std::size_t>(align / detail::min_alloc_bytes, 1));
    how.kind = detail::layout_for(align);

    const account::group payer = has(how.flags, alloc_flags::account) ? account::current() : account::group();
    if (payer && !payer.try_charge(charge_for(how.bits))) return refuse(refusal::over_limit);
    if (payer) trace::charge(charge_for(how.bits));

    const int cls = detail::class_for(size, align);
    const bool plain = options.magazines && cls >= 0 && !how.reserved && !payer && !has(how.flags, alloc_flags::populate_now);
    if (plain) {
        if (const std::uintptr_t value = detail::take(*magazines_, cls)) {
            trace::from_magazine(value, cls);
            COHORT_USDT(percpu_alloc_percpu, how.reserved, how.atomic, size, align, value);
            return {value};
        }
        got = refill(cls, how);
    } else {
        got = from_maps(how);
    }
    if (got && has(how.flags, alloc_flags::populate_now)) {
        populated_absent_.store(true, std::memory_order_relaxed);
        if (const refusal why = populate_all(got.value, how.bits); why != refusal::none) {
            to_maps(std::span(&got.value, 1));  // nobody has written to it
            got = {0, why};
        }
    }
    if (payer && got && !record_payer(got.value, payer)) {
        to_maps(std::span(&got.value, 1));
        got = {0, refusal::no_chunk};
    }
    if (payer && !got) payer.uncharge(charge_for(how.bits));
    if (!got) return refuse(got.why);
    trace::done(got.value, static_cast<std::uint64_t>(how.bits) * detail::min_alloc_bytes, how.atomic);
    COHORT_USDT(percpu_alloc_percpu, how.reserved, how.atomic, size, align, got.value);
    return got;
}

/// Takes a shard's lock, of those in use, from this CPU's one on; where all are held, one more comes into use. Null: this is a signal handler over one that holds a
/// lock, and must not wait.
allocator::core::shard* allocator::core::lock_some(bool atomic) noexcept {
    const unsigned n = active_shards_.load(std::memory_order_relaxed), home = static_cast<unsigned>(sys::current_cpu()) % n;
    for (unsigned i = 0; i < n; ++i) {
        shard& s = shards_[(home + i) % n];
        if (s.lock.try_lock()) return &s;
    }
    unsigned expected = n;
    if (!atomic && n < std::min(most_shards, possible_cpus()) && active_shards_.compare_exchange_strong(expected, n + 1, std::memory_order_relaxed)) {
        shards_[n].lock.lock();
        return &shards_[n];
    }
    if (!detail::shard_lock::may_wait()) return nullptr;
    if (atomic) return shards_[home].lock.lock_unless_forking() ? &shards_[home] : nullptr;
    shards_[home].lock.lock();
    return &shards_[home];
}

void allocator::core::unlock(shard& s) noexcept {
    s.lock.unlock();
    // Handlers that could not wait for the lock have left their frees: who left one finds the lock free in defer(), or it is seen here. seq_cst, all four:
    // the unlocking and this load, the store and the try_lock() there.
    while (s.deferred.load(std::memory_order_seq_cst) && s.lock.try_lock()) {
        finish_deferred(s);
        s.lock.unlock();
    }
}

/// Takes an area from the shard's maps; 0: none fits.
std::uintptr_t allocator::core::place(shard& s, const wish& how) noexcept {
    auto& index = s.index[static_cast<std::size_t>(how.kind)];
    const auto p = index.alloc(how.bits, how.align, how.atomic);
    if (!p) return 0;
    chunk& c = chunk::of(*p->chunk);
    // Populating is a promise to keep pages, no more: they come at the first touch, or by populate_all().
    const bool promised = !how.atomic && !c.areas.is_populated(p->at, how.bits);
    if (promised) index.set_populated(c, detail::area_map::blocks_of(p->at, how.bits));
    if (index.wants_balance()) balance_due_.store(true, std::memory_order_relaxed);
    const std::uintptr_t value = c.handle_at(p->at);
    tag_of(value).store(how.tag, std::memory_order_relaxed);
    trace::area(value, static_cast<unsigned>(p->at), static_cast<unsigned>(how.bits), c.shard);
    if (promised) trace::populate(value, how.bits * detail::min_alloc_bytes, 0);
    return value;
}

std::uintptr_t allocator::core::place_reserved(shard& s, const wish& how) noexcept {
    chunk* const first = first_.load(std::memory_order_relaxed);
    if (!first || !first->reserved_node.map) return 0;
    auto& index = s.index[static_cast<std::size_t>(how.kind)];
    const auto at = index.alloc_reserved(first->reserved_node, how.bits, how.align, false);
    if (!at) return 0;
    const std::uintptr_t value = first->handle_at(*at);
    tag_of(value).store(how.tag, std::memory_order_relaxed);
    trace::area(value, static_cast<unsigned>(*at), static_cast<unsigned>(how.bits), first->shard);
    return value;
}

attempt allocator::core::from_maps(const wish& how) noexcept {
    for (;;) {
        shard* s = how.reserved ? &shards_[0] : lock_some(how.atomic);
        if (!s) return {0, refusal::busy};
        if (how.reserved) s->lock.lock();
        const unsigned generation = s->generation.load(std::memory_order_relaxed);
        const std::uintptr_t value = how.reserved ? place_reserved(*s, how) : place(*s, how);
        const bool has_first = first_.load(std::memory_order_relaxed) != nullptr;
        unlock(*s);
        if (value) {
            if (balance_due_.load(std::memory_order_relaxed) && !how.atomic) balance(true, false);
            return {value};
        }
        if (how.reserved && has_first) return {0, refusal::reserved_full};
        if (how.atomic) {
            balance_due_.store(true, std::memory_order_relaxed);
            return {0, refusal::atomic_full};
        }
        if (has(how.flags, alloc_flags::noretry) && has_first) return {0, refusal::no_chunk};
        if (how.stop && !has(how.flags, alloc_flags::nofail) && how.stop->stop_requested()) return {0, refusal::stopped};
        if (const refusal why = grow(*s, how.kind, generation); why != refusal::none) return {0, why};
    }
}

/// A batch for this CPU's magazine, one of it for the caller.
attempt allocator::core::refill(int cls, const wish& how) noexcept {
    wish one = how;
    one.bits = detail::class_bytes[static_cast<std::size_t>(cls)] / detail::min_alloc_bytes;
    one.align = static_cast<int>(detail::class_align(cls) / detail::min_alloc_bytes);
    one.tag = detail::tagged(detail::tag_live, cls);
    if (how.atomic || detail::current_mode() != detail::mode::sequences) return from_maps(one);

    const auto cpu = static_cast<unsigned>(sys::current_cpu());
    if (cpu < possible_cpus() && made_[cpu].load(std::memory_order_acquire) == 0) make_block(cpu);
    one.tag = detail::tagged(detail::tag_cached, cls);
    std::array<std::uintptr_t, 64> batch;
    std::size_t n = 0;
    const auto place_some = [&]() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        shard* s = lock_some(false);
        if (!s) return;
        while (n < std::min<std::size_t>(detail::class_refill(cls), batch.size()) && (batch[n] = place(*s, one)) != 0) ++n;
        unlock(*s);
    };
    place_some();
    if (n == 0) {  // a chunk is to be made; the others of the batch come from it, too
        const attempt got = from_maps(one);
        if (!got) return got;
        batch[n++] = got.value;
        place_some();
    }
    refilled_.fetch_add(n - 1, std::memory_order_relaxed);
    const std::uintptr_t first = batch[0];
    tag_of(first).store(detail::tagged(detail::tag_live, cls), std::memory_order_relaxed);
    std::size_t kept = 1;
    while (kept < n && detail::give(*magazines_, cls, batch[kept])) ++kept;
    if (kept < n) to_maps(std::span(batch).subspan(kept, n - kept));
    trace::refill(static_cast<unsigned>(cls), n);
    return {first};
}

// ---- Free

int allocator::core::free(std::uintptr_t value) noexcept {
    if (value == 0) return 0;
    chunk* c = detail::space::find(value);
    if (!c || &c->owner != this || value % detail::min_alloc_bytes != 0) return EINVAL;
    auto& tag = tag_of(value);
    const std::uint8_t state = tag.load(std::memory_order_relaxed);
    if (!(state & detail::tag_live)) return EINVAL;
    trace::free(value, state);
    COHORT_USDT(percpu_free_percpu, value);
    const int cls = state & 0x1f;
    if (cls == detail::tag_direct) return free_direct(*c, value);
    tag.store(detail::tagged(detail::tag_cached, cls), std::memory_order_relaxed);
    detail::clear_copies(options.index, c->kind_of, value, detail::class_bytes[static_cast<std::size_t>(cls)]);
    if (!detail::give(*magazines_, cls, value)) overflow(cls, value);
    return 0;
}

int allocator::core::free_direct(chunk& c, std::uintptr_t value) noexcept {
    shard& s = shards_[c.shard];
    tag_of(value).store(detail::tagged(detail::tag_cached, detail::tag_direct), std::memory_order_relaxed);
    if (!lock_to_free(s)) {
        defer(s, c, value);
        return 0;
    }
    const int bit = chunk::bit_of(value), bits = c.node_of(bit).map->size_at(bit);
    unlock(s);
    detail::clear_copies(options.index, c.kind_of, value, static_cast<std::size_t>(bits) * detail::min_alloc_bytes);
    trace::clear(value, bits * detail::min_alloc_bytes, detail::present_count(options.index));
    uncharge(c, value, bits);
    to_maps(std::span(&value, 1));
    return 0;
}

/// A full magazine gives half of what it has to the maps; then there is room. Without a magazine: to the maps at once.
void allocator::core::overflow(int cls, std::uintptr_t value) noexcept {
    std::array<std::uintptr_t, 65> batch;
    std::size_t n = 0;
    batch[n++] = value;
    std::uint64_t item;
    while (n < std::min<std::size_t>(detail::class_batch(cls), batch.size()) &&
           detail::sequence::stack_pop(magazines_->block, detail::stack_places[static_cast<std::size_t>(cls)], item)) {
        detail::annotate_taken(item);
        batch[n++] = item;
    }
    flushed_.fetch_add(n - 1, std::memory_order_relaxed);
    to_maps(std::span(batch).first(n));
    trace::flush(static_cast<unsigned>(cls), n);
}

void detail::free_to_maps(std::uintptr_t value, int cls) noexcept { space::find(value)->owner.overflow(cls, value); }

/// Puts areas that are cleared back into the maps; keeps a lock as long as it serves.
void allocator::core::to_maps(std::span<const std::uintptr_t> values) noexcept {
    for (std::size_t i = 0; i < values.size();) {
        chunk* c = detail::space::find(values[i]);
        shard& s = shards_[c->shard];
        if (!lock_to_free(s)) {
            defer(s, *c, values[i++]);
            continue;
        }
        do {
            to_maps_locked(s, *c, chunk::bit_of(values[i]));
            if (++i == values.size()) break;
            c = detail::space::find(values[i]);
        } while (c->shard == number_of(s));
        unlock(s);
    }
    if (balance_due_.load(std::memory_order_relaxed)) balance(false, false);
}

bool allocator::core::lock_to_free(shard& s) noexcept {
    return detail::shard_lock::may_wait() ? s.lock.lock_unless_forking() : s.lock.try_lock();
}

void allocator::core::to_maps_locked(shard& s, chunk& c, int bit) noexcept {
    tag_of(c.handle_at(bit)).store(detail::tag_none, std::memory_order_relaxed);
    const auto done = s.index[static_cast<std::size_t>(c.kind_of)].free(c.node_of(bit), bit);
    if (done.balance) balance_due_.store(true, std::memory_order_relaxed);
}

/// The free of a handler that must not wait for the shard's lock: whoever has it finishes it.
void allocator::core::defer(shard& s, chunk& c, std::uintptr_t value) noexcept {
    frees_deferred_.fetch_add(1, std::memory_order_relaxed);
    c.deferred.fetch_add(1, std::memory_order_relaxed);
    // release: what was written to the object. Pairs with [acquire: finish_deferred]. From here on object and chunk may be gone.
    auto& tag = tag_of(value);
    tag.store(static_cast<std::uint8_t>(detail::tag_deferred | (tag.load(std::memory_order_relaxed) & 0x1f)), std::memory_order_release);
    s.deferred.store(true, std::memory_order_seq_cst);
    if (s.lock.try_lock()) unlock(s);  // its holder may have looked before; pairs with unlock()
}

void allocator::core::finish_deferred(shard& s) noexcept {
    // acquire: pairs with the store in defer().
    if (!s.deferred.exchange(false, std::memory_order_acquire)) return;
    for (auto& index : s.index) {
        index.for_each_chunk([&](chunk_node& node) COHORT_NO_THREAD_SAFETY_ANALYSIS {  // it does not look into lambdas
            chunk& c = chunk::of(node);
            if (c.deferred.load(std::memory_order_relaxed) == 0) return;
            for (int bit = 0; bit < detail::unit_bits && c.deferred.load(std::memory_order_relaxed) > 0; ++bit) {
                const std::uintptr_t value = c.handle_at(bit);
                // acquire: pairs with [release: defer].
                if (!(tag_of(value).load(std::memory_order_acquire) & detail::tag_deferred)) continue;
                const int bits = c.node_of(bit).map->size_at(bit);
                detail::clear_copies(options.index, c.kind_of, value, static_cast<std::size_t>(bits) * detail::min_alloc_bytes);
                uncharge(c, value, bits);
                to_maps_locked(s, c, bit);
                c.deferred.fetch_sub(1, std::memory_order_relaxed);
            }
        });
    }
}

std::size_t allocator::core::size_of(std::uintptr_t value) noexcept {
    chunk* c = detail::space::find(value);
    if (!c || &c->owner != this || value % detail::min_alloc_bytes != 0) return 0;
    const std::uint8_t state = tag_of(value).load(std::memory_order_relaxed);
    if (!(state & detail::tag_live)) return 0;
    if ((state & 0x1f) != detail::tag_direct) return detail::class_bytes[state & 0x1f];
    shard& s = shards_[c->shard];
    s.lock.lock();
    const int bit = chunk::bit_of(value), bits = c->node_of(bit).map->size_at(bit);
    unlock(s);
    return static_cast<std::size_t>(bits) * detail::min_alloc_bytes;
}

// ---- Charges

bool allocator::core::record_payer(std::uintptr_t value, account::group who) noexcept {
    chunk& c = *detail::space::find(value);
    constexpr std::size_t bytes = sizeof(detail::payer) * detail::unit_bits;
    detail::payer* table = c.payers.load(std::memory_order_acquire);
    if (!table) {
        void* at = memory_.reserve(bytes, detail::largest_page_bytes);
        if (!at) return false;
        if (memory_.commit(at, bytes) != 0) {
            memory_.release(at, bytes);
            return false;
        }
        table = static_cast<detail::payer*>(at);
        detail::payer* nobody = nullptr;
        // release: nothing but zeroes; acquire: another's table. Two threads may meet here.
        if (!c.payers.compare_exchange_strong(nobody, table, std::memory_order_acq_rel)) {
            memory_.release(at, bytes);
            table = nobody;
        }
    }
    table[chunk::bit_of(value)] = {who.where(), who.id()};
    return true;
}

void allocator::core::uncharge(chunk& c, std::uintptr_t value, int bits) noexcept {
    detail::payer* table = c.payers.load(std::memory_order_acquire);
    if (!table) return;
    const detail::payer who = std::exchange(table[chunk::bit_of(value)], detail::payer{});
    if (who.table) account::group(*who.table, who.id).uncharge(charge_for(bits));
}

/// Of a chunk that ends while objects live in it.
void allocator::core::end_charges(chunk& c) noexcept {
    if (!c.payers.load(std::memory_order_acquire)) return;
    for (int bit = 0; bit < detail::unit_bits; ++bit) {
        if (const int bits = c.node_of(bit).map->size_at(bit); bits > 0) uncharge(c, c.handle_at(bit), bits);
    }
}

void allocator::core::warn(const wish& how, std::size_t size, std::size_t align, refusal why) noexcept {
    static constinit std::atomic<int> left{10};
    const int n = left.fetch_sub(1, std::memory_order_relaxed);
    if (n < 0) left.store(-1, std::memory_order_relaxed);
    if (n <= 0) return;
    char line[256];
    sys::say(line, std::snprintf(line, sizeof line, "percpu: allocation failed, size=%zu align=%zu atomic=%d, %s\n%s", size, align, how.atomic, text_of(why),
                                 n == 1 ? "percpu: limit reached, disable warning\n" : ""));
}

}  // namespace cohort::percpu
