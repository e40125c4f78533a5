// SPDX-License-Identifier: Apache-2.0
/// Text in columns, for terminals.
///
///     text_table t({"job", "in"}, {align::left, align::right});
///     t.row({"pack", "312 MiB"});
///     print(t.text("  "));                  // each line indented, no blanks at its end
#pragma once

#include <string>
#include <vector>

namespace cohort::group {

enum class align { left, right };

/// Width is counted in UTF-8 characters. A column that is empty in every
/// row below the head is left out.
class text_table {
public:
    text_table(std::vector<std::string> head, std::vector<align> sides);
    /// As many cells as the head has.
    void row(std::vector<std::string> cells);
    std::string text(const std::string& indent = {}) const;

private:
    std::vector<align> sides_;
    std::vector<std::vector<std::string>> rows_;  // the head first
};

/// Characters of a UTF-8 text.
std::size_t text_width(const std::string& text);

}  // namespace cohort::group
