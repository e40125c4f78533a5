// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/member.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include <cohort/sharepool/detail/areas.hpp>
#include <cohort/sharepool/detail/opened.hpp>
#include <cohort/sharepool/detail/recovery.hpp>
#include <cohort/sys/liveness.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/shared_memory.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {

namespace {

using namespace detail;

/// A row of the table, in our name. ENOSPC: all are taken.
tag enter_table(heap& h) noexcept {
    const sys::process_identity me = sys::this_process();
    for (std::uint32_t slot = 1; slot < most_members; ++slot) {
        member_row& row = h.member_at(slot);
        member_word seen{row.word.load(std::memory_order_relaxed)};
        if (seen.what() != phase::free) continue;
        const auto as = [&](phase p) { return member_word::of(seen.generation(), p, static_cast<std::uint32_t>(me.pid)).word; };
        if (!row.word.compare_exchange_strong(seen.word, as(phase::joining), std::memory_order_acq_rel)) continue;
        row.mark.store(me.mark, std::memory_order_relaxed);
        row.used.limit.store(no_limit, std::memory_order_relaxed);
        row.used.peak.store(0, std::memory_order_relaxed);
        row.used.failures.store(0, std::memory_order_relaxed);
        row.acting.store((row.acting.load(std::memory_order_relaxed) & ~std::uint64_t{0xffff}) + 0x10000, std::memory_order_relaxed);  // what the last one left of it
        row.word.store(as(phase::present), std::memory_order_release);  // whoever sees it sees the mark
        return make_tag(slot, seen.generation());
    }
    return nobody;
}

/// The row is free for the next, under a new generation. False: somebody else was first.
bool free_row(member_row& row, member_word seen) noexcept {
    return row.word.compare_exchange_strong(seen.word, member_word::of((seen.generation() + 1) & ((1u << generation_bits) - 1), phase::free, 0).word, std::memory_order_acq_rel);
}

/// Was it the limit that an allocation of so many bytes met?
bool at_its_limit(const heap& h, std::uint64_t bytes) {
    const auto over = [&](const account::counter& c) { return static_cast<std::uint64_t>(std::max<std::int64_t>(c.usage(), 0)) + bytes > c.limit; };
    return over(h.head().used) || (bytes != unit_bytes && over(h.member_at(slot_of(h.me)).used));
}

}  // namespace

member::member(std::unique_ptr<heap> h) : heap_(std::move(h)) {}
member::member(member&&) noexcept = default;

result<member> member::join(int data_fd, int metadata_fd) {
    auto opened = open_group(data_fd, metadata_fd, access::read_write);
    if (!opened) return std::unexpected(opened.error());
    auto h = std::move(*opened);
    h->me = enter_table(*h);
    if (h->me == nobody) {
        close_group(*h);
        return fail(ENOSPC, name_of(*h), "join it", "it has 1,024 members");
    }
    return member(std::move(h));
}

member::~member() {
    if (!heap_) return;
    heap& h = *heap_;
    if (h.meta) {  // null: this is a child of fork(), which is no member
        const tag me = h.me;
        (void)recover(h, me, at_death::keep_handed_over);
        member_row& row = h.member_at(slot_of(me));
        (void)free_row(row, {row.word.load(std::memory_order_relaxed)});
    }
    close_group(h);
}

recovered member::recover_rows(at_death policy, const std::function<bool(const sys::process_identity&)>& is_gone) {
    recovered all;
    for (std::uint32_t slot = 1; slot < most_members; ++slot) {
        member_row& row = heap_->member_at(slot);
        // acquire: pairs with the joiner's exchange, and with its store of `present` for the mark.
        const member_word w{row.word.load(std::memory_order_acquire)};
        const tag t = make_tag(slot, w.generation());
        if (w.what() == phase::free || t == heap_->me) continue;
        const std::uint64_t mark = w.what() == phase::present ? row.mark.load(std::memory_order_relaxed) : 0;
        if (!is_gone({static_cast<std::int32_t>(w.pid()), mark})) continue;
        all += recover(*heap_, t, policy);
        (void)free_row(row, w);
    }
    (void)heap_->settle_if_needed();
    return all;
}

recovered member::recover_dead(at_death policy) { return recover_rows(policy, sys::has_ended); }
recovered member::recover_process(int pid, at_death policy) {
    // It is asked when the row has been read. join() maps before it enters the table: a row that was there before a look that finds no mapping is of a program that is gone, even
    // if the process joins again meanwhile.
    return recover_rows(policy, [&](const sys::process_identity& p) { return p.pid == pid && (sys::has_ended(p) || sys::maps_file(pid, heap_->meta_fd) == false); });
}

std::vector<int> member::processes() const { return present_in(*heap_); }

// ---- memory ----

