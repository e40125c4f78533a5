// SPDX-License-Identifier: Apache-2.0
/// Where a control directory stands, and whose it is. Who has it holds it (sys::try_hold); the hold ends with the process, so that what it left can be told.
#pragma once

#include <string>

#include <cohort/base/error.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::padata::detail {

/// A directory that is ours. A resource; leave() removes it.
class control_place {
public:
    /// BASE/id, BASE being where all of this user's are; those of processes that died are removed. Errors: EBUSY, it is held; EPERM, the place is another user's.
    static result<control_place> own(sys::os& os, const std::string& id);
    /// One that the user names. Errors: EBUSY, it is held; ENOTEMPTY, it has other files; EEXIST, it is no directory.
    static result<control_place> given(sys::os& os, const std::string& path);

    const std::string& path() const { return path_; }
    /// Removes our files, and the directory where it was made (or left behind) by us and holds nothing else.
    void leave();

private:
    control_place(sys::os& os, std::string path, sys::owned_fd held, bool made) : os_(&os), path_(std::move(path)), held_(std::move(held)), made_(made) {}
    static result<control_place> hold(sys::os& os, const std::string& path, bool made);

    sys::os* os_;
    std::string path_;
    sys::owned_fd held_;
    bool made_;
};

/// $COHORT_RUN_DIR/padata, $XDG_RUNTIME_DIR/cohort/padata or /tmp/cohort-UID/padata; made where it is not there. Errors: EPERM, others could write in it.
result<std::string> control_base(sys::os& os);

/// Removes what processes that died left in `base`. Returns how many there were.
int remove_stale(sys::os& os, const std::string& base);

}  // namespace cohort::padata::detail
