// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/usable_events.hpp>

#include <array>
#include <cmath>
#include <cstdio>

#include <cohort/base/check.hpp>

namespace cohort::machine {

usable_cpus usable_events::now() const {
    const lock_guard hold(lock_);
    return now_;
}

template <class Next>
result<bool> usable_events::update(Next next) {
    if (chain_.in_callback()) return fail(EDEADLK, "machine", "change what this process may use", "from a callback about such a change");
    const lock_guard one(one_at_a_time_);
    result<usable_cpus> fresh = next();
    if (!fresh) return std::unexpected(fresh.error());
    {
        const lock_guard hold(lock_);
        if (now_ == *fresh) return false;
        now_ = *fresh;
    }
    chain_.call(usable_changed, &*fresh);
    return true;
}

// ---- synthetic

synthetic_usable::synthetic_usable(events& cpus, const cpumask& possible)
    : usable_events(combine({possible, cpus.online(), possible, possible})),
      source_(cpus),
      parts_{possible, cpus.online(), possible, possible},
      on_change_([this](unsigned long event, void* data) {
          if (event != cpus_changed) return notifier::done;
          const auto& what = *static_cast<change*>(data);
          (void)edit([&](parts& p) { p.online = what.online; });  // EDEADLK: from a callback of ours; now() then lags until the next change
          return notifier::ok;
      }, std::numeric_limits<int>::max()) {  // a listener that stops the call must not keep it from us
    COHORT_CHECK(cpus.chain().add(on_change_).has_value(), "a synthetic machine is made from a callback about it");
    (void)edit([&](parts& p) { p.online = source_.online(); });  // what changed in between
}

synthetic_usable::~synthetic_usable() { COHORT_CHECK(source_.chain().remove(on_change_).has_value(), "a synthetic machine is destroyed from a callback about it"); }

usable_cpus synthetic_usable::combine(const parts& p) {
    usable_cpus out;
    out.possible = p.possible;
    out.online = p.online & p.possible;
    out.cpuset = p.cpuset & out.online;
    if (out.cpuset.empty()) out.cpuset = out.online;
    out.affinity = p.affinity & out.cpuset;
    if (out.affinity.empty()) out.affinity = out.cpuset;
    out.cpus = out.affinity;
    out.cpu_quota = p.quota;
    const double rounded = std::ceil(p.quota);
    out.max_workers = rounded >= out.cpus.weight() ? out.cpus.weight() : std::max(1, static_cast<int>(rounded));
    const std::string from = "synthetic";
    char quota[32] = "no limit";
    if (!std::isinf(p.quota)) std::snprintf(quota, sizeof quota, "%.4g CPUs", p.quota);
    out.parts = {{"possible", true, p.possible.list(), from}, {"online", true, out.online.list(), from}, {"affinity", true, p.affinity.list(), from},
                 {"cpuset", true, p.cpuset.list(), from}, {"quota", !std::isinf(p.quota), quota, from}};
    return out;
}

template <class Edit>
result<bool> synthetic_usable::edit(Edit how) {
    return update([&]() -> result<usable_cpus> {
        how(parts_);
        return combine(parts_);
    });
}

result<bool> synthetic_usable::set_affinity(const cpumask& mask) {
    return edit([&](parts& p) { p.affinity = mask; });
}
result<bool> synthetic_usable::set_cpuset(const cpumask& mask) {
    return edit([&](parts& p) { p.cpuset = mask; });
}
result<bool> synthetic_usable::set_quota(double cpus) {
    if (!(cpus > 0)) return fail(EINVAL, "machine", "set a CPU quota of " + std::to_string(cpus), "it must be above 0");
    return edit([&](parts& p) { p.quota = cpus; });
}

// ---- live

result<std::unique_ptr<live_usable>> live_usable::create(sys::os& os, int uevents) {
    sys::owned_fd watch(os, uevents);
    auto first = machine::usable(os);
    if (!first) return std::unexpected(first.error());
    return std::unique_ptr<live_usable>(new live_usable(os, std::move(*first), watch.release()));
}

result<bool> live_usable::check() {
    return update([&]() -> result<usable_cpus> {
        // What happened does not matter, only that something did: everything is asked again. Emptied first, so that nothing that comes later is missed.
        std::array<std::byte, 4096> text;
        while (uevents_) {
            auto got = os_.read(uevents_.get(), text);
            if (got && *got > 0) continue;
            if (got || (got.error().code != EAGAIN && got.error().code != ENOBUFS)) (void)uevents_.close();  // it has ended: asking remains
            if (got || got.error().code != ENOBUFS) break;  // ENOBUFS: some were lost, others wait
        }
        return machine::usable(os_);
    });
}

}  // namespace cohort::machine
