// SPDX-License-Identifier: Apache-2.0
/// A group: memory at a fixed range of addresses, and the metadata of its allocator, each a file that is handed from process to process.
///
///     auto g = sharepool::group::create({.name = "flow", .bytes = 1 << 30});              // one process
///     auto m = sharepool::member::join(g->data_fd(), g->metadata_fd());                   // each process, with descriptors it was given (SCM_RIGHTS, or across fork and exec)
///
/// The files are sparse and sealed: nobody can cut them short. A group lives as long as a descriptor or a mapping of it does. Members trust one another, as threads do.
/// Kernel's counterpart: struct sp_group of openEuler's mm/share_pool.c.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <cohort/base/error.hpp>

namespace cohort::sharepool {

enum class page_kind : std::uint8_t { small, huge_if_possible, huge_only };

struct group_options {
    std::string name = "pool";          ///< shown in /proc/PID/maps as /memfd:name
    std::uint64_t bytes = 1ull << 30;   ///< fixed for the group's life; 2 MiB to 128 GiB, rounded up to 2 MiB. Addresses, not memory
    std::uint64_t at = 0;               ///< address, a multiple of 2 MiB inside the window; 0: beside the groups that this process has made or joined
    enum class magazines : std::uint8_t {
        best,             ///< restartable sequences if this process has them
        sequences,        ///< ENOTSUP without
        compare_and_swap, ///< members without restartable sequences can join
    } mode = magazines::best;
    /// huge_*: the group's memory comes in pages of 2 MiB, from a tmpfs that is mounted nowhere: an area of 2 MiB costs a thirtieth, a first touch a tenth. The system makes them for who has CAP_SYS_ADMIN,
    /// and does not seal them: a member can cut the memory of all short. A small group takes 2 MiB at once.
    page_kind pages = page_kind::small;
    /// Of `bytes`, each rounded up to 2 MiB, at their end: addresses for areas that only who allocated them can write (SP_PROT_RO), and for areas of devices 0 .. devices - 1 (DVPP). Nothing else is put there.
    /// The first guards against accidents: members that can write are trusted. Who must not be able to is a view.
    std::uint64_t read_only_bytes = 0;
    std::uint64_t device_bytes = 0;     ///< for each
    unsigned devices = 0;               ///< at most 8
    std::uint64_t limit = 0;            ///< bytes of areas and superblocks that its members may have at once; 0: no limit. member::set_limit() changes it
    /// For finding uses after free, which one window for all otherwise hides: every object has pages of its own, 64 KiB of addresses at least, which nobody may touch once it is freed, in the process
    /// that freed it at once, in others from their next call on; and they are never used again, so a group of 128 GiB serves 2 million allocations.
    bool unmap_freed = false;
};

/// The files alone, for who hands out addresses himself (a broker): nothing of this process's window is taken. The descriptors are the caller's.
struct group_files {
    int data = -1, metadata = -1;
    std::string why_not_huge;           ///< see group
};
/// o.at: where the members have it. Errors: as group::create, but those of this process's window.
result<group_files> make_group_files(const group_options& o);

class group {
public:
    /// Errors: EINVAL, bytes or at; EADDRINUSE, the range is that of another group of this process; ENOMEM, the window is too small or has no room, or the machine has no memory;
    /// EFBIG, RLIMIT_FSIZE; ENOTSUP, no restartable sequences; with huge_only what fsopen(2) said; those of memfd_create. Cost: about 50 us.
    static result<group> create(const group_options& options);

    group(group&& o) noexcept : data_(std::exchange(o.data_, -1)), metadata_(std::exchange(o.metadata_, -1)), base_(o.base_), bytes_(o.bytes_), why_not_huge_(std::move(o.why_not_huge_)) {}
    group& operator=(group&& o) noexcept {
        std::swap(data_, o.data_), std::swap(metadata_, o.metadata_), std::swap(base_, o.base_), std::swap(bytes_, o.bytes_), why_not_huge_.swap(o.why_not_huge_);
        return *this;
    }
    ~group();

    int data_fd() const { return data_; }
    int metadata_fd() const { return metadata_; }
    std::uint64_t base() const { return base_; }
    std::uint64_t bytes() const { return bytes_; }
    /// Why its memory is not of huge pages, though they were wished for; "": it is, or they were not.
    const std::string& why_not_huge() const { return why_not_huge_; }

private:
    group(int data, int metadata, std::uint64_t base, std::uint64_t bytes) : data_(data), metadata_(metadata), base_(base), bytes_(bytes) {}
    int data_, metadata_;
    std::uint64_t base_, bytes_;
    std::string why_not_huge_;
};

}  // namespace cohort::sharepool
