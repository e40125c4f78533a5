// SPDX-License-Identifier: Apache-2.0
/// SIGINT, SIGTERM and their like as something a loop can ask about, so that a program cleans up before it ends.
///
///     auto caught = sys::signal_catcher::create();             // SIGINT, SIGTERM, SIGHUP; SIGPIPE is ignored
///     pump(input, output, caught->token());                    // stops at the next block
///     if (caught->signal()) return caught->exit_code();        // 128 + number, as shells do
///
/// Kernel: sigaction(2).
#pragma once

#include <initializer_list>
#include <memory>
#include <stop_token>

#include <cohort/base/error.hpp>

namespace cohort::sys {

/// A resource: handlers stand while it lives; then what was before comes back. One at a time in a program. The first signal only asks; a second one
/// of the same kind ends the program as if there were no catcher, so that a user is never stuck. While it lives SIGPIPE is ignored: a write to a closed
/// pipe answers EPIPE. A signal that was ignored when the program started (nohup) stays ignored.
/// Synchronization: any thread may call anything. It owns one thread that sleeps until a signal comes: request_stop() takes locks and runs
/// callbacks, neither of which a signal handler may do.
class signal_catcher {
public:
    /// Errors: EBUSY, there is one already; EMFILE, ENFILE.
    static result<signal_catcher> create(std::initializer_list<int> signals);
    static result<signal_catcher> create();
    signal_catcher(signal_catcher&&) noexcept;
    signal_catcher& operator=(signal_catcher&&) = delete;
    ~signal_catcher();

    /// Stop is requested once a signal came.
    std::stop_token token() const;
    /// Polls readable once a signal came; not to be read.
    int fd() const;
    /// The first signal that came; 0 when none did.
    int signal() const;
    /// 128 + signal().
    int exit_code() const { return 128 + signal(); }

private:
    class body;
    explicit signal_catcher(std::unique_ptr<body> b);
    std::unique_ptr<body> body_;
};

}  // namespace cohort::sys
