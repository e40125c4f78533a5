// SPDX-License-Identifier: Apache-2.0
/// What producer and consumer agree on: maps of words in the pool's memory.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <cohort/sharepool/allocator.hpp>

#include "pool_program.hpp"

namespace example {

using text = std::basic_string<char, std::char_traits<char>, pool::allocator<char>>;
struct hash {
    std::size_t operator()(const text& t) const { return std::hash<std::string_view>()(t); }
};
using table = std::unordered_map<text, unsigned long, hash, std::equal_to<>, pool::allocator<std::pair<const text, unsigned long>>>;

}  // namespace example
