// SPDX-License-Identifier: Apache-2.0
/// One block through one process: both of its ends are served at once, so that it may read and write in any order, or not at all.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <cohort/stream/block.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::stream::detail {

struct child_end {
    sys::exit_status status;
    bool read_all = false;  ///< the command took every byte of its input
};

/// A resource: a child that still runs when this is destroyed is killed and reaped. One thread.
class child {
public:
    /// Starts the command with pipes of its own. Errors: those of pipe and spawn (object: the command).
    static result<child> start(sys::os& system, const sys::spawn_request& command, std::size_t pipe_bytes);
    child(child&& c) noexcept;
    child& operator=(child&&) = delete;
    ~child();

    /// Feeds `input` and reads output into out.tail() until the output ends (true) or `out` is full (false; call again with room).
    /// Errors: ECANCELED once stop_fd is readable; those of poll, read and write.
    result<bool> pump(byte_view& input, buffer& out, int stop_fd);
    /// After the output has ended: feeds what is left, waits for the end and reaps. Errors: as pump.
    result<child_end> finish(byte_view& input, int stop_fd);

private:
    explicit child(sys::os& system) : os_(&system) {}
    result<void> feed(byte_view& input);
    result<void> await(int want_read, int want_write, int stop_fd);

    sys::os* os_;
    int pid_ = 0;
    sys::owned_fd to_, from_;
    sys::owned_fd probe_;  // the read end of its input: tells, when it is dead, whether it left something
    bool left_some_ = false;
};

}  // namespace cohort::stream::detail
