// SPDX-License-Identifier: Apache-2.0
/// For tests: processes that are not there, and a directory that is told of them.
///
///     fake_processes all;
///     all.start(10, 1000);                                    // attached, of uid 1000
///     directory d({.window = test_window}, all.look());
#pragma once

#include <cerrno>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>

#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool {

/// How a failed comparison shows it.
inline void PrintTo(const record& r, std::ostream* out) {
    *out << "record " << static_cast<int>(r.what) << ": group " << r.group.id << ", process " << r.member.process.pid << ", import " << std::hex << r.import.at << std::dec;
}

}  // namespace cohort::sharepool

namespace cohort::sharepool::testing {

inline constexpr std::uint64_t mib = std::uint64_t{1} << 20, window_base = 0x550000000000;
inline constexpr address_range test_window{window_base, std::uint64_t{320} << 30};

struct fake_processes {
    std::map<int, process_facts> known;
    std::uint64_t last_mark = 0;

    process_facts& start(int pid, unsigned uid = 1000) { return known[pid] = {.exists = true, .attached = true, .leader = {pid, ++last_mark}, .uid = uid}; }
    const sys::process_identity& who(int pid) { return known.at(pid).leader; }
    caller as(int pid) { return {pid, known.at(pid).uid, known.at(pid).uid}; }
    directory::look look() {
        return [this](int pid) {
            const auto i = known.find(pid);
            return i == known.end() ? process_facts{} : i->second;
        };
    }
};

inline constexpr caller root{1, 0, 0};

/// The errno, 0 if it went well.
template <class T>
int code(const result<T>& r) {
    return r ? 0 : r.error().code;
}
template <class T>
std::string line(const result<T>& r) {
    return r ? "" : r.error().line();
}

/// A join whose process maps at once.
inline result<int> join(directory& d, const caller& who, const add_request& r) {
    const auto t = d.begin_add(who, r, nullptr);
    if (!t) return std::unexpected(t.error());
    return d.commit_add(*t);
}

}  // namespace cohort::sharepool::testing
