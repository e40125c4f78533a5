// SPDX-License-Identifier: Apache-2.0
/// Bytes of areas and superblocks, counted for each member and for the group. README.md, "Accounts".
#include <atomic>
#include <cerrno>
#include <memory>
#include <new>

#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool::detail {

namespace {
constexpr std::uint64_t one_acting = 1, one_through = std::uint64_t{1} << 16, acting_mask = one_through - 1;
}

heap::account_change::account_change(heap& h) noexcept : acting_(h.member_at(slot_of(h.me)).acting) {
    // seq_cst: whoever sees a state or a charge of what follows, all of which are released, sees this. Partner: the second look in settle_if_quiet().
    acting_.fetch_add(one_acting);
}
heap::account_change::~account_change() { acting_.fetch_add(one_through - one_acting); }

int heap::charge(tag owner, std::uint64_t bytes) noexcept {
    if (owner != nobody && !member_at(slot_of(owner)).used.try_charge(bytes)) return EDQUOT;
    if (head().used.try_charge(bytes)) return 0;
    if (owner != nobody) member_at(slot_of(owner)).used.uncharge(bytes);
    return EDQUOT;
}

void heap::uncharge(tag owner, std::uint64_t bytes) noexcept {
    if (owner != nobody) member_at(slot_of(owner)).used.uncharge(bytes);
    head().used.uncharge(bytes);
}

void heap::own(tag owner, std::uint64_t bytes) noexcept {
    if (owner_of(owner) != nobody) member_at(slot_of(owner)).used.put_right(static_cast<std::int64_t>(bytes));
}
void heap::disown(tag owner, std::uint64_t bytes) noexcept {
    if (owner_of(owner) != nobody) member_at(slot_of(owner)).used.uncharge(bytes);
}

bool heap::settle_if_quiet() noexcept {
    struct row {
        std::uint64_t word, acting;
        std::int64_t truth;
        std::int64_t usage;
    };
    const std::unique_ptr<row[]> rows(new (std::nothrow) row[most_members]);
    if (!rows) return false;
    for (std::uint32_t slot = 0; slot < most_members; ++slot) {
        // acquire: what it did before it was through. Partner: ~account_change().
        rows[slot] = {.word = member_at(slot).word.load(std::memory_order_acquire), .acting = member_at(slot).acting.load(std::memory_order_acquire), .truth = 0, .usage = 0};
        if (member_word{rows[slot].word}.what() == phase::present && (rows[slot].acting & acting_mask) != 0) return false;
    }
    std::int64_t all = 0;
    each_unit([&](std::uint64_t unit) {
        const state s = state_of(unit);
        const bool area = s.what() == kind::area && !s.reserved(), small = s.what() == kind::small && s.count() < classes;
        const auto bytes = static_cast<std::int64_t>(area ? s.bytes() : small ? std::uint64_t{class_table[s.count()].units} << unit_shift : 0);
        all += bytes;
        if (area && slot_of(s.by()) < most_members) rows[slot_of(s.by())].truth += bytes;
    });
    const std::int64_t usage = head().used.usage();
    for (std::uint32_t slot = 1; slot < most_members; ++slot) rows[slot].usage = member_at(slot).used.usage();
    // All that was read with acquire, so that these are read after it. Partner: account_change().
    for (std::uint32_t slot = 0; slot < most_members; ++slot) {
        if (member_at(slot).word.load(std::memory_order_acquire) != rows[slot].word || member_at(slot).acting.load(std::memory_order_acquire) != rows[slot].acting) return false;
    }
    // Nobody was between a state and its charge while all that was read: what differs, a kill left. Others may charge again by now; to add is right whatever they do.
    for (std::uint32_t slot = 1; slot < most_members; ++slot) {
        if (rows[slot].truth != rows[slot].usage) member_at(slot).used.put_right(rows[slot].truth - rows[slot].usage);
    }
    if (all != usage) head().used.put_right(all - usage);
    return true;
}

bool heap::settle() noexcept {
    std::atomic<std::uint32_t>& settling = head().settling;
    // One at a time: what two found missing would be added twice. Who comes second asks the first to look again; who died in it is taken over.
    for (;;) {
        tag seen = settling.load();
        const member_word w{member_at(slot_of(seen) % most_members).word.load(std::memory_order_acquire)};
        const bool lives = seen != nobody && w.what() == phase::present && make_tag(slot_of(seen), w.generation()) == owner_of(seen);
        if (settling.compare_exchange_weak(seen, lives ? seen | free_bit : me)) {
            if (lives) return false;
            break;
        }
    }
    for (bool done = false;;) {
        head().unsettled.store(0);
        for (int tries = 0; tries < 16 && !(done = settle_if_quiet()); ++tries) sys::cpu_relax();
        if (!done) head().unsettled.store(1);
        tag mine = me;
        if (settling.compare_exchange_strong(mine, nobody)) return done;
        settling.store(me);
    }
}

}  // namespace cohort::sharepool::detail
