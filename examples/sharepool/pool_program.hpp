// SPDX-License-Identifier: Apache-2.0
/// What programs of a pool begin with: the group that they were started in, and a way to end with the reason.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include <cohort/sharepool/channel.hpp>
#include <cohort/sharepool/share_pool.hpp>

namespace example {

namespace pool = cohort::sharepool;

/// Ends the program with the reason where there is no value.
template <class T>
T must(const char* program, cohort::result<T> r) {
    if (r) {
        if constexpr (std::is_void_v<T>) return;
        else return std::move(*r);
    }
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
