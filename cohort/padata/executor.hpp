// SPDX-License-Identifier: Apache-2.0
/// Where serial() runs when it is no CPU: a loop, a strand or a GUI thread of the user's, or whoever polls.
///
///     padata::executor_of loop([&](padata::turn& t) { asio::post(strand, [&t] { t.run(); }); });
///     auto stream = padata::shell::create(*inst, {.serial = &loop}).value();               // serial() runs on the strand
///     auto mine = padata::shell::create(*inst, {.serial = padata::by_polling()}).value();  // serial() runs in mine.poll() or inst->poll()
///
/// Kernel: cb_cpu of padata_do_parallel, which knows CPUs only.
#pragma once

#include <concepts>
#include <utility>

namespace cohort::padata {

/// Some completions of one stream that are due. A stream has one turn; it is posted again when more are due, never while it is posted.
/// Synchronization: run() once for each post, by any thread; what one run() did happens before the next.
class turn {
public:
    /// Runs serial() of the jobs that are due, in order, at most 64; then posts itself again if more are. Not inside post(): COHORT_CHECK.
    void run() { run_turn(); }

protected:
    turn() = default;
    ~turn() = default;

private:
    virtual void run_turn() = 0;
};

/// Implemented by the user; outlives the shells that are given it. A turn that it loses holds its stream up, and with it drain().
class executor {
public:
    /// Sees to it that t.run() is called soon, by any thread, but not in here. `t` stays valid until then. Called by any thread, with no lock held. Never throws.
    virtual void post(turn& t) = 0;

protected:
    ~executor() = default;
};

/// An executor of a callable.
template <std::invocable<turn&> Post>
class executor_of final : public executor {
public:
    explicit executor_of(Post post) : post_(std::move(post)) {}
    void post(turn& t) override { post_(t); }

private:
    Post post_;
};

/// serial() runs only inside shell::poll() and instance::poll() of that shell's instance, and in drain(), which has to. do_parallel never runs it: with a
/// full window it waits for the poller, so a thread that both submits and polls asks for full_policy::eagain.
executor* by_polling();

}  // namespace cohort::padata
