// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/follow.hpp>

#include <cohort/sys/uevents.hpp>
#include <cohort/work/duty.hpp>

namespace cohort::work {
namespace {

constexpr std::uint64_t ask_every_ns = 250'000'000;

struct following {
    std::unique_ptr<machine::live_usable> live;
    std::unique_ptr<duty> asks;  // before `live` goes
};

}  // namespace

result<std::shared_ptr<machine::usable_events>> follow_machine() {
    static mutex one;
    static std::weak_ptr<following> living;
    const lock_guard hold(one);
    auto there = living.lock();
    if (!there) {
        auto uevents = sys::open_uevents();  // without them: by asking alone
        auto live = machine::live_usable::create(sys::real(), uevents.value_or(-1));
        if (!live) return std::unexpected(live.error());
        there = std::make_shared<following>();
        there->live = std::move(*live);
        machine::live_usable& source = *there->live;
        auto asks = duty::start({.every_ns = ask_every_ns,
                                 .fd = [&source] { return source.uevents(); },
                                 .run = [&source] { (void)source.check(); }});  // what cannot be read now is asked again
        if (!asks) return std::unexpected(asks.error());
        there->asks = std::move(*asks);
        there->asks->run_now();  // from here on the affinity is that of the background thread
        living = there;
    }
    machine::usable_events* events = there->live.get();
    return std::shared_ptr<machine::usable_events>(std::move(there), events);
}

}  // namespace cohort::work
