// SPDX-License-Identifier: Apache-2.0
/// Cookies: who trusts whom. Tasks with equal cookies may run at the same time on one core's hyperthreads; 0 is the cookie of everybody who has none.
///
///     cookie_table cookies;
///     cookie web = cookies.create();                  // one holder: the caller. The first cookie of all: enabled()
///     cookies.get(web);                               // one more
///     cookie both = cookies.compose({web, other});    // only who holds the same parts shares with its holder
///     cookies.put(web);                               // the last holder's put ends it
///
/// Kernel: sched_core_alloc_cookie, sched_core_get_cookie, sched_core_put_cookie, sched_core_get, sched_core_put (kernel/sched/core_sched.c, v6.12). Composite cookies: the
/// cgroup tags proposed with v10 of the patches. Differences: numbers are not used again; disabling is immediate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace cohort::coresched {

using cookie = std::uint64_t;
inline constexpr cookie no_cookie = 0;

/// All cookies of one system. Not thread-safe: it belongs to one engine.
class cookie_table {
public:
    /// A new one, with one reference.
    cookie create();
    /// The cookie of those who hold all of `parts` (order, repetitions and 0 do not count): equal parts give the same one while it lives. No part: 0; one part: that
    /// part. The caller gets a reference; a composite one has a reference to each of its parts.
    cookie compose(std::vector<cookie> parts);
    /// c: one that lives, or 0, for which nothing happens. Anything else is a caller's bug.
    void get(cookie c);
    void put(cookie c);

    std::size_t live() const { return entries_.size(); }
    /// 0 when it does not live.
    std::size_t references(cookie c) const;
    /// Is core scheduling on? From the first cookie to the end of the last.
    bool enabled() const { return !entries_.empty(); }
    std::uint64_t times_enabled() const { return enabled_; }

private:
    struct entry {
        std::size_t references = 1;
        std::vector<cookie> parts = {};  // of a composite one, ascending
    };
    cookie add(std::vector<cookie> parts);

    std::map<cookie, entry> entries_;
    std::map<std::vector<cookie>, cookie> composites_;
    cookie last_ = 0;
    std::uint64_t enabled_ = 0;
};

}  // namespace cohort::coresched
