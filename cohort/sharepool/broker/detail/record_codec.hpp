// SPDX-License-Identifier: Apache-2.0
/// Records of a directory as bytes, and a journal's frames around them. Numbers are little-endian.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool::detail {

inline constexpr std::size_t journal_header_bytes = 8 + 4 + 36 + 4, frame_header_bytes = 4 + 8 + 4 + 4;

std::string journal_header(std::string_view boot);
/// One frame: its header, and the record as its kind has it.
std::string frame_of(const record& r, std::uint64_t sequence);

struct journal_content {
    std::vector<record> records;
    std::uint64_t cut = 0;
    bool earlier_boot = false;
};
/// A whole file. Errors: EINVAL.
result<journal_content> read_journal(std::string_view bytes, const std::string& path, std::string_view boot);

}  // namespace cohort::sharepool::detail
