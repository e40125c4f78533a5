// SPDX-License-Identifier: Apache-2.0
/// What producer and consumer agree on: maps of words in the pool's memory, the channel that passes their addresses, and the group that the program was started in.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/channel.hpp>
#include <cohort/sharepool/share_pool.hpp>

namespace example {

namespace pool = cohort::sharepool;

using text = std::basic_string<char, std::char_traits<char>, pool::allocator<char>>;
struct hash {
    std::size_t operator()(const text& t) const { return std::hash<std::string_view>()(t); }
};
using table = std::unordered_map<text, unsigned long, hash, std::equal_to<>, pool::allocator<std::pair<const text, unsigned long>>>;

/// Ends the program with the reason where there is no value.
template <class T>
T must(const char* program, cohort::result<T> r) {
    if (r) return std::move(*r);
    std::fprintf(stderr, "%s: %s\n", program, r.error().line().c_str());
    std::exit(5);
}

/// The program's part in the first group that `cohort pool exec` put it into.
inline pool::member& my_pool(const char* program) {
    pool::share_pool* p = pool::share_pool::current();
    const char* ids = std::getenv("COHORT_POOL_JOIN");
    pool::member* m = p && ids ? p->in(std::atoi(ids)) : nullptr;
    if (m) return *m;
    std::fprintf(stderr, "%s: it is in no group: cohort pool exec --id 7 -- %s\n", program, program);
    std::exit(2);
}

}  // namespace example
