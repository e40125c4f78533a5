// SPDX-License-Identifier: Apache-2.0
/// User and usable masks, stop and start.
#include <new>

#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/say.hpp>

namespace cohort::padata {

namespace {

const char* kind_name(mask_kind kind) { return kind == mask_kind::parallel ? "parallel" : "serial"; }

std::string reason_of(const mask_change& m, const cpumask& allowed) {
    if (!m.stopped) return {};
    const bool parallel = m.usable_parallel.empty();
    return std::string("no CPU of the ") + kind_name(parallel ? mask_kind::parallel : mask_kind::serial) + " mask " + (parallel ? m.user_parallel : m.user_serial).list() +
           " is usable; this process may use " + allowed.list();
}

}  // namespace

/// What no change of the machine can heal.
result<void> instance::impl::check(mask_kind kind, const cpumask& mask) const {
    const std::string act = std::string("set ") + kind_name(kind) + " mask \"" + mask.list() + "\"";
    if (mask.empty()) return fail(EINVAL, object(), act, "the mask is empty");
    if (mask.last() >= possible_) {
        return fail(EINVAL, object(), act, "cpu " + std::to_string(mask.last()) + " is beyond the machine, which has 0-" + std::to_string(possible_ - 1));
    }
    return {};
}

result<void> instance::impl::set_cpumask(mask_kind kind, const cpumask& mask) {
    if (changes.in_callback()) return fail(EDEADLK, object(), std::string("set ") + kind_name(kind) + " mask", "from a callback about a change of masks");
    try {
        if (auto r = check(kind, mask); !r) return r;
        lock_guard one(changing_);
        const published old = now();
        const bool was_bound = serial_bound_;
        serial_bound_ = true;
        const cpumask& parallel = kind == mask_kind::parallel ? mask : old.masks.user_parallel;
        const cpumask& serial = kind == mask_kind::serial ? mask : old.masks.user_serial;
        auto done = apply(parallel, serial, old.allowed, most_workers_);
        if (!done) serial_bound_ = was_bound;
        while (on_change_ && refresh_once()) {  // a change that came while ours was made, perhaps by a callback of it
        }
        return done;
    } catch (const std::bad_alloc&) {
        return std::unexpected(error{ENOMEM, {}, {}, {}});  // nothing can be said without memory, save that
    }
}

void instance::impl::publish(const mask_change& next, const cpumask& allowed) {
    lock_guard hold(masks_lock_);
    now_.masks = next;
    now_.allowed = allowed;
}

/// One change of masks: first whatever may fail, then what nobody can stop. Where a usable mask is empty jobs in flight go on by the last one that was not.
result<void> instance::impl::apply(const cpumask& parallel, const cpumask& serial, const cpumask& allowed, int most_workers) {
    mask_change next{parallel, serial, parallel & allowed, serial & allowed, false};
    next.stopped = next.usable_parallel.empty() || next.usable_serial.empty();
    const cpumask run_parallel = next.usable_parallel.empty() ? parallel_.load() : next.usable_parallel;
    const cpumask run_serial = next.usable_serial.empty() ? serial_.load() : next.usable_serial;

    struct busy {
        explicit busy(std::atomic<unsigned>* bits) : bits_(bits) { if (bits_) bits_->fetch_or(is_changing); }
        ~busy() { if (bits_) bits_->fetch_and(~static_cast<unsigned>(is_changing)); }
        std::atomic<unsigned>* bits_;
    };
    {
        const busy until_done(options_.busy_while_changing ? &flags_ : nullptr);
        changes.call(masks_changing, &next);
        // Threads first: when one cannot be had, the old masks stand.
        if (auto r = workers_->set_cpus(run_parallel, serial_bound_ ? run_serial : cpumask{}, most_workers); !r) return r;
        most_workers_ = most_workers;
        if (next.stopped) flags_.fetch_or(is_stopped);
        publish(next, allowed);
        parallel_.store(run_parallel);
        serial_.store(run_serial);
        if (!next.stopped) flags_.fetch_and(~static_cast<unsigned>(is_stopped));
    }
    changes.call(masks_changed, &next);
    return {};
}

std::string instance::impl::why_stopped() const {
    const published p = now();
    return reason_of(p.masks, p.allowed);
}

std::unexpected<error> instance::impl::stopped_error() const {
    std::string why = why_stopped();
    return fail(EINVAL, object(), "do_parallel", why.empty() ? "the instance was stopped until just now" : "the instance is stopped: " + why);
}

std::unexpected<error> instance::impl::busy_error() const { return fail(EBUSY, object(), "do_parallel", "a mask change is under way"); }

void instance::impl::tell_slept(const std::string& shell, const char* callback, std::uint64_t seq, std::uint64_t times) const {
    const std::string line = "cohort: " + object() + ": shell \"" + shell + "\": " + callback + "() of job " + std::to_string(seq) + " slept (" + std::to_string(times) +
                             (times == 1 ? " time)\n" : " times)\n");
    sys::say(line.c_str(), static_cast<int>(line.size()));
}

}  // namespace cohort::padata
