// SPDX-License-Identifier: Apache-2.0
/// The rules of who is in which group: a pure structure that the broker keeps, and that tests hold against a model.
///
///     directory d({.window = {0x550000000000, 320ull << 30}}, facts);         // facts(pid): what is known of a process
///     auto t = d.begin_add({.pid = 10}, {.pid = 10, .id = 7}, nullptr);       // every check of the kernel's join, in its order
///     ... the process maps the group ...
///     d.commit_add(*t);                                                      // 7; or d.abort_add(*t): as if nothing had been asked
///
/// Kernel: mg_sp_group_add_task, mg_sp_group_del_task, mg_sp_group_id_by_pid, sp_group_exit, sp_group_drop of openEuler's mm/share_pool.c (4.19 to 6.6).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/access.hpp>
#include <cohort/sharepool/broker/address_ranges.hpp>
#include <cohort/sys/liveness.hpp>

namespace cohort::sharepool {

/// openEuler's ids. Manual ones are chosen by users; auto, local and pass-through ones are given out.
inline constexpr int spg_id_none = -1, spg_id_default = 0, spg_id_min = 1, spg_id_max = 99'999, spg_id_auto_min = 100'000, spg_id_auto_max = 199'999, spg_id_auto = 200'000,
                     spg_id_local_min = 200'001, spg_id_local_max = 299'999, spg_id_local = 300'000, spg_id_dvpp_min = 800'000, spg_id_dvpp_max = 899'999, spg_id_dvpp = 900'000;

/// What the broker can find out about a process.
struct process_facts {
    bool exists = false;
    bool exiting = false;       ///< a zombie, or all its threads end
    bool dumping = false;       ///< it writes a core file
    bool kernel_thread = false;
    bool attached = false;      ///< it has a connection over which it can be told to map
    sys::process_identity leader = {};  ///< of the thread group: the pid asked for may be any thread's
    unsigned uid = 0;
    bool shares_memory = false; ///< vfork() or CLONE_VM child: its memory is another's
};

struct caller {
    int pid = 0;
    unsigned uid = 0, gid = 0;
};

/// One check of a join, for `--trace`.
struct check {
    std::string what;    ///< "id in range"
    std::string found;   ///< "7, manual"
    int code = 0;        ///< 0, or the errno it ended with
};
using trace = std::vector<check>;

struct directory_settings {
    address_range window = {};                                 ///< groups get their addresses here
    int most_groups = 50'000, most_groups_of_process = 3'000, most_members = 1'024;
    std::uint64_t group_bytes = std::uint64_t{64} << 20;       ///< of a group that a join makes
    std::uint64_t local_bytes = std::uint64_t{64} << 20;       ///< of a process's hidden local group
    int default_group = 0;                                     ///< not 0: replaces the id that any join asks for (enable_mdc_default_group)
    bool only_owner_adds = false;                              ///< ac_mode 1: only a group's owner adds others
    unsigned devices = 8;                                      ///< MAX_DEVID: device ids 0 .. devices - 1
};

struct group_request {
    int id = spg_id_auto;                          ///< manual, or spg_id_auto, spg_id_dvpp
    std::uint64_t bytes = 0;                       ///< 0: settings.group_bytes; rounded up to 2 MiB
    std::string name = {};                         ///< a label of up to 31 bytes
    unsigned mode = 0660;                          ///< as a file's
    std::uint64_t limit = 0;                       ///< bytes that may be allocated in it; 0: no limit of its own
    std::uint32_t flags = 0;                       ///< what the broker makes its files with; opaque here (wire.hpp: group_flag)
};

struct add_request {
    int pid = 0;
    int id = spg_id_auto;
    access prot = access::read_write;
    bool single = false;                           ///< sp_*: a process is in one group only
    bool populate = false;
};

/// An imported area: a foreign file at addresses of a group (K2SPG) or of one process (K2TASK).
struct import_facts {
    std::uint64_t at = 0, bytes = 0, offset = 0;
    std::uint64_t device = 0, inode = 0;           ///< of the file
    int pid = 0;                                   ///< who asked
    bool to_process = false;                       ///< K2TASK: nobody else has it
    bool operator==(const import_facts&) const = default;
};

struct member_facts {
    sys::process_identity process = {};
    access prot = access::read_write;
    bool populate = false;
    bool operator==(const member_facts&) const = default;
};

/// Which files a group's memory is, so that descriptors that come back to a broker that started again can be told from others. All 0: not made yet.
struct group_inodes {
    std::uint64_t device = 0, data = 0, metadata = 0;
    std::uint64_t metadata_device = 0;   ///< not the same where the data is of huge pages
    bool made() const { return data != 0; }
    bool operator==(const group_inodes&) const = default;
};

/// A share pool group as the directory has it (struct sp_group). Values out of it are copies.
struct spg {
    int id = 0;
    std::string name = {};
    address_range range = {};
    unsigned owner_uid = 0, owner_gid = 0, mode = 0660;
    std::uint64_t limit = 0;
    std::uint32_t flags = 0;
    bool kept = false;                             ///< made by create(): lives without members
    bool dead = false;
    bool local = false;                            ///< a process's own, hidden
    int references = 0;                            ///< tickets and finders
    group_inodes files = {};
    std::vector<member_facts> members = {};        ///< in the order of their joining
    std::vector<import_facts> imports = {};        ///< by address
    bool operator==(const spg&) const = default;
};

/// Whether a group's mode lets who join it: r for reading, r and w for reading and writing; root always.
constexpr bool may_join(const caller& who, unsigned owner_uid, unsigned owner_gid, unsigned mode, access prot) {
    if (who.uid == 0) return true;
    const unsigned bits = who.uid == owner_uid ? mode >> 6 : who.gid == owner_gid ? mode >> 3 : mode;
    const unsigned need = prot == access::read ? 4 : 6;
    return (bits & need) == need;
}

/// What changed, for the journal: one record per committed change; applying all of them in order to an empty directory gives the same one. What follows from a record has none of its own: a group that dies with its
/// last member; the groups that a detached process was in. References are not recorded: they are those of the running broker.
struct record {
    enum class kind : std::uint8_t { created, destroyed, joined, left, imported, unshared, limited, attached, detached, filed } what = kind::created;
    spg group = {};                                ///< created: all of it (no members); others: its id; limited: limit; filed: files
    member_facts member = {};                      ///< joined, left, attached, detached (process); created: the first member, of a group that a join made
    import_facts import = {};                      ///< imported; unshared: at
    bool operator==(const record&) const = default;
};

/// Synchronization: none, a user's own. Cost of each call, unless it says otherwise: some microseconds, with 50,000 groups, 3,000 of a process and 1,024 members; copies of a group are as long as its members and imports.
class directory {
public:
    using look = std::function<process_facts(int pid)>;
    /// facts: asked anew in every check. changed: called for each committed change, before the call that made it returns; may be empty.
    directory(directory_settings s, look facts, std::function<void(const record&)> changed = {});

