// SPDX-License-Identifier: Apache-2.0
/// The class map tells which superblocks have linked blocks; who looks for blocks looks nowhere else. Over all interleavings of small scenarios in which a member dies
/// at any step: when all rests and the dead are recovered, a superblock with linked blocks is in the map.
///
/// This is a model of one superblock of two blocks: functions have the names of those in superblocks.cpp and do the same steps in the same order; change both
/// together. `fault` leaves a step out or moves it.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/testing/model.hpp>
#include <cohort/sharepool/testing/member_model.hpp>

namespace cohort::sharepool::testing {
namespace {

enum class fault {
    none,
    give_looks_before_it_links,
    give_leaves_the_map,
    empty_is_not_looked_at_again,
    in_the_map_before_it_is_published,
    out_of_the_map_after_it_is_retired,
    recovery_leaves_the_map,
};

constexpr int blocks = 2;

class pool {
public:
    pool(interleave::run& x, fault f) : m(x), fault_(f) {
        x.at_end([this] { return account(); });
    }

    machine m;

    /// How it stands at first: linked, or `owner`'s.
    void has(int i, bool linked, owner_of owner) {
        bits_[at(i)] = linked;
        tags_[at(i)] = owner;
        in_map_ = in_map_ || linked;
    }

    void take(thread& t) {
        m.step(t);
        if (!in_map_) return;
        m.step(t);
        if (what_ != kind::small) return not_in_map(t);
        m.step(t);
        if (what_ != kind::small || by_ != nobody) return;
        by_ = t.me();
        m.step(t);
        const auto chosen = bits_;
        for (int i = 0; i < blocks; ++i) {
            if (!chosen[at(i)]) continue;
            m.step(t);
            tags_[at(i)] = t.me();
        }
        m.step(t);
        for (int i = 0; i < blocks; ++i) bits_[at(i)] = bits_[at(i)] && !chosen[at(i)];
        not_in_map(t);
        m.step(t);
        by_ = nobody;
    }
    /// Every block of t's.
    void give_all(thread& t) {
        for (int i = 0; i < blocks; ++i) {
            m.step(t);
            if (what_ == kind::small && tags_[at(i)] == t.me() && !bits_[at(i)]) give(t, i);
        }
    }
    void retire_only(thread& t) { retire(t); }
    bool retire(thread& t) {
        m.step(t);
        if (what_ != kind::small || by_ != nobody) return false;
        by_ = t.me();
        m.step(t);
        const bool all = bits_[0] && bits_[1];
        const auto leave_map = [&] { m.step(t), in_map_ = false; };
        if (all) {
            if (fault_ != fault::out_of_the_map_after_it_is_retired) leave_map();
            tags_ = {};
            m.step(t);
            what_ = kind::retiring;
            m.step(t);
            bits_ = {};
        }
        m.step(t);
        if (all) what_ = kind::none;
        by_ = nobody;
        if (all && fault_ == fault::out_of_the_map_after_it_is_retired) leave_map();
        return all;
    }
    void add(thread& t) {
        m.step(t);
        if (what_ != kind::none) return;
        what_ = kind::retiring;  // claimed: nobody looks at it
        by_ = t.me();
        m.step(t);
        tags_ = {};
        bits_ = {true, true};
        const auto enter_map = [&] { m.step(t), in_map_ = true; };
        if (fault_ == fault::in_the_map_before_it_is_published) enter_map();
        m.step(t);
        what_ = kind::small;
        by_ = nobody;
        if (fault_ != fault::in_the_map_before_it_is_published) enter_map();
    }
    void retire_and_add(thread& t) {
        if (retire(t)) add(t);
    }
    void recover(thread& t, const member& d) {
        m.wait_for_end(d);
        if (!d.dead) return;
        m.step(t);
        if (by_ == d.name) {
            if (what_ != kind::small) what_ = kind::none;
            by_ = nobody;
        }
        bool linked = false;
        m.step(t);
        if (what_ != kind::small) return;
        for (int i = 0; i < blocks; ++i) {
            m.step(t);
            const owner_of seen = tags_[at(i)];
            m.step(t);
            linked = linked || bits_[at(i)];
            if (seen != d.name || bits_[at(i)]) continue;
            m.step(t);
            if (tags_[at(i)] != seen) continue;
            tags_[at(i)] = t.me();
            give(t, i);
        }
        m.step(t);
        if (!linked || in_map_ || fault_ == fault::recovery_leaves_the_map) return;
        m.step(t);
        in_map_ = true;
    }

private:
    enum class kind { none, small, retiring };
    static constexpr std::size_t at(int i) { return static_cast<std::size_t>(i); }
    bool any_linked() const { return bits_[0] || bits_[1]; }

