// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/shared_memory.hpp>

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include <cohort/sys/os.hpp>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace cohort::sys {

namespace {

std::string range_name(const void* at, std::size_t bytes) {
    char text[64];
    std::snprintf(text, sizeof text, "addresses %p+%zu GiB", at, bytes >> 30);
    return text;
}
std::string file_name(int fd) { return "descriptor " + std::to_string(fd); }

int errno_of(int done) noexcept { return done == 0 ? 0 : errno; }

int fallocate_all(int fd, int mode, std::uint64_t offset, std::uint64_t bytes) noexcept {
    int done = 0;
    do {
        done = ::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    } while (done != 0 && errno == EINTR);
    return errno_of(done);
}

/// Beyond it the kernel would send SIGXFSZ.
result<void> within_file_limit(const std::string& object, const std::string& act, std::uint64_t bytes) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= bytes) return {};
    return fail(EFBIG, object, act, "RLIMIT_FSIZE allows files of " + std::to_string(limit.rlim_cur) + " bytes");
}

}  // namespace

result<int> create_shared_memory(const std::string& name, std::uint64_t bytes) {
    const std::string object = "shared memory \"" + name + '"', act = "create it with " + std::to_string(bytes) + " bytes";
    if (auto r = within_file_limit(object, act, bytes); !r) return std::unexpected(r.error());
    const int fd = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return fail(errno, object, act, "memfd_create: " + errno_text(errno));
    if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0 || ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        const int code = errno;
        ::close(fd);
        return fail(code, object, act, errno_text(code));
    }
    return fd;
}

result<int> create_huge_shared_memory(const std::string& name, std::uint64_t bytes) {
    const std::string object = "shared memory \"" + name + "\" of huge pages", act = "create it with " + std::to_string(bytes) + " bytes";
    if (auto r = within_file_limit(object, act, bytes); !r) return std::unexpected(r.error());
    const auto failed = [&](const char* call) {
        const int code = errno;
        return fail(code, object, act, std::string(call) + ": " + errno_text(code) + (code == EPERM ? " (it takes CAP_SYS_ADMIN)" : code == ENOSYS ? " (kernel before 5.2, or a seccomp filter)" : ""));
    };
    const int context = ::fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (context < 0) return failed("fsopen");
    // Twice the size: huge pages at the end of the file may reach beyond it.
    const std::string size = std::to_string(bytes * 2);
    const bool made = ::fsconfig(context, FSCONFIG_SET_STRING, "huge", "always", 0) == 0 && ::fsconfig(context, FSCONFIG_SET_STRING, "size", size.c_str(), 0) == 0 &&
                      ::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
    const int mount = made ? ::fsmount(context, FSMOUNT_CLOEXEC, 0) : -1;
    const int fd = mount < 0 ? -1 : ::openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    const bool good = fd >= 0 && ::ftruncate(fd, static_cast<off_t>(bytes)) == 0;
    const auto e = failed(!made ? "fsconfig huge=always" : mount < 0 ? "fsmount" : "open a file in it");
    for (const int f : {context, mount, good ? -1 : fd}) {
        if (f >= 0) ::close(f);
    }
    if (!good) return e;
    return fd;
}

result<std::uint64_t> shared_memory_bytes(int fd, bool sealed) {
    struct stat s{};
    if (::fstat(fd, &s) != 0) return fail(errno, file_name(fd), "look at it", errno_text(errno));
    const int seals = ::fcntl(fd, F_GET_SEALS);
    constexpr int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
    if (sealed && (seals < 0 || (seals & wanted) != wanted)) return fail(EINVAL, file_name(fd), "use it as shared memory", "its size is not sealed: whoever holds it could cut it short");
    return static_cast<std::uint64_t>(s.st_size);
}

result<void> read_shared(int fd, std::uint64_t offset, void* into, std::size_t bytes) {
    const ssize_t n = ::pread(fd, into, bytes, static_cast<off_t>(offset));
    if (n == static_cast<ssize_t>(bytes)) return {};
    const int code = n < 0 ? errno : EIO;
    return fail(code, file_name(fd), "read " + std::to_string(bytes) + " bytes of it", n < 0 ? errno_text(code) : "it ends before");
}
result<void> forbid_opening(int fd) {
    if (::fchmod(fd, 0) != 0) return fail(errno, file_name(fd), "forbid opening it", errno_text(errno));
    return {};
}
result<int> open_again(int fd, bool for_writing) {
    // Its owner needs the right for this moment.
    const bool may = ::fchmod(fd, 0600) == 0;
    const int again = ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), (for_writing ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    const int code = errno;
    if (may) (void)::fchmod(fd, 0);
    if (again < 0) return fail(code, file_name(fd), for_writing ? "open it again for writing" : "open it again for reading", errno_text(code));
    return again;
}
result<void> write_shared(int fd, std::uint64_t offset, const void* from, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t n = ::pwrite(fd, static_cast<const char*>(from) + done, bytes - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail(n < 0 ? errno : EIO, file_name(fd), "write " + std::to_string(bytes) + " bytes to it", n < 0 ? errno_text(errno) : "it takes no more");
        done += static_cast<std::size_t>(n);
    }
    return {};
}
int node_at(const void* p) noexcept {
    void* page = const_cast<void*>(p);
    int node = -1;
    return ::syscall(SYS_move_pages, 0, 1UL, &page, nullptr, &node, 0) == 0 && node >= 0 ? node : -1;
}
std::uint64_t machine_memory() noexcept { return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }
result<int> copy_descriptor(int fd) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return fail(errno, file_name(fd), "copy it", errno_text(errno));
    return copy;
}
void close_shared_memory(int fd) noexcept { ::close(fd); }

