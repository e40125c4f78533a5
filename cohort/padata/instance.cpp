// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/instance.hpp>

#include <cohort/base/check.hpp>
#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/machine/usable.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::padata {

namespace {
const char* kind_name(mask_kind kind) { return kind == mask_kind::parallel ? "parallel" : "serial"; }
}  // namespace

result<void> instance::impl::check(mask_kind kind, const cpumask& mask) const {
    std::string act = std::string("set ") + kind_name(kind) + " mask \"" + mask.list() + "\"";
    if (mask.empty()) return fail(EINVAL, object(), act, "the mask is empty");
    if (mask.last() >= possible_) {
        return fail(EINVAL, object(), act, "cpu " + std::to_string(mask.last()) + " is beyond the machine, which has 0-" + std::to_string(possible_ - 1));
    }
    if (!mask.intersects(allowed_)) {
        return fail(EINVAL, object(), act, "none of these CPUs is usable; this process may use " + allowed_.list());
    }
    return {};
}

result<void> instance::impl::start(instance_options options) {
    name_ = options.name;
    auto mine = machine::usable(sys::real());
    if (!mine) return std::unexpected(mine.error());
    allowed_ = options.usable.value_or(mine->cpus);
    if (allowed_.empty()) return fail(EINVAL, object(), "start", "this process may use no CPU");
    possible_ = (options.usable ? allowed_ : mine->possible).last() + 1;
    cpumask every = cpumask::range(0, possible_ - 1);
    user_parallel_ = options.parallel.value_or(every);
    user_serial_ = options.serial.value_or(every);
    if (auto r = check(mask_kind::parallel, user_parallel_); !r) return r;
    if (auto r = check(mask_kind::serial, user_serial_); !r) return r;
    parallel_.store(user_parallel_ & allowed_);
    serial_.store(user_serial_ & allowed_);

    work::worker_set_options set;
    set.name = name_;
    set.general = user_parallel_ & allowed_;
    set.bound = options.serial ? user_serial_ & allowed_ : cpumask{};
    set.possible_cpus = possible_;
    set.max_workers = options.max_workers;
    if (set.max_workers == 0 && mine->max_workers < mine->cpus.weight()) set.max_workers = mine->max_workers;  // cpu.max
    set.own_threads = options.own_threads;
    set.pin = allowed_.subset_of(mine->cpus);
    set.around = options.gate;
    auto made = work::worker_set::create(std::move(set));
    if (!made) return std::unexpected(made.error());
    workers_ = std::move(*made);
    return {};
}

result<void> instance::impl::set_cpumask(mask_kind kind, const cpumask& mask) {
    std::lock_guard hold(masks_lock_);
    if (auto r = check(kind, mask); !r) return r;
    cpumask parallel = (kind == mask_kind::parallel ? mask : user_parallel_) & allowed_;
    cpumask serial = (kind == mask_kind::serial ? mask : user_serial_) & allowed_;
    // Threads first: when one cannot be had, the old masks stand.
    if (auto r = workers_->set_cpus(parallel, serial); !r) return r;
    (kind == mask_kind::parallel ? user_parallel_ : user_serial_) = mask;
    parallel_.store(parallel);
    serial_.store(serial);
    return {};
}

cpumask instance::impl::user_mask(mask_kind kind) const {
    std::lock_guard hold(masks_lock_);
    return kind == mask_kind::parallel ? user_parallel_ : user_serial_;
}

/// `count` CPUs of the parallel mask, from one memory node after another.
cpumask instance::impl::spread_over_nodes(int count) {
    cpumask left = workers_->general_cpus();
    std::lock_guard hold(masks_lock_);
    if (nodes_.empty()) {
        if (auto m = machine::load("live", sys::real())) {
            for (const auto& node : m->nodes) nodes_.push_back(node.cpus);
        }
        if (nodes_.empty()) nodes_.push_back(allowed_);
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

instance::~instance() { COHORT_CHECK(impl_->shells.load() == 0, "an instance is destroyed while it has shells"); }

result<std::unique_ptr<instance>> instance::create(instance_options options) {
    auto body = std::make_unique<impl>();
    if (auto r = body->start(std::move(options)); !r) return std::unexpected(r.error());
    return std::unique_ptr<instance>(new instance(std::move(body)));
}

result<void> instance::set_cpumask(mask_kind kind, const cpumask& mask) { return impl_->set_cpumask(kind, mask); }
cpumask instance::user_mask(mask_kind kind) const { return impl_->user_mask(kind); }
cpumask instance::usable_mask(mask_kind kind) const { return impl_->usable(kind).load(); }
bool instance::poll() { return impl_->workers().poll(); }
const std::string& instance::name() const { return impl_->name(); }
work::worker_set& instance::workers() { return impl_->workers(); }

}  // namespace cohort::padata
