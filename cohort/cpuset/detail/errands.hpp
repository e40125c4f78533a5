// SPDX-License-Identifier: Apache-2.0
/// What a target asks for, as single operations in the order in which they are tried.
#pragma once

#include <cohort/cpuset/detail/world.hpp>
#include <cohort/cpuset/plan.hpp>

namespace cohort::cpuset::detail {

/// The order of errands. Within one rank: `deep_first` ones from the leaves to the root, others from the root to the leaves.
enum class rank : unsigned char { make, give_up, early_attach, controller, shrink, widen, attach, narrow, exclusive, grow, take };
constexpr bool deep_first(rank r) { return r == rank::give_up || r == rank::shrink || r == rank::narrow; }

struct errand {
    rank when = rank::make;
    operation op;
    bool on_the_way = false;   ///< not part of the target: falls away when the last word on the file is said
    std::string note = {};
    std::string fault = {};    ///< why it could not be done when it was tried last
    std::string key() const { return op.what == verb::write ? op.path + "\n" + op.file : to_line(op); }
};

struct errands {
    std::vector<errand> list;
    std::vector<std::string> refusals;  ///< what the target asks for and no order of writes can give
};
errands errands_of(const world& w, const target& t);
void sort(std::vector<errand>& list);

/// Writes that give something up for a time, and the errands that bring it back.
struct detour {
    std::vector<operation> give_up;
    std::vector<errand> bring_back;
};
/// At most `most` of them; the last gives up everything that the named sets hold exclusively.
std::vector<detour> detours_of(const world& w, const target& t, const std::vector<errand>& pending, std::size_t most);

}  // namespace cohort::cpuset::detail
