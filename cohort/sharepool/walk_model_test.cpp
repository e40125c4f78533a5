// SPDX-License-Identifier: Apache-2.0
/// May recovery read a CPU's free blocks from another CPU? Over all interleavings, for the two forms that they can have:
///
/// * an array, as ours: yes. What has the dead member's tag does not move;
/// * a list linked through the blocks: no. A next is in a block that somebody may have popped since, written to, and pushed elsewhere. The walk must run on that CPU,
///   pinned, as one restartable sequence: then its running there has aborted all others. Each half of that left out is found.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <string>

#include <cohort/base/testing/model.hpp>
#include <cohort/sharepool/testing/member_model.hpp>

namespace cohort::sharepool::testing {
namespace {

enum class form { array, list };
enum class fault { none, drop_the_pin, pinned_but_in_no_sequence, sequence_that_is_not_begun_again };

constexpr int blocks = 4, cpus = 2, none = -1;

class pool {
public:
    pool(interleave::run& x, form kind, fault f) : m(x), kind_(kind), fault_(f) {
        x.at_end([this] { return account(); });
    }

    machine m;

    void is_free(int cpu, int x, owner_of stale) {
        tags_[at(x)] = stale;
        append(cpu, x);
    }

    int alloc(thread& t) {
        return m.sequence(t, [&]() -> std::optional<int> {
            if (!m.on(t)) return {};
            const int x = last(t.cpu);
            if (x == none) return none;
            const int under = kind_ == form::list ? next_[at(x)] : none;
            if (!m.on(t)) return {};
            tags_[at(x)] = t.me();
            if (!m.on(t)) return {};
            kind_ == form::list ? void(heads_[at(t.cpu)] = under) : void(--counts_[at(t.cpu)]);
            if (held_[at(x)]) m.broken("a block was handed out that somebody holds");
            held_[at(x)] = true;
            return x;
        });
    }
    void free(thread& t, int x) {
        held_[at(x)] = false;
        m.sequence(t, [&]() -> std::optional<bool> {
            if (!m.on(t)) return {};
            kind_ == form::list ? void(next_[at(x)] = heads_[at(t.cpu)]) : void(items_[at(t.cpu)][at(counts_[at(t.cpu)])] = x);
            if (!m.on(t)) return {};
            kind_ == form::list ? void(heads_[at(t.cpu)] = x) : void(++counts_[at(t.cpu)]);
            return true;
        });
    }
    /// What a user does with a block: the link was in it.
    void write(thread& t, int x) {
        m.step(t);
        next_[at(x)] = none;
    }
    void recover(thread& t, const member& d) {
        m.wait_for_end(d);
        if (!d.dead) return;
        marks marked{};
        for (int cpu = 0; cpu < cpus; ++cpu) kind_ == form::array ? walk_array(t, cpu, marked) : walk_list(t, cpu, marked);
        for (int x = 0; x < blocks; ++x) {
            m.step(t);
            if (tags_[at(x)] != d.name || marked[at(x)]) continue;
            m.step(t);
            if (tags_[at(x)] != d.name) continue;
            tags_[at(x)] = t.me();
            free(t, x);
        }
    }

private:
    using marks = std::array<bool, blocks>;
    static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }

    int last(int cpu) const {
        if (kind_ == form::list) return heads_[at(cpu)];
        return counts_[at(cpu)] == 0 ? none : items_[at(cpu)][at(counts_[at(cpu)] - 1)];
    }
    void append(int cpu, int x) {
        next_[at(x)] = heads_[at(cpu)];
        heads_[at(cpu)] = x;
        items_[at(cpu)][at(counts_[at(cpu)]++)] = x;
    }

