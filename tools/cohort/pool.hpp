// SPDX-License-Identifier: Apache-2.0
/// What the commands of `cohort pool` have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <cohort/sharepool/area_list.hpp>
#include <cohort/sharepool/broker/client.hpp>

#include "command.hpp"

namespace cohort::cli {

struct pool_options {
    std::string socket;
    std::int64_t id = 0, pid = 0;   // 0: not given
    bool json = false;
};

/// --socket, and --json where there is data.
command& pool_command(registry& all, const std::string& verb, const std::string& summary, pool_options& o, bool json = true);

/// An error as JSON, where that was asked for, and on stderr; its exit code.
outcome pool_refused(const pool_options& o, const error& e);

/// Runs `body` with a connection to the broker; whatever is refused is told.
template <class Body>
outcome with_broker(const pool_options& o, Body body) {
    auto broker = sharepool::broker_client::connect(o.socket);
    if (!broker) {
        error e = broker.error();
        if (e.code == ECONNREFUSED || e.code == ENOENT) e.reason += "; is cohortd running? It listens there, or where --socket or $COHORT_SOCKET say";
        return pool_refused(o, e);
    }
    const outcome done = body(*broker);
    return done ? done : pool_refused(o, done.error());
}

/// The group as data.
nlohmann::ordered_json group_json(const sharepool::wire::group_row& g);
std::string hex(std::uint64_t n);
std::string octal(unsigned mode);

/// What /proc tells of a process, in KiB; all 0: it is gone.
struct process_memory {
    std::string name;
    std::uint64_t virt = 0, res = 0, shm = 0;
};
process_memory memory_of_process(int pid);

/// One group as `stat` and `top` show it: what the broker knows, and what its memory tells where it may be read.
struct group_view {
    sharepool::wire::group_row row;
    std::vector<sharepool::wire::member_row> members;
    std::vector<sharepool::wire::import_row> imports;
    bool readable = false;           // else the figures below are unknown
    std::string why_not;
    std::uint64_t resident = 0;      // bytes of its memory that exist
    std::uint64_t used = 0;          // bytes of areas, and of the superblocks in which small objects are
    std::uint64_t small = 0;         // of those, of superblocks
    bool huge = false;               // its memory is of huge pages
    std::vector<sharepool::area_facts> areas;
    std::uint64_t owned(int pid) const;  // bytes of areas
    std::uint64_t imported(int pid) const;
};
/// Errors: those of the broker; what cannot be read of the memory is none.
result<group_view> view_of(sharepool::broker_client& broker, int id);

}  // namespace cohort::cli
