// SPDX-License-Identifier: Apache-2.0
/// A broker's records in a file, so that the next broker knows its groups.
///
///     auto j = journal::open(os, "/run/cohort/pool.journal");          // reads what is there; nothing: no records
///     for (const record& r : j->take_records()) d.apply(r);
///     j->rewrite(d);                                                   // always first: as short as it can be, and open for more
///     ... j->append(r) for each record; j->tend(d) now and then ...
///
///     file:   magic, version, boot, checksum | length, sequence number, checksum of these and of what follows, record | ...
///
/// A record is one write(2): when the broker is killed, by whatever, everything written is there, and at most the last record is cut short, which is left out when it is read. Nothing is synced: after a crash of
/// the machine the groups' memory is gone, and its processes. A journal of an earlier boot therefore tells only of the groups that create() made; and what is damaged in it ends it.
/// Kernel: none, the kernel's share pool ends with it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/directory.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sharepool {

/// Synchronization: none, a user's own.
class journal {
public:
    /// Reads. Errors: EINVAL, it is no journal, of another version, or damaged before its last record (the place is named); those of open and read; EFBIG, over 1 GiB. The file is as it was.
    static result<journal> open(sys::os& system, std::string path);

    std::vector<record> take_records() { return std::exchange(records_, {}); }
    /// Bytes of a last record that was cut short.
    std::uint64_t cut() const { return cut_; }
    bool of_earlier_boot() const { return earlier_boot_; }

    /// One record more. When it cannot be written it answers the error once (ENOSPC ...) and the journal is behind: nothing more is written, so that what is in the file holds together, until tend() or rewrite() has
    /// written everything anew. Whoever starts from a journal that is behind has the groups of the moment before. Cost: a write(2).
    result<void> append(const record& r);
    /// Writes all of d anew, beside the file, and puts it in its place. Errors: those of open, write and rename; the file is as it was, and the journal as far behind.
    result<void> rewrite(const directory& d);
    /// Rewrites it if it has grown to four times what it was (and 256 KiB), or is behind; that at most once in a second, then two, four ... 64. Errors: those of rewrite, of what was tried.
    result<void> tend(const directory& d);

    bool behind() const { return behind_; }
    std::uint64_t bytes() const { return bytes_; }
    /// Records that could not be written since it is behind.
    std::uint64_t missed() const { return missed_; }

private:
    journal(sys::os& system, std::string path, std::string boot) : os_(&system), path_(std::move(path)), boot_(std::move(boot)) {}

    sys::os* os_;
    std::string path_, boot_;
    sys::owned_fd file_;
    std::vector<record> records_;
    std::uint64_t cut_ = 0, bytes_ = 0, grown_ = 0, sequence_ = 0, missed_ = 0;
    std::uint64_t next_try_ns_ = 0, pause_ns_ = 0;
    bool earlier_boot_ = false, behind_ = true;
};

}  // namespace cohort::sharepool
