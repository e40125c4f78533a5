// SPDX-License-Identifier: Apache-2.0
/// What happens to the files of a directory, and who holds a directory.
///
///     auto watch = sys::dir_watch::create("/run/user/0/x");   // result<dir_watch>; its fd polls readable when there is news
///     auto news = watch->news();                               // result<std::vector<dir_event>>
///     for (const auto& e : *news) if (e.what == sys::dir_event::changed) look_at(e.name);
///     sys::try_hold(directory_fd);                             // EAGAIN: another process holds it
///
/// Kernel: inotify(7), flock(2).
#pragma once

#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sys {

struct dir_event {
    enum kind {
        writing,  ///< written to or cut short by somebody who still has it open
        changed,  ///< closed by a writer, or moved into the directory
        gone,     ///< removed or moved away
        made,     ///< a directory was made in it
        lost,     ///< events were lost: everything may have changed. No name.
        over,     ///< the directory itself is gone or moved. No name.
    };
    kind what = changed;
    std::string name;
};

/// A resource. Synchronization: one thread at a time.
class dir_watch {
public:
    /// Errors: ENOENT, ENOTDIR, EACCES; EMFILE, ENOSPC: the user has no watch left.
    static result<dir_watch> create(const std::string& directory);
    int fd() const { return fd_.get(); }
    /// What has happened since, in its order; nothing when there is none. Never waits.
    result<std::vector<dir_event>> news();

private:
    explicit dir_watch(owned_fd fd) : fd_(std::move(fd)) {}
    owned_fd fd_;
};

/// Holds an open file or directory until the descriptor (and its copies in forked children) is closed, so that others see that somebody lives. Errors: EAGAIN, somebody else does.
result<void> try_hold(int fd);

}  // namespace cohort::sys
