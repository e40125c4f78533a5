// SPDX-License-Identifier: Apache-2.0
/// Runs of units: claimed, published, retired. README.md, steps 6 and 7.
///
/// The first unit's state is the truth of the run; later units are claimed(somebody, distance). They are claimed from the first to the last and given back from the last to the first, so that whatever a killed
/// member leaves begins with a first unit that names it. A free unit's pages are gone and its card is zero.
#include <algorithm>
#include <cerrno>

#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool::detail {

namespace {

void raise(std::atomic<std::uint64_t>& word, std::uint64_t to) noexcept {
    std::uint64_t seen = word.load(std::memory_order_relaxed);
    while (seen < to && !word.compare_exchange_weak(seen, to, std::memory_order_relaxed)) {}
}
void lower(std::atomic<std::uint64_t>& word, std::uint64_t to) noexcept {
    std::uint64_t seen = word.load(std::memory_order_relaxed);
    while (seen > to && !word.compare_exchange_weak(seen, to, std::memory_order_relaxed)) {}
}

}  // namespace

void heap::abandon(std::uint64_t first, std::uint64_t units) noexcept {
    // Ours alone. release: whoever claims them finds what we left. Partner: claim(), acquire.
    for (std::uint64_t k = units; k-- > 0;) state_word(first + k).store(free_unit.word, std::memory_order_release);
    lower(head().zones[where.zone_of(first)].lowest_free, first);
}

std::uint64_t heap::top_of(unsigned zone) const noexcept {
    const unit_range all = where.zone(zone);
    return std::clamp(head().zones[zone].top.load(std::memory_order_acquire), all.first, all.end);
}

unit_range heap::open_part(unsigned zone) const noexcept {
    const unit_range all = where.zone(zone);
    const std::uint64_t narrowed = head().zones[zone].narrowed.load(std::memory_order_relaxed);
    if (narrowed == 0) return all;
    const std::uint64_t first = static_cast<std::uint32_t>(narrowed), units = narrowed >> 32;
    return {std::clamp(first, all.first, all.end), std::clamp(first + units, all.first, all.end)};
}

std::expected<std::uint64_t, int> heap::find_and_claim(std::uint64_t units, std::uint64_t alignment, unsigned zone) noexcept {
    const unit_range part = open_part(zone);
    zone_words& hints = head().zones[zone];
    std::uint64_t from = std::max(hints.lowest_free.load(std::memory_order_relaxed), part.first);
    for (bool again = from != part.first;; again = false, from = part.first) {
        bool passed_free = alignment != 1;  // what stands between is not looked at
        for (std::uint64_t first = round_up(from, alignment); first + units <= part.end;) {
            // States that nobody has looked at have no page yet.
            if (const std::uint64_t top = top_of(zone); first + units > top) {
                const std::uint64_t begin = states_at + top / 512 * page, done = states_at + round_up(first + units, 512) * sizeof(std::uint64_t);
                if (const int e = sys::allocate_file_pages(meta_fd, begin, done - begin); e != 0) return std::unexpected(e);
                // Before the first unit is claimed: recovery looks no further.
                raise(hints.top, first + units);
            }
            std::uint64_t k = 0;
            while (k < units) {
                std::uint64_t w = state_word(first + k).load(std::memory_order_relaxed);
                if (w != free_unit.word) break;
                // acquire: what its last owner left. Partner: abandon(), finish_retiring(), release.
                if (!state_word(first + k).compare_exchange_strong(w, state::of(kind::claimed, me, k).word, std::memory_order_acq_rel)) break;
                ++k;
            }
            if (k == units) {
                std::uint64_t hint = from;
                if (!passed_free) hints.lowest_free.compare_exchange_strong(hint, first + units, std::memory_order_relaxed);
                return first;
            }
            passed_free |= k != 0;
            if (k != 0) abandon(first, k);
            first = round_up(first + k + 1, alignment);
        }
        if (!again) return std::unexpected(EOVERFLOW);
    }
}