    void not_in_map(thread& t) {
        m.step(t);
        in_map_ = false;
        if (fault_ == fault::empty_is_not_looked_at_again) return;
        m.step(t);
        if (what_ != kind::small) return;
        m.step(t);
        if (!any_linked()) return;
        m.step(t);
        in_map_ = true;
    }
    void give(thread& t, int i) {
        const auto look = [&] {
            m.step(t);
            return in_map_;
        };
        const bool early = fault_ == fault::give_looks_before_it_links && look();
        m.step(t);
        bits_[at(i)] = true;
        if (early || fault_ == fault::give_leaves_the_map || (fault_ != fault::give_looks_before_it_links && look())) return;
        m.step(t);
        in_map_ = true;
    }
    std::string account() const {
        if (what_ == kind::retiring || by_ != nobody) return "the superblock is stuck";
        if (what_ == kind::small && any_linked() && !in_map_) return "blocks are linked where nobody looks";
        return "";
    }

    const fault fault_;
    kind what_ = kind::small;
    owner_of by_;
    std::array<bool, blocks> bits_{};
    std::array<owner_of, blocks> tags_{};
    bool in_map_ = false;
};

using act = void (pool::*)(thread&);
struct role {
    act does;
    bool mortal = false;
};
using scenario = interleave::scenario<fault>;

/// The first role is the victim's; one more thread recovers it. Block 0 is linked; block 1 is linked, or the second role's.
scenario of(const std::vector<role>& roles, bool all_linked) {
    return [=](interleave::run& x, fault f) {
        auto p = std::make_shared<pool>(x, f);
        p->has(0, true, nobody);
        p->has(1, all_linked, all_linked ? nobody : owner_of{2, 1});
        const member* victim = nullptr;
        for (const role& r : roles) {
            const int n = victim ? 2 : 1;
            member& owner = p->m.joins(n);
            if (!victim) victim = &owner;
            thread& t = p->m.starts(owner, n);
            t.mortal = r.mortal;
            x.thread([p, &t, does = r.does] {
                ((*p).*does)(t);
                if (t.mortal) p->m.step(t);
                p->m.ends(t);
            });
        }
        thread& t = p->m.starts(p->m.joins(3), 3);
        x.thread([p, &t, victim] { p->recover(t, *victim), p->m.ends(t); });
    };
}

const scenario a_take_beside_a_give = of({{&pool::take, true}, {&pool::give_all}}, false);
const scenario a_give_beside_a_take = of({{&pool::give_all, true}, {&pool::take}}, false);
const scenario a_take_beside_a_change = of({{&pool::take, true}, {&pool::retire_and_add}}, true);
const scenario a_change_beside_a_take = of({{&pool::retire_and_add, true}, {&pool::take}}, true);
const scenario a_maker_beside_one_that_retires = of({{&pool::add, true}, {&pool::retire_only}}, true);

TEST(map_model, tells_of_blocks_given_while_a_taker_dies) { interleave::expect_clean(a_take_beside_a_give, 3); }
TEST(map_model, tells_of_blocks_whose_giver_dies) { interleave::expect_clean(a_give_beside_a_take, 3); }
TEST(map_model, tells_of_a_superblock_that_went_and_came) { interleave::expect_clean(a_take_beside_a_change, 3); }
TEST(map_model, tells_of_a_superblock_whose_maker_dies) { interleave::expect_clean(a_change_beside_a_take, 3); }

TEST(map_model, tells_of_a_superblock_made_where_one_went) { interleave::expect_clean(a_maker_beside_one_that_retires, 3); }

TEST(map_model, finds_every_step_that_is_left_out_or_moved) {
    interleave::expect_found<fault>({
        {COHORT_FAULT(give_looks_before_it_links), a_take_beside_a_give},
        {COHORT_FAULT(give_leaves_the_map), a_take_beside_a_give},
        {COHORT_FAULT(empty_is_not_looked_at_again), a_take_beside_a_give},
        {COHORT_FAULT(in_the_map_before_it_is_published), a_take_beside_a_change},
        {COHORT_FAULT(out_of_the_map_after_it_is_retired), a_maker_beside_one_that_retires},
        {COHORT_FAULT(recovery_leaves_the_map), a_change_beside_a_take},
    }, 3);
}

}  // namespace
}  // namespace cohort::sharepool::testing
