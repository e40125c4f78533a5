// SPDX-License-Identifier: Apache-2.0
/// An instance follows the machine, and its watchdog looks for stuck heads.
#include <exception>

#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/thread.hpp>
#include <cohort/work/follow.hpp>

namespace cohort::padata {

namespace {
void say_line(const std::string& text) {
    const std::string line = "cohort: " + text + "\n";
    sys::say(line.c_str(), static_cast<int>(line.size()));
}
}  // namespace

result<void> instance::impl::start_following() {
    if (options_.usable) return {};
    source_ = options_.machine;
    if (source_ || !options_.follow || !options_.own_threads) return {};
    auto live = work::follow_machine();
    if (!live) return std::unexpected(live.error());
    live_ = std::move(*live);
    source_ = live_.get();
    auto own = sys::thread_affinity();
    if (!own) return std::unexpected(own.error());
    own_affinity_ = *own;
    first_affinity_ = source_->now().affinity;
    return {};
}

/// On the running system the creating thread's affinity counts as long as nobody has changed that of all threads: the background thread, which nobody binds,
/// is the witness. CPUs that are offline are in no affinity.
cpumask instance::impl::allowed_by(const machine::usable_cpus& now) const {
    if (source_ != live_.get() || now.affinity != (first_affinity_ & now.online)) return now.cpus;
    const cpumask own = own_affinity_ & now.online & now.cpuset;
    return own.empty() ? now.cpus : own;
}

int instance::impl::workers_by(const machine::usable_cpus& now, const cpumask& allowed) const {
    if (options_.max_workers != 0 || now.max_workers >= now.cpus.weight() || now.max_workers >= allowed.weight()) return options_.max_workers;
    return now.max_workers;  // cpu.max
}

/// From the source's chain. A callback of ours that caused the change is inside of a change: that one looks again before it ends.
void instance::impl::refresh() {
    if (changes.in_callback()) return;
    lock_guard one(changing_);
    while (refresh_once()) {
    }
}

/// Whether anything had to change. What cannot be done (no thread for a new CPU) is told, and tried again at the next change.
bool instance::impl::refresh_once() {
    const machine::usable_cpus system = source_->now();
    const cpumask allowed = allowed_by(system);
    const int most = workers_by(system, allowed);
    const published old = now();
    if (allowed == old.allowed && most == most_workers_) return false;
    std::string failed;
    try {
        if (auto r = apply(old.masks.user_parallel, old.masks.user_serial, allowed, most); !r) failed = r.error().line();
    } catch (const std::exception& e) {
        failed = e.what();
    }
    if (!failed.empty()) say_line(object() + ": cannot follow to cpus " + allowed.list() + ": " + failed);
    // A CPU that went away has taken its worker's binding with it.
    if (failed.empty()) workers_->bind_again();
    lock_guard hold(masks_lock_);
    now_.follow_error = failed;
    return failed.empty();
}

void instance::impl::look_for_stuck_heads() const {
    for (const head_state& h : shells->heads(static_cast<std::uint64_t>(options_.watchdog.count()), true)) {
        say_line(object() + ": stuck: " + h.line());
        if (options_.on_stuck) options_.on_stuck(h);
    }
}

}  // namespace cohort::padata
