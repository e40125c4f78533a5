// SPDX-License-Identifier: Apache-2.0
/// Files without a name that processes share as memory, and the ranges of addresses that they are mapped at.
///
///     auto fd = sys::create_shared_memory("cohort:7", 1 << 30);                    // 1 GiB, sparse; nobody can shrink or grow it
///     if (int e = sys::allocate_file_pages(*fd, 0, 65536)) ...                     // ENOMEM or ENOSPC now, and no SIGBUS later
///     auto at = sys::map_shared(*fd, 1 << 30, window);                             // in place of what is there
///
/// Kernel: memfd_create(2), fcntl(F_ADD_SEALS), fallocate(2), mmap(2) with MAP_FIXED_NOREPLACE (4.17), madvise(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <cohort/base/error.hpp>
#include <cohort/sys/facts.hpp>

namespace cohort::sys {

/// Sealed against shrinking, growing and further seals; close-on-exec. Errors: EFBIG, RLIMIT_FSIZE is below `bytes` (nothing is sent SIGXFSZ); those of memfd_create.
result<int> create_shared_memory(const std::string& name, std::uint64_t bytes);
/// A file on a tmpfs of its own that is mounted nowhere, whose pages are huge (2 MiB) wherever 2 MiB are free in one piece. The kernel seals no such file: whoever has the descriptor can cut it short.
/// Errors: EPERM, CAP_SYS_ADMIN is missing; ENOSYS, the kernel (before 5.2) or a seccomp filter has no fsopen(2); EINVAL, the kernel is built without huge pages.
result<int> create_huge_shared_memory(const std::string& name, std::uint64_t bytes);
/// Bytes of a descriptor that create_shared_memory() gave, here or in another process. Errors: EINVAL, it is no such file, or its size is not sealed (unless
/// it need not be); EBADF.
result<std::uint64_t> shared_memory_bytes(int fd, bool sealed = true);
/// Bytes of the file, without mapping it. Errors: EIO, it ends before; those of pread.
result<void> read_shared(int fd, std::uint64_t offset, void* into, std::size_t bytes);
/// Nobody can open the file again, who is not its owner or root, through a descriptor that he was given. Errors: EPERM, it is another user's.
result<void> forbid_opening(int fd);
/// A descriptor of its own of the same file, close-on-exec, for reading only or for both, whatever `fd` is open for. The file's owner and root may; who has it only for reading, can neither map it for writing,
/// nor cut it, nor punch holes. Errors: EPERM, EACCES; ENOENT, /proc is not mounted.
result<int> open_again(int fd, bool for_writing);
/// Copies memory into the file. Errors: EFAULT, a part of it is not mapped or not readable; those of pwrite.
result<void> write_shared(int fd, std::uint64_t offset, const void* from, std::size_t bytes);
/// Another descriptor of the same file, close-on-exec.
result<int> copy_descriptor(int fd);
void close_shared_memory(int fd) noexcept;

/// Addresses without access and without memory. Errors: EEXIST, something is there already; ENOMEM (RLIMIT_AS).
result<void> reserve_addresses(void* at, std::size_t bytes);
/// Maps a whole file for reading and writing: at `at`, in place of what was there; null: anywhere. The mapping is left out of core dumps, and a child of fork() has
/// nothing there. Errors: ENOMEM (RLIMIT_AS, max_map_count), EACCES.
result<void*> map_shared(int fd, std::size_t bytes, void* at = nullptr);
/// The same for reading: where the descriptor is open for reading only, no mprotect(2) makes it writable. Errors: as map_shared.
result<void*> map_shared_for_reading(int fd, std::size_t bytes, void* at = nullptr);
/// The range is what reserve_addresses() made of it.
void unmap_to_reserved(void* at, std::size_t bytes) noexcept;
void unmap_shared(void* at, std::size_t bytes) noexcept;

/// Pages of the file exist when this returns 0. An errno: ENOMEM, ENOSPC; what came before stays. Whole pages.
int allocate_file_pages(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept;
/// The same under a memory policy. As above; EINVAL, no node of it may be used; ENOSYS, the kernel knows no nodes.
int allocate_file_pages_on(int fd, std::uint64_t offset, std::uint64_t bytes, const mempolicy& policy) noexcept;
/// The pages go; zeroes are read from then on. An errno.
int punch_hole(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept;
/// Makes huge pages of a mapped range whose pages exist; 0, or an errno (EINVAL: the kernel has no MADV_COLLAPSE, 6.1; ENOMEM, EAGAIN).
int collapse_to_huge_pages(void* at, std::size_t bytes) noexcept;
/// No access to a part of a mapping from now on; or again. An errno.
int forbid_access(void* at, std::size_t bytes) noexcept;
int allow_access(void* at, std::size_t bytes) noexcept;
int allow_reading(void* at, std::size_t bytes) noexcept;
/// Every page of a mapped range is made, if need be, and mapped in this process. An errno: EINVAL, a kernel before 5.14; EFAULT, it is not mapped for that; ENOMEM.
int populate(void* at, std::size_t bytes, bool for_writing) noexcept;
/// Maps a piece of a file that is another's, in place of what is there; as map_shared(). Errors: EINVAL, it ends before; EACCES, it is not open for that; ENODEV, it cannot be mapped; EBADF, ENOMEM.
result<void> map_foreign(int fd, std::uint64_t offset, std::size_t bytes, void* at, bool writable);
/// The node that the page at p is on; -1: it is on none yet, or the kernel does not tell.
int node_at(const void* p) noexcept;
/// Bytes of memory that the machine has.
std::uint64_t machine_memory() noexcept;
/// Bytes of the file that are in memory.
std::uint64_t allocated_bytes(int fd) noexcept;

}  // namespace cohort::sys
