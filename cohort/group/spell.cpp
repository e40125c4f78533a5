// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/spell.hpp>

#include <algorithm>

namespace cohort::group {

int edit_distance(std::string_view a, std::string_view b) {
    std::vector<int> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) above[j] = static_cast<int>(j);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = static_cast<int>(i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
        }
        std::swap(before, above);
        std::swap(above, row);
    }
    return above[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& words) {
    const std::string* best = nullptr;
    int best_distance = 0;
    for (const std::string& candidate : words) {
        const int allowed = std::clamp(static_cast<int>(std::max(word.size(), candidate.size()) / 3), 1, 3);
        const bool begins = word.size() >= 2 && candidate.size() >= 2 && (candidate.starts_with(word) || word.starts_with(candidate));
        int distance = edit_distance(word, candidate);
        if (distance > allowed) {
            if (!begins) continue;
            distance = allowed;  // a shortened word ranks behind a mistyped one
        }
        if (!best || distance < best_distance) best = &candidate, best_distance = distance;
    }
    return best ? *best : std::string();
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& words) {
    const std::string right = nearest(word, words);
    return right.empty() ? right : "; did you mean \"" + right + "\"?";
}

}  // namespace cohort::group
