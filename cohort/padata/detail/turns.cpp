// SPDX-License-Identifier: Apache-2.0
/// Turns that are no CPU's: an executor's, and those of whoever polls.
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/padata/detail/shell_core.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::padata::detail {

namespace {
thread_local const turn* posting = nullptr;  // inside post() of it
}

void shell_core::post_turn() {
    posted_.store(true, std::memory_order_relaxed);  // whoever is told of the turn sees it
    if (polled()) {
        inst_.turns.push(*this, [this] {
            // seq_cst: pairs with wait_for_head(), which registers in wake_at_ and then looks into the list.
            if (wake_at_.load(std::memory_order_seq_cst) == none) return;
            room_.fetch_add(1, std::memory_order_seq_cst);
            sys::futex_wake(room_, std::numeric_limits<int>::max());
        });
        return;
    }
    const turn* outer = std::exchange(posting, this);
    options_.serial->post(*this);  // the shell may be gone
    posting = outer;
}

bool shell_core::poll() {
    if (polled() && inst_.turns.take(*this)) {
        run_turn();
        return true;
    }
    work::context ctx{&inst_.workers(), nullptr, sys::current_cpu()};
    return run(ctx);
}

void shell_core::run_turn() {
    COHORT_CHECK(posting != this, "an executor runs a turn inside post()");
    COHORT_CHECK(posted_.exchange(false, std::memory_order_relaxed), "a turn is run that was not posted, or for the second time");
    work::context ctx{&inst_.workers(), nullptr, sys::current_cpu()};
    drain_from(ctx, turn_, place::of_executor);
}

}  // namespace cohort::padata::detail

namespace cohort::padata {

bool instance::impl::poll() {
    if (detail::turn_link* t = turns.take_first()) {
        static_cast<detail::shell_core*>(t)->run_polled();
        return true;
    }
    return workers_->poll();
}

}  // namespace cohort::padata
