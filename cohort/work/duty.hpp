// SPDX-License-Identifier: Apache-2.0
/// Something that is looked after from time to time, by the one background thread of the process.
///
///     auto d = work::duty::start({.every_ns = 250'000'000, .run = [&] { look(); }}).value();
///     d->hurry();                                             // soon, not at the next quarter of a second
///     d.reset();                                              // look() does not run any more
///
/// The thread is there while there are duties. It is bound to no CPU, so that what happens to its affinity is what happens to the process's threads.
/// Kernel: a periodic delayed work on system_unbound_wq.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <cohort/base/error.hpp>

namespace cohort::work {

struct duty_options {
    std::uint64_t every_ns = 1'000'000'000;  ///< from the end of one run to the next; 1,000 or more
    /// A descriptor that calls for a run when it is readable, asked anew before each wait; -1: none. The run must read what is there.
    std::function<int()> fd = {};
    std::function<void()> run = {};          ///< one at a time, also among duties: it should be short. An exception out of it ends the program.
};

/// A resource, held by unique_ptr. Synchronization: any thread may call anything.
class duty {
public:
    /// The first run comes at once. Errors: EAGAIN, the thread could not be started; EMFILE.
    static result<std::unique_ptr<duty>> start(duty_options options);
    /// After it the function does not run. Not from its own function (COHORT_CHECK); from that of another one, yes.
    ~duty();
    duty(const duty&) = delete;
    duty& operator=(const duty&) = delete;

    void hurry();
    /// Waits until a run that began after this call has ended. Not from the function of any duty.
    void run_now();

private:
    class caretaker;
    duty(std::shared_ptr<caretaker> by, duty_options options) : by_(std::move(by)), options_(std::move(options)) {}

    const std::shared_ptr<caretaker> by_;   // [const after init]
    const duty_options options_;            // [const after init]
    // All below: [guarded: the caretaker's lock]
    std::uint64_t due_ = 0;                 // 0: at once
    std::uint64_t began_ = 0, ended_ = 0;   // runs
    bool leaving_ = false;
};

}  // namespace cohort::work
