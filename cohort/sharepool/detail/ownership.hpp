// SPDX-License-Identifier: Apache-2.0
/// Whose a record is, while it goes from hand to hand: the same steps for blocks, whose tag tells it, and for areas, whose first unit's state does.
#pragma once

#include <atomic>
#include <cerrno>

#include <cohort/sharepool/detail/heap.hpp>

namespace cohort::sharepool::detail {

/// The owner's word of an object. A value; the word itself lies in the metadata.
class owner_word {
public:
    owner_word(heap& h, const void* p) noexcept : h_(h), f_(h.find(p)) {}
    /// p is the start of a block, or of an area in use.
    bool is_object() const noexcept { return f_.is == heap::found::what::block || f_.is == heap::found::what::area; }

    /// Ours -> ours and kept. 0; EINVAL, it is no object; EALREADY, it is free; EPERM, it is another's.
    int keep() noexcept {
        if (!is_object()) return EINVAL;
        const tag t = load();
        if (t & free_bit) return EALREADY;
        if (owner_of(t) != h_.me) return EPERM;
        // A store will do: nobody else changes the word of an object that a living member owns.
        if (!(t & shared_bit)) store(h_.me | shared_bit);
        return 0;
    }
    /// Kept, whoever's -> ours and kept. By exchange: a recovery may make a dead one's nobody's at the same time. 0; EINVAL; EALREADY, it is free; EPERM, it is not kept.
    int take() noexcept {
        if (!is_object()) return EINVAL;
        for (tag t = load();;) {
            if (t & free_bit) return EALREADY;
            if (!(t & shared_bit)) return EPERM;
            if (exchange(t, h_.me | shared_bit)) return 0;
        }
    }
    /// Ours and kept -> ours.
    void hold() noexcept { store(h_.me); }
    /// Is it d's and kept? d is dead: once it is not, it is never again.
    bool kept_by(tag d) const noexcept { return is_object() && load() == (d | shared_bit); }

private:
    bool block() const noexcept { return f_.is == heap::found::what::block; }
    // acquire: what the owner before us wrote to the object. Pairs with the stores and exchanges below.
    tag load() const noexcept {
        if (block()) return h_.tag_of(f_.block).load(std::memory_order_acquire);
        const state s = h_.state_of(f_.unit);
        return s.what() == kind::area ? s.by() : free_bit;
    }
    void store(tag t) noexcept {
        if (block()) h_.tag_of(f_.block).store(t, std::memory_order_release);
        else h_.state_word(f_.unit).store(state::of(kind::area, t, f_.s.count()).word, std::memory_order_release);
    }
    bool exchange(tag& seen, tag t) noexcept {
        if (block()) return h_.tag_of(f_.block).compare_exchange_weak(seen, t, std::memory_order_acq_rel);
        state s = state::of(kind::area, seen, f_.s.count());
        // Its bytes are counted as the new owner's first, whatever its limit: what is counted is never less than what is there.
        const heap::account_change change(h_);
        const std::uint64_t bytes = s.reserved() ? 0 : s.bytes();
        h_.own(t, bytes);
        const bool done = h_.state_word(f_.unit).compare_exchange_weak(s.word, state::of(kind::area, t, f_.s.count()).word, std::memory_order_acq_rel);
        h_.disown(done ? seen : t, bytes);
        if (!done) seen = s.what() == kind::area ? s.by() : free_bit;
        return done;
    }

    heap& h_;
    heap::found f_;
};

}  // namespace cohort::sharepool::detail
