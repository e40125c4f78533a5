// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/table.hpp>

#include <algorithm>
#include <utility>

#include <cohort/base/check.hpp>

namespace cohort::group {

std::size_t text_width(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

text_table::text_table(std::vector<std::string> head, std::vector<align> sides) : sides_(std::move(sides)) {
    COHORT_CHECK(head.size() == sides_.size(), "a table needs one alignment a column");
    rows_.push_back(std::move(head));
}

void text_table::row(std::vector<std::string> cells) {
    COHORT_CHECK(cells.size() == sides_.size(), "a table's row has as many cells as its head");
    rows_.push_back(std::move(cells));
}

std::string text_table::text(const std::string& indent) const {
    std::vector<std::size_t> width(sides_.size());
    std::vector<bool> used(sides_.size());
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        for (std::size_t c = 0; c < sides_.size(); ++c) {
            width[c] = std::max(width[c], text_width(rows_[r][c]));
            if (r > 0 && !rows_[r][c].empty()) used[c] = true;
        }
    }
    std::string out;
    for (const auto& row : rows_) {
        std::string line = indent;
        bool first = true;
        for (std::size_t c = 0; c < sides_.size(); ++c) {
            if (!used[c]) continue;
            const std::string space(width[c] - text_width(row[c]), ' ');
            if (!std::exchange(first, false)) line += "  ";
            line += sides_[c] == align::left ? row[c] + space : space + row[c];
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + "\n";
    }
    return out;
}

}  // namespace cohort::group
