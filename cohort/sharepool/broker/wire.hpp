// SPDX-License-Identifier: Apache-2.0
/// The messages between the broker and the processes it serves: one packet of a SOCK_SEQPACKET socket each, of one fixed shape, with descriptors beside it.
///
///     wire::packet p{.what = wire::verb::add, .number = 1, .pid = 4711, .id = 7};   // the answer bears number 1, too
///     sys::send_packet(socket, wire::encode(p), {});                               // whole or not at all
///     auto answer = wire::decode(bytes);                                           // EPROTO: it is none
///
/// Every field of a packet that comes in is checked where it is used; one that is too short, too long, of another version or of an unknown verb is answered EPROTO, and ends the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool::wire {

enum class verb : std::uint16_t {
    // a process or a command asks
    hello,      ///< first of all. flags: attach (it serves `map`); mark: its process_identity's. Answer: at, bytes: the window; flags
    create,     ///< id, bytes, offset: limit, mode, flags, text: name. Answer: id
    destroy,    ///< id; flags: force
    add,        ///< pid, id, flags: read_only, single, populate, with_trace. Answer: id; text; rows: the trace
    add_local,  ///< the caller's own local group. Answer: id
    remove,     ///< pid, id
    ids,        ///< pid. Answer: rows of ids
    groups,     ///< offset: where to go on. Answer: rows of group_row; offset: where to go on, 0: that was all
    members,    ///< id; the same: rows of member_row
    imports,    ///< id; the same: rows of import_row
    look,       ///< id. Answer: group_row; descriptors open for reading, for who may join for reading
    limit,      ///< id, bytes
    import,     ///< id, at, bytes, offset, flags: to_process, read_only; a descriptor. Answer when every member has it
    unshare,    ///< id, at, bytes
    follow,     ///< deaths of groups are told from now on
    stat,       ///< Answer: rows of one totals_row
    holds,      ///< after `hello` to a broker that has started again: id; both descriptors. Answer
    // the broker asks, an attached process answers `done` with the same number
    map,        ///< id, at, bytes, flags; two descriptors, then the imports as `map_import`
    map_import, ///< id, at, bytes, offset, flags; a descriptor
    unmap_import,
    ask_use,    ///< id: is anything allocated in it? `done` with EBUSY: yes
    unmap,      ///< id: the join was put back, or the group was destroyed, or it left
    recover,    ///< id, pid, mark: this process is gone (or has exec()ed): put in order what it left; pid 0: all that are gone
    // told, without an answer
    group_died, ///< id
    // answers
    answer,     ///< code: 0 or an errno; text: "object: act: reason", parts separated by '\n'
    done,       ///< the same, to the broker
};

enum flag : std::uint32_t { attach = 1, force = 2, read_only = 4, single = 8, populate = 16, with_trace = 32, to_process = 64, new_group = 256, restarted = 512 };

/// How a group's files are made: spg::flags.
enum group_flag : std::uint32_t { huge_if_possible = 1, huge_only = 2, compare_and_swap = 4, unmap_freed = 8, every_group_flag = 15 };

inline constexpr std::size_t most_bytes = 16'384;  ///< of a packet

/// Fields that a verb does not name are 0. A value.
struct packet {
    verb what = verb::answer;
    std::uint64_t number = 0;
    std::int32_t pid = 0, id = 0, code = 0;
    std::uint32_t flags = 0, mode = 0;
    std::uint64_t at = 0, bytes = 0, offset = 0, mark = 0;
    std::string text = {};
    std::string rows = {};  ///< as they are in memory: both ends are one machine's and one version's
    bool operator==(const packet&) const = default;
};

/// What is longer than a packet may be, is cut: text first, then rows.
std::vector<std::byte> encode(const packet& p);
/// Errors: EPROTO: too short, too long, of another version, of an unknown verb, of lengths that do not add up.
result<packet> decode(std::span<const std::byte> bytes);

/// The answer to packet `to` (its number, `what`).
packet answer(const packet& to, const error& e, verb what = verb::answer);
packet answer(const packet& to, verb what = verb::answer);
/// What an answer with a code says.
error error_of(const packet& p);

struct group_row {
    std::int32_t id;
    std::uint32_t owner_uid, owner_gid, mode, flags, members, imports;
    std::uint8_t kept, dead, local, unused;
    std::uint64_t base, bytes, limit;
    char name[32];
};
struct member_row {
    std::int32_t pid;
    std::uint8_t reads_only, populate, unused[2];
    std::uint64_t mark;
};
struct import_row {
    std::uint64_t at, bytes, offset, device, inode;
    std::int32_t pid;
    std::uint32_t to_process;
};
struct check_row {
    std::int32_t code;
    char what[60], found[128];
};
struct totals_row {
    std::uint64_t groups, dead, members, processes, imports, addresses;
    std::uint64_t connections, requests, refused, malformed, joins, failed_joins, deaths, recoveries_asked, groups_lost, groups_again, slowest_request_ns;
};

inline constexpr std::size_t most_row_bytes = most_bytes - 1024;
/// False: it is full.
template <class Row>
bool add_row(packet& p, const Row& r) {
    static_assert(std::is_trivially_copyable_v<Row>);
    if (p.rows.size() + sizeof r > most_row_bytes) return false;
    p.rows.append(reinterpret_cast<const char*>(&r), sizeof r);
    return true;
}
/// What does not fill a row is left out.
template <class Row>
std::vector<Row> rows_of(const packet& p) {
    std::vector<Row> all(p.rows.size() / sizeof(Row));
    if (!all.empty()) std::memcpy(all.data(), p.rows.data(), all.size() * sizeof(Row));
    return all;
}
/// Cut to what fits, with a 0 at its end.
template <std::size_t N>
void put_text(char (&to)[N], const std::string& from) {
    const std::size_t n = from.size() < N ? from.size() : N - 1;
    std::memcpy(to, from.data(), n);
    std::memset(to + n, 0, N - n);
}
template <std::size_t N>
std::string text_of(const char (&from)[N]) {
    return {from, ::strnlen(from, N)};
}

group_row row_of(const spg& g);
void add_trace(packet& p, const trace& t);
trace trace_of(const packet& p);

}  // namespace cohort::sharepool::wire
