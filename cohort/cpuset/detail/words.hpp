// SPDX-License-Identifier: Apache-2.0
/// Words of the kernel's files and of our paths, as several files of this room take them apart.
#pragma once

#include <string>
#include <string_view>

namespace cohort::cpuset::detail {

inline constexpr const char* partition_file = "cpuset.cpus.partition";

/// "." -> "": the root, as operations name it.
inline std::string plain(std::string_view path) { return std::string(path == "." ? "" : path); }
/// "root invalid (reason)" -> "root": what a write takes.
inline std::string first_word(std::string_view text) { return std::string(text.substr(0, text.find(' '))); }
inline bool reads_invalid(std::string_view text) { return text.find(" invalid") != text.npos; }
/// Whether one of the words of a text, with blanks between, is this one.
inline bool has_word(std::string_view text, std::string_view word) {
    for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
        const std::size_t end = at + word.size();
        if ((at == 0 || text[at - 1] == ' ') && (end == text.size() || text[end] == ' ')) return true;
    }
    return false;
}

}  // namespace cohort::cpuset::detail