    // ---- groups ----
    /// Errors: EINVAL, id (0, negative, 200001 up save 900000; of the auto range), bytes (over 128 GiB or the window), limit (over bytes), name, mode; EEXIST, the id is a live group's; ENODEV, a dead one still has it;
    /// ENOSPC, caps or no id left; EOVERFLOW, no run of addresses is free.
    result<spg> create(const caller& who, const group_request& r);
    /// Its members are to be told to leave first: EBUSY while it has some, unless `force`, which gives back who they were and leaves the group dead.
    /// Its addresses are free from then on, unless it was found: keep it by find() until they have unmapped it. Errors: ENODEV; EPERM, not the owner, or a process's own; EBUSY.
    result<std::vector<member_facts>> destroy(const caller& who, int id, bool force);
    /// Finding is taking: the group cannot be freed until drop(). Errors: ENODEV, unknown or dead.
    result<spg> find(int id);
    void drop(int id);
    /// 0: none. Errors: ENODEV; EPERM, not the owner; EINVAL, more than the group has addresses.
    result<void> set_limit(const caller& who, int id, std::uint64_t bytes);

    /// Its files have been made, or made anew. Errors: ENODEV, unknown or dead.
    result<void> set_files(int id, const group_inodes& files);

    // ---- joining and leaving ----
    struct ticket {
        std::uint64_t number = 0;
        int id = 0;
        spg group;                      ///< as it was when the ticket was given
        member_facts joiner;
        bool new_group = false;
    };
    /// In this order: protection (EINVAL); the default group replaces the id; id range (EINVAL); an auto id lives (EINVAL); a new id is reserved (ENOSPC); the process exists, does not exit and is no kernel thread, which
    /// has no memory (ESRCH); shares nobody's memory (EINVAL); is attached (EOPNOTSUPP, the reason names `cohort pool exec`); does not dump core (EBUSY); the caller may add it (EPERM); it is in no group (single) or not in
    /// this one, nor being added to it (EEXIST), and in fewer than the most (ENOSPC); the group is found (ENODEV, it is dead; EPERM, only its owner adds; EACCES, its mode) or made (ENOSPC; EOVERFLOW); has a place
    /// (ENOSPC). Whatever fails after an id was reserved frees it.
    /// A ticket takes a place of the group and of the process until it is committed or aborted, and a reference of the group. A group that a join makes is seen from here on, and gone if nobody's join is committed.
    result<ticket> begin_add(const caller& who, const add_request& r, trace* seen);
    /// The process has mapped it. Errors, everything put back: ESRCH, it has ended or lost its connection; EBUSY, it dumps core; ENODEV, the group died meanwhile. EINVAL: no such ticket.
    result<int> commit_add(const ticket& t);
    /// It could not: as if nothing had been asked. A ticket that is none (any more) changes nothing.
    void abort_add(const ticket& t);