result<void*> member::try_alloc(std::size_t bytes, std::size_t alignment, lifetime l) {
    const auto wrong = [&](int code, std::string reason) {
        return fail(code, "pool", "allocate " + std::to_string(bytes) + " bytes aligned to " + std::to_string(alignment), std::move(reason));
    };
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > std::size_t{1} << 30) return wrong(EINVAL, "alignments are powers of two up to 1 GiB");
    if (reinterpret_cast<std::uint64_t>(heap_->base) % alignment != 0) return wrong(EINVAL, "the group itself does not begin at a multiple of that");
    void* p = nullptr;
    if (std::max(bytes, alignment) < heap_->area_from) {
        // The first class whose blocks all stand at multiples of it.
        unsigned c = class_of(std::max(bytes, alignment));
        while (block_sizes[c] % alignment != 0) ++c;
        p = heap_->alloc(c, l == lifetime::member ? heap_->me : heap_->me | shared_bit);
    } else if (bytes <= this->bytes()) {
        p = make_area(*heap_, bytes, {.life = l}, std::max<std::uint64_t>(alignment >> unit_shift, 1)).value_or(nullptr);
    }
    if (const std::size_t more = std::max(bytes, alignment) < heap_->area_from ? unit_bytes : bytes; !p && at_its_limit(*heap_, more)) return wrong(ENOMEM, who_refused(*heap_, more));
    if (!p) return wrong(ENOMEM, "no run of the group's addresses is free for it, or the machine has no memory");
    return p;
}

result<void> member::try_free(void* p) {
    const int e = p ? heap_->free(p) : 0;
    if (e != 0) return fail(e, describe(p), "free it", e == EALREADY ? "it is free already" : "it is not the start of an object of this group");
    return {};
}

result<void> member::hand_over(void* p) {
    heap& h = *heap_;
    const heap::found f = h.find(p);
    if (f.is == heap::found::what::block) {
        tag t = h.tag_of(f.block).load(std::memory_order_relaxed);
        while (!(t & free_bit) && t != nobody) {
            if (h.tag_of(f.block).compare_exchange_weak(t, t | shared_bit, std::memory_order_acq_rel)) return {};
        }
        return fail(EALREADY, describe(p), "hand it over", "it is free");
    }
    if (f.is != heap::found::what::area) return fail(EINVAL, describe(p), "hand it over", "it is not the start of an object of this group");
    state s = f.s;
    while (s.what() == kind::area) {
        if (h.state_word(f.unit).compare_exchange_weak(s.word, state::of(kind::area, s.by() | shared_bit, s.count()).word, std::memory_order_acq_rel)) return {};
    }
    return fail(EALREADY, describe(p), "hand it over", "it is free");
}

result<std::size_t> member::usable_size(const void* p) const { return size_at(*heap_, p); }
std::string member::describe(const void* p) const { return description(*heap_, p); }
std::vector<usage> member::accounts() const { return accounts_in(*heap_); }

result<void> member::set_limit(std::uint64_t bytes, int pid) {
    heap& h = *heap_;
    const auto wrong = [&](int code, std::string reason) {
        return fail(code, pid == 0 ? name_of(h) : "process " + std::to_string(pid), "set its limit to " + std::to_string(bytes) + " bytes", std::move(reason));
    };
    std::uint32_t slot = 0;
    if (pid != 0) {
        for (slot = 1; slot < most_members; ++slot) {
            const member_word w{h.member_at(slot).word.load(std::memory_order_acquire)};
            if (w.what() == phase::present && static_cast<int>(w.pid()) == pid) break;
        }
        if (slot == most_members) return wrong(ESRCH, "it is no member");
    }
    const std::uint64_t limit = bytes == 0 ? no_limit : std::min(bytes, no_limit);
    account::counter& c = h.account_of(slot);
    if (c.set_limit(limit) == 0 || (h.settle_if_needed() && c.set_limit(limit) == 0)) return {};
    return wrong(EBUSY, std::to_string(c.usage()) + " are in use");
}
census member::count() const { return count_of(*heap_); }

void member::wrong_free(const heap& h, const void* p, int code) noexcept {
    const std::string line = "cohort: sharepool: " + description(h, p) + ": free it: " + errno_name(code) + (code == EALREADY ? ": it is free already\n" : ": it is not the start of an object\n");
    sys::say(line.data(), static_cast<int>(line.size()));
    std::abort();
}

std::size_t member::trim() {
    heap& h = *heap_;
    std::size_t missed = 0;
    const auto before = sys::thread_affinity();
    for (std::uint64_t cpu = 0; cpu < h.where.cpus; ++cpu) {
        if (!h.magazines_of(cpu)) continue;
        // By sequences a magazine is emptied on its own CPU; without, on any.
        if (sys::pin_thread(cpumask{static_cast<int>(cpu)})) {
            h.empty_magazines_here();
        } else {
            ++missed;
        }
    }
    if (before) (void)sys::pin_thread(*before);
    h.retire_all_free();
    (void)h.settle();
    return missed;
}

}  // namespace cohort::sharepool
