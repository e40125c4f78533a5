// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/kinship.hpp>

#include <map>

namespace cohort::group::detail {

bool kinship::within(std::size_t inner, std::size_t outer) const {
    for (int i = above[inner]; i >= 0; i = above[static_cast<std::size_t>(i)]) {
        if (static_cast<std::size_t>(i) == outer) return true;
    }
    return false;
}

kinship kinship_of(const spec& s) {
    std::map<std::string_view, int> number;
    for (std::size_t i = 0; i < s.cohorts.size(); ++i) number.emplace(s.cohorts[i].name, static_cast<int>(i));
    kinship out;
    std::vector<std::vector<std::size_t>> inside(s.cohorts.size());
    out.families.push_back({});
    for (std::size_t i = 0; i < s.cohorts.size(); ++i) {
        const auto it = s.cohorts[i].inside.empty() ? number.end() : number.find(s.cohorts[i].inside);
        out.above.push_back(it == number.end() ? -1 : it->second);
        if (it == number.end()) out.families.front().members.push_back(i);
        else inside[static_cast<std::size_t>(it->second)].push_back(i);
    }
    for (std::size_t f = 0; f < out.families.size(); ++f) {
        const auto members = out.families[f].members;
        for (const std::size_t m : members) {
            if (!inside[m].empty()) out.families.push_back({static_cast<int>(m), inside[m]});
        }
    }
    return out;
}

}  // namespace cohort::group::detail