result<void> reserve_addresses(void* at, std::size_t bytes) {
    void* p = ::mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) {
        const int code = errno;
        return fail(code, range_name(at, bytes), "reserve them",
                    code == EEXIST ? "something is mapped there already" : code == ENOMEM ? "RLIMIT_AS or the machine's address space is too small" : errno_text(code));
    }
    if (p != at) {  // a kernel before 4.17 takes the address for a wish
        ::munmap(p, bytes);
        return fail(EEXIST, range_name(at, bytes), "reserve them", "something is mapped there already");
    }
    return {};
}

namespace {
result<void*> map_whole(int fd, std::size_t bytes, void* at, int protection) {
    void* p = ::mmap(at, bytes, protection, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
    if (p == MAP_FAILED) {
        const int code = errno;
        return fail(code, file_name(fd), "map " + std::to_string(bytes) + " bytes of it", code == ENOMEM ? "RLIMIT_AS or max_map_count is too small" : errno_text(code));
    }
    (void)::madvise(p, bytes, MADV_DONTFORK);
    (void)::madvise(p, bytes, MADV_DONTDUMP);
    return p;
}
}  // namespace

result<void*> map_shared(int fd, std::size_t bytes, void* at) { return map_whole(fd, bytes, at, PROT_READ | PROT_WRITE); }
result<void*> map_shared_for_reading(int fd, std::size_t bytes, void* at) { return map_whole(fd, bytes, at, PROT_READ); }

void unmap_to_reserved(void* at, std::size_t bytes) noexcept {
    if (::mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) ::munmap(at, bytes);
}
void unmap_shared(void* at, std::size_t bytes) noexcept { ::munmap(at, bytes); }

int allocate_file_pages(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept { return fallocate_all(fd, 0, offset, bytes); }
int allocate_file_pages_on(int fd, std::uint64_t offset, std::uint64_t bytes, const mempolicy& policy) noexcept {
    // The thread's policy for the length of the call: where the file has none of its own, pages are made by the policy of who makes them, and nothing is left behind by who is killed.
    const auto before = real().get_mempolicy();
    if (!before) return before.error().code;
    if (const auto r = real().set_mempolicy(policy); !r) return r.error().code;
    const int e = allocate_file_pages(fd, offset, bytes);
    (void)real().set_mempolicy(*before);
    return e;
}
int populate(void* at, std::size_t bytes, bool for_writing) noexcept { return errno_of(::madvise(at, bytes, for_writing ? MADV_POPULATE_WRITE : MADV_POPULATE_READ)); }
result<void> map_foreign(int fd, std::uint64_t offset, std::size_t bytes, void* at, bool writable) {
    const auto failed = [&](int code, const std::string& why) { return fail(code, file_name(fd), "map " + std::to_string(bytes) + " bytes of it from " + std::to_string(offset), why); };
    struct stat s{};
    if (::fstat(fd, &s) != 0) return failed(errno, errno_text(errno));
    // What lies behind its end would be a SIGBUS.
    if (S_ISREG(s.st_mode) && (offset > static_cast<std::uint64_t>(s.st_size) || bytes > static_cast<std::uint64_t>(s.st_size) - offset)) return failed(EINVAL, "it has " + std::to_string(s.st_size));
    if (::mmap(at, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(offset)) == MAP_FAILED) {
        const int code = errno;
        return failed(code, code == EACCES ? "it is not open for that" : code == ENODEV ? "it is no file that can be mapped" : errno_text(code));
    }
    (void)::madvise(at, bytes, MADV_DONTFORK);
    (void)::madvise(at, bytes, MADV_DONTDUMP);
    return {};
}
int punch_hole(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
    return fallocate_all(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
}
int collapse_to_huge_pages(void* at, std::size_t bytes) noexcept { return errno_of(::madvise(at, bytes, MADV_COLLAPSE)); }
int forbid_access(void* at, std::size_t bytes) noexcept { return errno_of(::mprotect(at, bytes, PROT_NONE)); }
int allow_reading(void* at, std::size_t bytes) noexcept { return errno_of(::mprotect(at, bytes, PROT_READ)); }
int allow_access(void* at, std::size_t bytes) noexcept { return errno_of(::mprotect(at, bytes, PROT_READ | PROT_WRITE)); }

std::uint64_t allocated_bytes(int fd) noexcept {
    struct stat s{};
    return ::fstat(fd, &s) == 0 ? static_cast<std::uint64_t>(s.st_blocks) * 512 : 0;
}

}  // namespace cohort::sys
