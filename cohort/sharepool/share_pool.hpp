// SPDX-License-Identifier: Apache-2.0
/// A process's side of the share pool: it attaches to the broker, joins groups, and has them added to by others.
///
///     auto pool = sharepool::share_pool::attach({});                        // $COHORT_SOCKET
///     const int id = pool->get()->group_add_task(getpid(), spg_id_auto).value();
///     auto* p = static_cast<int*>(pool->get()->alloc(4096, 0, id).value());   // the same address in every member
///     pool->get()->free(p);
///
/// A thread of the library serves the broker's requests ("map this group"), so that other processes can add this one. When the broker dies, memory goes on; the thread connects again as soon as there is one.
/// Kernel: include/linux/share_pool.h of openEuler; the same under the kernel's own names and signatures: share_pool.h (C).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/base/cpumask.hpp>
#include <cohort/sharepool/broker/directory.hpp>
#include <cohort/sharepool/member.hpp>

namespace cohort::sharepool {

struct attach_options {
    std::string socket = {};                         ///< empty: $COHORT_SOCKET, else default_socket() (broker/client.hpp)
    std::chrono::milliseconds patience{10'000};      ///< for each call; longer than the broker's own for a process that is to map, so that the broker says what was wrong
};
struct add_options {
    access prot = access::read_write;
    bool single = false;                             ///< sp_*: EEXIST if it is in any group
    bool populate = false;                           ///< every page that exists is mapped before the call returns: the kernel's promise, and as long as that takes
    trace* checks = nullptr;                         ///< what the broker looked at, in order
};

/// Flags of alloc(), openEuler's values.
inline constexpr unsigned long sp_hugepage = 1ul << 0, sp_hugepage_only = 1ul << 1, sp_dvpp = 1ul << 2, sp_spec_node_id = 1ul << 3, sp_prot_ro = 1ul << 16, sp_prot_focus = 1ul << 17;
inline constexpr unsigned device_id_shift = 32, device_id_bits = 4, node_id_shift = 36, node_id_bits = 10;

/// A piece of a file that can be mapped: what import takes and export gives.
struct foreign {
    int fd = -1;
    std::uint64_t offset = 0, bytes = 0;
};

/// Synchronization: any thread may call anything. After fork() the child has none of it: it attaches anew.
class share_pool {
public:
    /// Errors: ECONNREFUSED, ENOENT: no broker; EACCES; EPROTO, one of another version; EEXIST, this process is attached to it already.
    static result<std::unique_ptr<share_pool>> attach(const attach_options& o);
    /// The attachment that was made when the program was loaded, because $COHORT_POOL_JOIN names groups (`cohort pool exec`); nullptr: there is none.
    static share_pool* current();
    /// Leaves every group.
    ~share_pool();

    // ---- groups (share_pool.cpp) ----
    /// The group's id. Errors: those of directory::begin_add; ENOMEM, EADDRINUSE...: what the target said when it mapped; ETIMEDOUT, it did not answer; ECONNRESET, the broker is gone.
    result<int> group_add_task(int pid, int id, const add_options& o = {});
    result<void> group_del_task(int pid, int id);
    result<std::vector<int>> group_id_by_pid(int pid) const;
    result<std::vector<member_facts>> group_walk(int id) const;
    /// The caller's hidden local group, joined at the first call.
    result<int> id_of_current();
    /// Called with the id of each group that dies from now on, by the library's thread: what asks the broker from there is EDEADLK. The number to unregister with.
    int register_notifier(std::function<void(int id)> f);
    result<void> unregister_notifier(int number);

    /// The caller's part in a group, for objects of any size (member.hpp); nullptr: it is not in it, or for reading only. Good until the process leaves the group, or is taken out of it.
    member* in(int id) const;

    // ---- memory (share_pool_memory.cpp) ----
    /// Pages of the group, zeroed, at an address of its own; id 0: of the caller's local group. flags: sp_*. Errors: EINVAL, size 0 or over the machine's memory, bits, device, node, sp_prot_focus without
    /// sp_prot_ro or with sp_dvpp; ENODEV, the group is not there or the caller not in it; EPERM, it is in it for reading; EOVERFLOW, no addresses left; ENOMEM, the machine's or the group's or the process's limit.
    result<void*> alloc(std::size_t size, unsigned long flags, int id);
    result<void*> alloc_nodemask(std::size_t size, unsigned long flags, int id, const nodemask& nodes);
    /// Errors: EINVAL, no start of something that alloc() gave, or freed already; EPERM, of a group the caller is not in, or another's local memory.
    result<void> free(void* p, int id = spg_id_default);
    /// Maps a foreign file (memfd, dma-buf) for one process (id 0) or for every member of a group. Errors: EINVAL; ENODEV; EPERM; what a member said that could not map it, then nobody has it.
    result<void*> make_share_k2u(const foreign& f, unsigned long flags, int pid, int id);
    /// Memory of the caller as a piece of a file, to be given to others or to make_share_k2u. Pool memory and shared mappings: as they are; private memory becomes a shared mapping of the same content, at the same
    /// addresses (no other thread may write there meanwhile). The descriptor is the caller's. Errors: EFAULT, not mapped; EINVAL, no size, overflow; EPERM, not readable; EOPNOTSUPP, what cannot be shared (stack, device).
    result<foreign> make_share_u2k(void* p, std::size_t size);
    /// Takes an import back. Errors: EINVAL; EPERM, another's; EFAULT, no address of the pool.
    result<void> unshare(void* p, std::size_t size, int id);
    /// Where SP_DVPP areas of a device are put. Errors: EINVAL, outside the group's window for devices; EEXIST, it was set.
    result<void> config_dvpp_range(std::uint64_t start, std::uint64_t size, int device, int id);
    bool is_sharepool_addr(const void* p) const;
    /// The node that the page at p is on; -1: none yet.
    int node_id(const void* p) const;

    struct impl;
    /// For tests, and for what is built on it.
    impl& internals() const { return *impl_; }

private:
    friend struct fork_handlers;
    explicit share_pool(std::unique_ptr<impl> i);
    std::unique_ptr<impl> impl_;
};

}  // namespace cohort::sharepool
