// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/instance.hpp>

#include <limits>

#include <cohort/base/check.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::padata {

namespace {
constexpr int first_to_hear = std::numeric_limits<int>::max();  // a listener that stops the call must not keep it from us
}

result<void> instance::impl::start(instance_options options) {
    options_ = std::move(options);
    if (options_.report_sleepers) flags_ = reports_sleepers;
    name_ = options_.name;
    shells = std::make_unique<detail::streams>(name_);
    auto mine = machine::usable(sys::real());
    if (!mine) return std::unexpected(mine.error());
    if (auto r = start_following(); !r) return r;

    published first;
    first.allowed = options_.usable ? *options_.usable : source_ && source_ != live_.get() ? source_->now().cpus : mine->cpus;
    if (first.allowed.empty()) return fail(EINVAL, object(), "start", "this process may use no CPU");
    possible_ = (options_.usable ? *options_.usable : source_ ? source_->now().possible : mine->possible).last() + 1;
    const cpumask every = cpumask::range(0, possible_ - 1);
    first.masks.user_parallel = options_.parallel.value_or(every);
    first.masks.user_serial = options_.serial.value_or(every);
    for (mask_kind kind : {mask_kind::parallel, mask_kind::serial}) {
        const cpumask& mask = kind == mask_kind::parallel ? first.masks.user_parallel : first.masks.user_serial;
        if (auto r = check(kind, mask); !r) return r;
        if (!mask.intersects(first.allowed)) {
            return fail(EINVAL, object(), "start", std::string("no CPU of the ") + (kind == mask_kind::parallel ? "parallel" : "serial") + " mask " + mask.list() +
                                                       " is usable; this process may use " + first.allowed.list());
        }
    }
    first.masks.usable_parallel = first.masks.user_parallel & first.allowed;
    first.masks.usable_serial = first.masks.user_serial & first.allowed;
    {
        lock_guard hold(masks_lock_);
        now_ = first;
    }
    parallel_.store(first.masks.usable_parallel);
    serial_.store(first.masks.usable_serial);
    if (auto r = start_workers(*mine); !r) return r;
    if (source_ && options_.follow) {
        on_change_ = std::make_unique<notifier::block>([this](unsigned long, void*) {
            refresh();
            return notifier::ok;
        }, first_to_hear);
        if (auto r = source_->chain().add(*on_change_); !r) {
            on_change_.reset();
            return std::unexpected(r.error());
        }
        refresh();  // what changed since we looked
    }
    if (options_.watchdog.count() > 0) {
        auto every_ns = static_cast<std::uint64_t>(options_.watchdog.count()) / 4;
        auto made = work::duty::start({.every_ns = every_ns, .run = [this] { look_for_stuck_heads(); }});
        if (!made) return std::unexpected(made.error());
        watchdog_ = std::move(*made);
    }
    return {};
}

result<void> instance::impl::start_workers(const machine::usable_cpus& mine) {
    const published first = now();
    work::worker_set_options set;
    set.name = name_;
    set.general = first.masks.usable_parallel;
    set.bound = options_.serial ? first.masks.usable_serial : cpumask{};
    set.possible_cpus = possible_;
    const machine::usable_cpus quota = source_ && source_ != live_.get() ? source_->now() : mine;
    set.max_workers = workers_by(quota, quota.cpus);
    set.own_threads = options_.own_threads;
    // Not to the CPUs of a machine that is not there.
    set.pin = options_.usable ? options_.usable->subset_of(mine.cpus) : !options_.machine || options_.machine->now().possible.subset_of(mine.cpus);
    set.around = options_.gate;
    {
        lock_guard one(changing_);
        serial_bound_ = options_.serial.has_value();
        most_workers_ = set.max_workers;
    }
    auto made = work::worker_set::create(std::move(set));
    if (!made) return std::unexpected(made.error());
    workers_ = std::move(*made);
    return {};
}

instance::impl::~impl() {
    watchdog_.reset();
    if (on_change_) COHORT_CHECK(source_->chain().remove(*on_change_).has_value(), "an instance is destroyed from a callback about its masks");
}

instance::impl::published instance::impl::now() const {
    lock_guard hold(masks_lock_);
    return now_;
}

/// `count` CPUs of the parallel mask, from one memory node after another.
cpumask instance::impl::spread_over_nodes(int count) {
    cpumask left = workers_->general_cpus();
    lock_guard hold(masks_lock_);
    if (nodes_.empty()) {
        if (auto m = machine::load("live", sys::real())) {
            for (const auto& node : m->nodes) nodes_.push_back(node.cpus);
        }
        if (nodes_.empty()) nodes_.push_back(now_.allowed);
    }
    cpumask out;
    for (std::size_t idle = 0; count > 0 && idle < nodes_.size(); next_node_ = (next_node_ + 1) % nodes_.size()) {
        int cpu = (left & nodes_[next_node_ % nodes_.size()]).first();
        idle = cpu < 0 ? idle + 1 : 0;
        if (cpu < 0) continue;
        out.set(cpu);
        left.clear(cpu);
        --count;
    }
    return out;
}

instance::instance(std::unique_ptr<impl> body) : impl_(std::move(body)) {}

instance::~instance() { COHORT_CHECK(impl_->shells->empty(), "an instance is destroyed while it has shells"); }

result<std::unique_ptr<instance>> instance::create(instance_options options) {
    auto body = std::make_unique<impl>();
    if (auto r = body->start(std::move(options)); !r) return std::unexpected(r.error());
    return std::unique_ptr<instance>(new instance(std::move(body)));
}

result<void> instance::set_cpumask(mask_kind kind, const cpumask& mask) { return impl_->set_cpumask(kind, mask); }
cpumask instance::user_mask(mask_kind kind) const {
    const mask_change m = impl_->now().masks;
    return kind == mask_kind::parallel ? m.user_parallel : m.user_serial;
}
cpumask instance::usable_mask(mask_kind kind) const {
    const mask_change m = impl_->now().masks;
    return kind == mask_kind::parallel ? m.usable_parallel : m.usable_serial;
}
bool instance::stopped() const { return (impl_->flags() & impl::is_stopped) != 0; }
std::string instance::why_stopped() const { return impl_->why_stopped(); }
std::string instance::follow_error() const { return impl_->now().follow_error; }
notifier::blocking_chain& instance::changes() { return impl_->changes; }
std::vector<head_state> instance::heads() const { return impl_->shells->heads(); }
bool instance::poll() { return impl_->poll(); }
const std::string& instance::name() const { return impl_->name(); }
work::worker_set& instance::workers() { return impl_->workers(); }

}  // namespace cohort::padata