std::expected<std::uint64_t, int> heap::claim(std::uint64_t units, std::uint64_t alignment, std::uint64_t bytes, unsigned zone, const sys::mempolicy* policy) noexcept {
    if (units == 0 || units > where.units) return std::unexpected(EOVERFLOW);
    const auto first = find_and_claim(units, alignment, zone);
    if (!first || bytes == 0) return first;
    const int e = policy ? sys::allocate_file_pages_on(data_fd, *first << unit_shift, bytes, *policy) : sys::allocate_file_pages(data_fd, *first << unit_shift, bytes);
    if (e == 0) return first;
    (void)sys::punch_hole(data_fd, *first << unit_shift, units << unit_shift);
    abandon(*first, units);
    return std::unexpected(e);
}

void heap::publish(std::uint64_t first, state as) noexcept {
    // release: tags, bits and whatever is in the run. Partner: state_of(), acquire.
    state_word(first).store(as.word, std::memory_order_release);
}

void heap::leave_gone(std::uint64_t first, std::uint64_t units) noexcept {
    (void)sys::forbid_access(base + (first << unit_shift), units << unit_shift);
    // release: whoever sees the number risen sees the state. Partner: forbid_what_is_gone().
    publish(first, state::of(kind::retiring, nobody, units));
    head().gone.fetch_add(1, std::memory_order_release);
}

void heap::forbid_what_is_gone() noexcept {
    const std::uint64_t gone = head().gone.load(std::memory_order_acquire);
    if (gone == gone_seen_.load(std::memory_order_relaxed)) return;
    each_unit([&](std::uint64_t unit) {
        const state s = state_of(unit);
        if (s.what() == kind::retiring && s.by() == nobody) (void)sys::forbid_access(base + (unit << unit_shift), s.units() << unit_shift);
    });
    gone_seen_.store(gone, std::memory_order_relaxed);
}

void heap::finish_retiring(std::uint64_t first, std::uint64_t units, bool anew) noexcept {
    units = std::min(units, where.units - first);  // as far as a damaged word can reach
    if (anew || unmaps) (void)sys::punch_hole(data_fd, first << unit_shift, units << unit_shift);
    if (unmaps) return leave_gone(first, units);
    clear_card(first);
    for (std::uint64_t k = units; k-- > 1;) {
        const state s = state_of(first + k);
        // Another's beginning may have freed it, and somebody may have claimed it since: then it is not at this distance of a run that begins at `first`, for that is ours.
        if (s.what() != kind::claimed || s.count() != k) continue;
        if (!anew) (void)sys::punch_hole(data_fd, (first + k) << unit_shift, unit_bytes);
        state_word(first + k).store(free_unit.word, std::memory_order_release);
    }
    if (!anew) (void)sys::punch_hole(data_fd, first << unit_shift, unit_bytes);
    state_word(first).store(free_unit.word, std::memory_order_release);
    lower(head().zones[where.zone_of(first)].lowest_free, first);
}

void heap::retire(std::uint64_t first, std::uint64_t units) noexcept {
    publish(first, state::of(kind::retiring, me, units));
    finish_retiring(first, units, true);
}

void heap::finish_for(tag d, std::uint64_t first, state s) noexcept {
    std::uint64_t units = s.units();
    if (s.what() == kind::claimed) {
        // As far as it came; nobody else writes these words before the first one is taken over.
        for (units = 1; first + units < where.units && state_of(first + units) == state::of(kind::claimed, d, units);) ++units;
    }
    // Whoever wins goes on alone, in his own name: if he dies, he is finished for.
    if (!state_word(first).compare_exchange_strong(s.word, state::of(kind::retiring, me, units).word, std::memory_order_acq_rel)) return;
    finish_retiring(first, units, false);
}

int heap::retire_area(std::uint64_t first, state s) noexcept {
    if (unmaps) forbid_what_is_gone();
    const std::uint64_t units = s.units();
    const account_change change(*this);
    if (!state_word(first).compare_exchange_strong(s.word, state::of(kind::retiring, me, units).word, std::memory_order_acq_rel)) return EALREADY;
    // What its applier may write to is for reading again, here.
    if (where.zone(read_only_zone).holds(first)) (void)sys::allow_reading(base + (first << unit_shift), units << unit_shift);
    finish_retiring(first, units, true);
    // Last: what is counted is never less than what is there.
    if (!s.reserved()) uncharge(owner_of(s.by()), s.bytes());
    return 0;
}

}  // namespace cohort::sharepool::detail
