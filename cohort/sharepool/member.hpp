// SPDX-License-Identifier: Apache-2.0
/// A process's part in a group: it allocates and frees at about the cost of a private malloc, and what it leaves when it dies is put in order by the others, while they go on.
///
///     auto m = sharepool::member::join(data_fd, metadata_fd);                   // result<member>
///     auto* order = static_cast<struct order*>(m->alloc(sizeof(struct order)));   // any member can follow this pointer
///     m->hand_over(order);                                                   // from now on it outlives us; push the pointer into a queue
///     ...
///     other.free(order);                                                     // any member frees it
///
/// Kernel's counterpart: mg_sp_alloc and mg_sp_free of openEuler's mm/share_pool.c, for objects of any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/area_options.hpp>
#include <cohort/sharepool/census.hpp>
#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sharepool/group.hpp>
#include <cohort/sharepool/recovered.hpp>
#include <cohort/sys/liveness.hpp>

namespace cohort::sharepool {

/// Synchronization: any thread may call anything at any time; leaving (the destructor) is for when no other thread of this process uses the group any more.
class member {
public:
    /// Takes a place in the group's table of members and maps the group at its address. The descriptors are the caller's to close. 15 us, whatever the group holds.
    /// Errors: EINVAL, they are no files of a group of this version; EADDRINUSE, the range is used in this process; ENOMEM, the window reserved by this process ends before it, or RLIMIT_AS;
    /// ENOTSUP, the group uses restartable sequences and this process has none; ENOSPC, 1,024 members; EEXIST, this process is a member already, or has a view of it.
    static result<member> join(int data_fd, int metadata_fd);
    member(member&&) noexcept;
    member& operator=(member&&) = delete;
    /// Leaves: what it owned and had not handed over is freed.
    ~member();

    /// Uninitialised memory, aligned to 16, and to the largest power of two that divides its class's size; above 32 KiB an area of its own, aligned to 64 KiB. nullptr: no memory, or no room in the group.
    /// bytes 0 is as 1. About 3 ns up to 32 KiB, and with new pages half a microsecond each. Signal handlers: yes, up to 32 KiB.
    void* alloc(std::size_t bytes, lifetime l = lifetime::member) noexcept { return alloc_at(*heap_, bytes, l); }
    /// The same with the reason, and for other alignments: a power of two up to 1 GiB.
    result<void*> try_alloc(std::size_t bytes, std::size_t alignment = 16, lifetime l = lifetime::member);
    /// At least so many bytes of pages of their own, zeroed, at a multiple of 64 KiB; a multiple of 4 KiB, of huge pages of 2 MiB. The pages exist when it returns. Errors: EINVAL, larger than the group, no such
    /// device, a node that is not online; EOVERFLOW, no such run of addresses is free; ENOMEM; with huge_only: ENOTSUP and why.
    result<void*> alloc_area(std::size_t bytes, area_options o);
    /// Areas of a device are put at these addresses from now on; once for each device. Errors: EINVAL, not multiples of 64 KiB inside the device's window; EEXIST, it was said before.
    result<void> narrow_device(unsigned device, std::uint64_t start, std::uint64_t bytes);
    /// Maps a piece of a foreign file in this process at addresses that an area of addresses alone reserves. All members that are to have it do the same. Errors: EINVAL, nothing is reserved there, not whole
    /// pages; what the file refuses.
    result<void> map_import(void* at, std::size_t bytes, int fd, std::uint64_t offset, access a);
    /// The group's own, empty addresses are there again.
    result<void> unmap_import(void* at);
    /// The addresses are free for all: when everybody who had mapped the import has unmapped it. Errors: EINVAL; EALREADY, another member did it.
    result<void> give_back(void* at);
    /// Maps every page that there is in this process, so that no touch of it faults. Bytes. Errors: ENOTSUP, a kernel before 5.14; ENOMEM.
    result<std::uint64_t> populate();

    /// p is what alloc gave to any member; nullptr is ignored. Anything else, and a second free, ends the program with a message that tells whose it is.
    void free(void* p) noexcept {
        if (p) free_at(*heap_, p);
    }
    /// The same, for pointers that are not trusted. Errors: EINVAL, EALREADY, with whose it is; nothing changed.
    result<void> try_free(void* p);
    /// It stays when its owner dies. Errors: as try_free.
    result<void> hand_over(void* p);

    /// Bytes that can be used at p: its class's size, or its area's. Errors: as try_free.
    result<std::size_t> usable_size(const void* p) const;
    /// "block of 64 bytes of process 4711", "free block ..."; never fails.
    std::string describe(const void* p) const;

    /// Looks at every member and puts in order what the dead have left, beside everybody else. 3 to 15 us for each member, and the recovery.
    /// Anyone may call it, several at once; who waits for memory that a dead member holds, should.
    recovered recover_dead(at_death policy = at_death::keep_handed_over);
    /// The same for one process, which has ended, or lives but may have left without a word, by exec(): if it maps the group still (/proc/PID/maps), or that is not to be known, nothing is done.
    recovered recover_process(int pid, at_death policy = at_death::keep_handed_over);
    /// Members that are there, by process. The caller, too.
    std::vector<int> processes() const;

    /// Empties the magazines of the CPUs that the calling thread may run on and gives back every page that holds no object. The number of CPUs it could not go to.
    std::size_t trim();
    census count() const;
    /// What is counted: of the group first, then of each member.
    std::vector<usage> accounts() const;
    /// Bytes that the group (pid 0) or the areas of a member may have at once, from now on; 0: as many as there are. Allocations beyond are refused with ENOMEM. Errors: EBUSY, more is in use; ESRCH, no member.
    result<void> set_limit(std::uint64_t bytes, int pid = 0);

    std::byte* base() const { return heap_->base; }
    std::uint64_t bytes() const { return heap_->where.units << detail::unit_shift; }
    bool by_sequences() const { return heap_->by_sequences; }

    /// The same as alloc() and free(), for who has the heap and not the member (allocator.hpp).
    static void* alloc_at(detail::heap& h, std::size_t bytes, lifetime l) noexcept {
        if (bytes >= h.area_from) [[unlikely]] return area_or_null(h, bytes, l);
        return h.alloc(detail::class_of(bytes), l == lifetime::member ? h.me : h.me | detail::shared_bit);
    }
    static void free_at(detail::heap& h, void* p) noexcept {
        if (const int e = h.free(p); e != 0) [[unlikely]] wrong_free(h, p, e);
    }
    /// For tests and tools that look at the metadata.
    detail::heap& internals() const { return *heap_; }

private:
    explicit member(std::unique_ptr<detail::heap> h);
    recovered recover_rows(at_death policy, const std::function<bool(const sys::process_identity&)>& is_gone);
    static void* area_or_null(detail::heap& h, std::size_t bytes, lifetime l) noexcept;
    [[noreturn, gnu::cold]] static void wrong_free(const detail::heap& h, const void* p, int code) noexcept;
    std::unique_ptr<detail::heap> heap_;  // null once it was moved from
};

}  // namespace cohort::sharepool