    /// sp_group_del_task. in_use: whether the group has areas, as its members say. Answers whether the group died of it. Errors, in this order: EINVAL, the group is unknown, dead or local, or has areas or imports;
    /// ESRCH, no process, or not a member; EPERM.
    result<bool> remove(const caller& who, int pid, int id, bool in_use);
    /// A process has a connection from now on; again: nothing changes. Errors: EINVAL, pid; EEXIST, an earlier process of this number is there still: exit() that one first.
    result<void> attach(const sys::process_identity& p);
    /// It has ended: it leaves every group. Groups that died of that, in rising order, its local one too. Each dead group is named once, and no living one. As long as it has groups: 0.2 us each.
    std::vector<int> exit(const sys::process_identity& p);

    // ---- looking ----
    /// Ids of a process's groups, oldest first; local ones are hidden. Errors: ESRCH, no such process; ENODEV, it is in none.
    result<std::vector<int>> ids_of(int pid) const;
    /// The same of an attached process, whatever became of it; none: it is not attached.
    std::vector<int> ids_of(const sys::process_identity& p) const;
    /// The local group of a process that has none (local_of). Checks, in this order: ESRCH; EINVAL, a kernel thread, or it shares another's memory; EOPNOTSUPP, not attached; EBUSY; EPERM; EEXIST, it has one, or is getting
    /// it; ENOSPC, no local id left; EOVERFLOW. Local groups count neither among the groups of the machine nor among those of a process.
    result<ticket> begin_local(const caller& who, int pid);
    std::optional<int> local_of(int pid) const;    ///< pid: of a process, not of a thread
    /// Ids in rising order, dead ones too, at most so many, from `from` on.
    std::vector<int> groups(int from = 0, std::size_t most = SIZE_MAX) const;
    std::optional<spg> look_at(int id) const;
    std::vector<sys::process_identity> processes() const;   ///< attached ones, by pid
    struct totals {
        int groups = 0;                            ///< living ones, without local ones
        int dead = 0;                              ///< the same, of dead ones that somebody refers to
        int local = 0;
        int members = 0;                           ///< of all groups, without local ones
        int processes = 0, imports = 0;
        std::uint64_t addresses = 0;               ///< bytes that groups have
        bool operator==(const totals&) const = default;
    };
    totals count() const;

    // ---- imports ----
    /// A place among its group's imports; f.pid becomes who's. One for a process goes when that process leaves the group. Errors: ENODEV; EPERM, who is no member; EINVAL, not inside the group's range, not whole pages,
    /// or over another import.
    result<void> import(const caller& who, int id, const import_facts& f);
    /// The import that has `at` in its first 2 MiB. Errors: ENODEV; EPERM, who is no member, or it is for a process and not the caller; EINVAL, there is none, or it has fewer bytes.
    result<import_facts> unshare(const caller& who, int id, std::uint64_t at, std::uint64_t bytes);

    // ---- starting again ----
    /// Applies a record of the journal. Errors: EINVAL, it contradicts what came before (a journal that was damaged).
    result<void> apply(const record& r);
    /// All of it that is committed, as records that make it anew. As long as there are groups and members.
    std::vector<record> snapshot() const;
    /// Everything a directory must hold at any time; empty: it does. For tests.
    std::string fault() const;

    ~directory();

private:
    struct impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace cohort::sharepool