    void walk_array(thread& t, int cpu, marks& marked) {
        m.step(t);
        const int n = counts_[at(cpu)];
        for (int i = 0; i < n; ++i) {
            m.step(t);
            marked[at(items_[at(cpu)][at(i)])] = true;
        }
    }
    void walk_list(thread& t, int cpu, marks& marked) {
        if (fault_ != fault::drop_the_pin) t.cpu = cpu;
        marked = m.sequence(t, [&]() -> std::optional<marks> {
            marks seen = marked;
            const auto goes_on = [&] {
                const bool undisturbed = m.on(t);
                return undisturbed || fault_ == fault::pinned_but_in_no_sequence || fault_ == fault::sequence_that_is_not_begun_again;
            };
            if (!goes_on()) return {};
            int x = heads_[at(cpu)];
            for (int length = 0; x != none && length < blocks; ++length) {
                if (fault_ == fault::sequence_that_is_not_begun_again && t.aborted) break;
                seen[at(x)] = true;
                if (!goes_on()) return {};
                x = next_[at(x)];
            }
            return seen;
        });
    }

    std::string account() const {
        for (int x = 0; x < blocks; ++x) {
            int linked = 0;
            for (int cpu = 0; cpu < cpus; ++cpu) linked += kind_ == form::list ? in_list(cpu, x) : in_array(cpu, x);
            const bool owned = m.lives(tags_[at(x)]) && held_[at(x)];
            if (linked > 1) return "block " + std::to_string(x) + " is linked twice";
            if (linked == 1 && owned) return "block " + std::to_string(x) + " is linked and held";
            if (linked == 0 && !owned) return "block " + std::to_string(x) + " is lost";
        }
        return "";
    }
    int in_list(int cpu, int x) const {
        int found = 0, b = heads_[at(cpu)];
        for (int length = 0; b != none && length < 2 * blocks; ++length, b = next_[at(b)]) found += b == x;
        return found;
    }
    int in_array(int cpu, int x) const {
        int found = 0;
        for (int i = 0; i < counts_[at(cpu)]; ++i) found += items_[at(cpu)][at(i)] == x;
        return found;
    }

    const form kind_;
    const fault fault_;
    std::array<owner_of, blocks> tags_{};
    std::array<bool, blocks> held_{};  // what users know
    // a list
    std::array<int, cpus> heads_{none, none};
    std::array<int, blocks> next_{none, none, none, none};
    // an array
    std::array<int, cpus> counts_{};
    std::array<std::array<int, blocks>, cpus> items_{};
};

/// The victim dies with a block, or in the middle of taking it; one goes on taking and freeing, on one CPU or on both; one recovers. Block 1, linked, has the victim's tag.
interleave::scenario<fault> walk(form kind, bool moves) {
    return [=](interleave::run& x, fault f) {
        auto p = std::make_shared<pool>(x, kind, f);
        const auto starts = [&](int slot, int cpu, const std::function<void(thread&)>& does) -> thread& {
            thread& t = p->m.starts(p->m.joins(slot), cpu);
            x.thread([p, &t, does] {
                does(t);
                if (t.mortal) p->m.step(t);
                p->m.ends(t);
            });
            return t;
        };
        for (int b = 0; b < blocks; ++b) p->is_free(b == 0 ? 1 : 0, b, {1, 1});
        thread& victim = starts(1, 1, [p](thread& t) { p->alloc(t); });
        victim.mortal = true;
        starts(2, 0, [p](thread& t) {
            const int one = p->alloc(t);
            if (one != none) p->write(t, one);
            const int other = p->alloc(t);
            if (other != none) p->free(t, other);
            if (one != none) p->free(t, one);
        }).moves = moves;
        starts(3, 1, [p, d = victim.of](thread& t) { p->recover(t, *d); });
    };
}

TEST(walk_model, an_array_is_read_from_anywhere_without_a_pin) {
    for (const bool moves : {false, true}) interleave::expect_clean(walk(form::array, moves), 3);
}
TEST(walk_model, a_list_is_read_on_its_cpu_in_one_sequence) {
    for (const bool moves : {false, true}) interleave::expect_clean(walk(form::list, moves), 3);
}
TEST(walk_model, finds_the_dropped_pin_of_a_list) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(drop_the_pin), walk(form::list, false)},
        {COHORT_FAULT(pinned_but_in_no_sequence), walk(form::list, false)},
        {COHORT_FAULT(pinned_but_in_no_sequence), walk(form::list, true)},
        {COHORT_FAULT(sequence_that_is_not_begun_again), walk(form::list, true)},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool::testing
