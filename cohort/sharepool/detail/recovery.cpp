// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/detail/recovery.hpp>

#include <algorithm>
#include <vector>

namespace cohort::sharepool::detail {

namespace {

class recovery {
public:
    recovery(heap& h, tag d, at_death policy) : h_(h), d_(d), policy_(policy) {}

    recovered run() {
        if (d_ != h_.me) h_.head().unsettled.store(1);
        h_.each_unit([&](std::uint64_t unit) { finish_what_it_did_to(unit); });
        mark();
        h_.each_unit([&](std::uint64_t unit) { sweep(unit); });
        return done_;
    }

private:
    /// Superblocks it was taking from, runs it was claiming or giving back, areas it owned.
    void finish_what_it_did_to(std::uint64_t unit) {
        state s = h_.state_of(unit);
        if (owner_of(s.by()) != d_) return;
        switch (s.what()) {
            case kind::small:
                done_.superblocks_released += exchange(unit, s, state::of(kind::small, nobody, s.count()));
                break;
            case kind::claimed:
                if (s.count() != 0) break;  // its first unit tells
                [[fallthrough]];
            case kind::retiring:
                h_.finish_for(d_, unit, s);
                ++done_.runs_finished;
                break;
            case kind::area:
                if (const bool keeps = kept(s.by()); keeps ? keep(unit, s) : h_.retire_area(unit, s) == 0) {
                    keeps ? ++done_.areas_kept : ++done_.areas_freed;
                } else {
                    finish_what_it_did_to(unit);  // handed over meanwhile, or no longer its
                }
                break;
            case kind::free: break;
        }
    }

    /// Everything that stands in a magazine, read in place while it changes; README.md says why that is enough.
    void mark() {
        for (std::uint64_t cpu = 0; cpu < h_.where.cpus; ++cpu) {
            std::byte* m = h_.magazines_of(cpu);
            for (unsigned c = 0; m && c < classes; ++c, m += sizeof(magazine)) {
                h_.by_sequences ? mark(*reinterpret_cast<magazine*>(m)) : mark(*reinterpret_cast<slots*>(m));
            }
        }
        std::sort(marks_.begin(), marks_.end());
    }
    void mark(magazine& m) {
        // acquire, both: a place that was popped and pushed anew is met with the tag of the popped one written. Partner: sequence.hpp.
        const std::uint32_t count = __atomic_load_n(&m.count, __ATOMIC_ACQUIRE);
        if (count > most_items) ++done_.garbage;
        for (std::uint32_t i = 0; i < std::min(count, most_items); ++i) mark(__atomic_load_n(&m.items[i], __ATOMIC_ACQUIRE));
    }
    void mark(slots& s) {
        for (std::atomic<std::uint64_t>& word : s.at) {
            std::uint64_t w = word.load(std::memory_order_acquire);
            if (w == 0) continue;
            const auto i = static_cast<item>(w);
            mark(i);  // whoever is taking it, too: its tag may still be d's
            if (w == slot_word(i, d_)) word.compare_exchange_strong(w, slot_word(i, nobody), std::memory_order_acq_rel);
        }
    }
    void mark(item i) { i < h_.end ? marks_.push_back(i) : void(++done_.garbage); }

    void sweep(std::uint64_t unit) {
        const state s = h_.state_of(unit);
        if (s.what() != kind::small || s.count() >= classes) return;
        const auto c = static_cast<unsigned>(s.count());
        card& k = h_.card_of(unit);
        bool linked = false;
        for (std::uint32_t n = 0; n < class_table[c].blocks; ++n) {
            tag t = k.tags[n].load(std::memory_order_acquire);
            // After the tag: whoever takes the block writes its tag before the bit goes.
            const bool here = k.bits[n / 64].load(std::memory_order_acquire) >> (n % 64) & 1;
            linked |= here;
            if (owner_of(t) != d_ || here) continue;
            const item i = make_item(unit, n);
            if (std::binary_search(marks_.begin(), marks_.end(), i)) continue;
            claim(c, i, k.tags[n], t);
            // With its last block the superblock may have gone: a look at its card would put pages there again.
            if (const state now = h_.state_of(unit); now.what() != kind::small || now.count() != c) return;
        }
        // It may have died between a block's bit and the map's.
        std::atomic<std::uint64_t>& map = h_.class_map(c, unit / 64);
        if (const std::uint64_t bit = std::uint64_t{1} << (unit % 64); linked && !(map.load() & bit)) map.fetch_or(bit);
    }

    /// Again as long as it is d's: who has its address may be handing it over.
    void claim(unsigned c, item i, std::atomic<tag>& word, tag t) {
        while (owner_of(t) == d_) {
            const bool keeps = kept(t);
            if (!word.compare_exchange_strong(t, keeps ? nobody | shared_bit : h_.me | free_bit, std::memory_order_acq_rel)) continue;
            keeps ? ++done_.blocks_kept : ++done_.blocks_freed;
            if (!keeps) h_.give(c, i);
            return;
        }
    }

    bool kept(tag t) const {
        if (t & free_bit || policy_ == at_death::free_all) return false;
        return (t & shared_bit) != 0 || policy_ == at_death::keep_all;
    }
    /// What it was charged for is the group's from now on.
    bool keep(std::uint64_t unit, state s) {
        const heap::account_change change(h_);
        if (!exchange(unit, s, state::of(kind::area, nobody | shared_bit, s.count()))) return false;
        if (!s.reserved()) h_.disown(d_, s.bytes());
        return true;
    }
    bool exchange(std::uint64_t unit, state from, state to) {
        return h_.state_word(unit).compare_exchange_strong(from.word, to.word, std::memory_order_acq_rel);
    }

    heap& h_;
    const tag d_;
    const at_death policy_;
    recovered done_;
    std::vector<item> marks_;
};

}  // namespace

recovered recover(heap& h, tag d, at_death policy) { return recovery(h, d, policy).run(); }

}  // namespace cohort::sharepool::detail
