// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/executor.hpp>

#include <algorithm>

#include <cohort/base/check.hpp>
#include <cohort/base/histogram.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/coresched/detail/presence.hpp>

namespace cohort::coresched {

std::vector<cpumask> cores_of(const machine::topology& t) {
    std::vector<cpumask> out;
    for (const auto& c : t.cores) {
        cpumask m;
        for (const int cpu : c.cpus) m.set(cpu);
        out.push_back(std::move(m));
    }
    return out;
}

// ---- the gate

tenant::~tenant() {
    executor::impl& e = executor_.internals();
    lock_guard hold(e.lock_);
    e.cookies_.put(tag_.exchange(no_cookie, std::memory_order_relaxed));
    e.tenants_[static_cast<std::size_t>(id_ - 1)] = nullptr;
}

void tenant::enter(int cpu) { presence::here().enter(*this, cpu); }
void tenant::leave(int) { presence::here().leave(*this); }
void tenant::attach(int cpu) { presence::here().attach(*this, cpu); }
void tenant::rest(int) { presence::here().rest(*this); }
bool tenant::admits_inline(int cpu) { return presence::here().may_run(*this, cpu); }
void tenant::blocking(int, bool about_to) {
    if (about_to) presence::here().go_away();
    else presence::here().come_back();
}

void safepoint() { presence::here().safepoint(); }
blocking::blocking() { presence::here().go_away(); }
blocking::~blocking() { presence::here().come_back(); }

// ---- the executor

namespace {
std::atomic<std::uint64_t> last_number{0};
}

executor::impl::impl(executor_options o) : number_(last_number.fetch_add(1, std::memory_order_relaxed) + 1), options_(std::move(o)) {
    for (const cpumask& cpus : options_.cores) {
        if (cpus.weight() < 2) continue;
        auto& c = *cores_.emplace_back(std::make_unique<core>(cpus, detail::room_options{.slice_ns = options_.slice_ns, .hold = options_.hold, .spin_ns = options_.spin_ns}));
        c.room.with_books([this](detail::books& b, std::uint64_t) { b.detect(options_.detect); });
        int place = 0;
        for (const int cpu : cpus) {
            if (cpu >= static_cast<int>(seats_.size())) seats_.resize(static_cast<std::size_t>(cpu) + 1);
            seats_[static_cast<std::size_t>(cpu)] = {&c, place++};
        }
    }
}

executor::executor(std::unique_ptr<impl> body) : impl_(std::move(body)) {}

result<std::unique_ptr<executor>> executor::create(executor_options o) {
    if (o.cores.empty()) return fail(EINVAL, "executor", "create", "no core is given");
    cpumask seen;
    for (const cpumask& c : o.cores) {
        if (c.empty()) return fail(EINVAL, "executor", "create", "a core has no CPU");
        if (!(seen & c).empty()) return fail(EINVAL, "executor", "create", "cpu " + (seen & c).list() + " is in two cores");
        seen = seen | c;
    }
    return std::unique_ptr<executor>(new executor(std::make_unique<impl>(std::move(o))));
}

executor::~executor() {
    lock_guard hold(impl_->lock_);
    COHORT_CHECK(std::all_of(impl_->tenants_.begin(), impl_->tenants_.end(), [](const tenant* t) { return t == nullptr; }), "an executor is destroyed before its tenants");
}

const executor_options& executor::options() const { return impl_->options_; }

result<std::unique_ptr<tenant>> executor::add(tenant_options o) {
    lock_guard hold(impl_->lock_);
    const int id = static_cast<int>(impl_->tenants_.size()) + 1;
    auto t = std::unique_ptr<tenant>(new tenant(*this, id, std::move(o)));
    impl_->tenants_.push_back(t.get());
    for (const auto& c : impl_->cores_) {
        c->room.with_books([id](detail::books& b, std::uint64_t) { b.know_tenants(static_cast<std::size_t>(id)); });
    }
    return t;
}

// ---- the verbs

/// What a verb is about. Errors: as the verbs'.
result<std::vector<tenant*>> executor::impl::whom(const executor& e, const char* act, int id, scope reach) {
    const auto object = [id] { return "tenant " + std::to_string(id); };
    if (cores_.empty()) return fail(ENODEV, object(), act, "no core has two CPUs");
    tenant* one = id == 0 ? presence::here().runs_for(e) : nullptr;
    if (id > 0 && id <= static_cast<int>(tenants_.size())) one = tenants_[static_cast<std::size_t>(id - 1)];
    if (!one && id != 0) return fail(ESRCH, object(), act, "there is no such tenant");
    if (reach == scope::thread || (reach == scope::process && (!one || one->options_.owner.empty()))) return std::vector{one};
    std::vector<tenant*> all;
    for (tenant* t : tenants_) {
        if (t && (reach == scope::process_group || t->options_.owner == one->options_.owner)) all.push_back(t);
    }
    if (!one) all.push_back(nullptr);
    return all;
}

cookie executor::impl::tag_of(const tenant* t) const { return t ? t->tag_.load(std::memory_order_relaxed) : outside_; }

/// The old cookie is put back last: it may be the same one. relaxed: tasks that begin a moment later may still see the old one, as those that run keep it.
void executor::impl::give(const std::vector<tenant*>& to, cookie c) {
    for (tenant* t : to) {
        cookies_.get(c);
        const cookie old = tag_of(t);
        if (t) t->tag_.store(c, std::memory_order_relaxed);
        else outside_ = c;
        cookies_.put(old);
    }
}

result<cookie> executor::get(int id) {
    lock_guard hold(impl_->lock_);
    const auto to = impl_->whom(*this, "get", id, scope::thread);
    if (!to) return std::unexpected(to.error());
    return impl_->tag_of(to->front());
}

result<void> executor::create(int id, scope whom) {
    lock_guard hold(impl_->lock_);
    const auto to = impl_->whom(*this, "create", id, whom);
    if (!to) return std::unexpected(to.error());
    const cookie fresh = impl_->cookies_.create();
    impl_->give(*to, fresh);
    impl_->cookies_.put(fresh);
    return {};
}

result<void> executor::share_to(int id, scope whom) {
    lock_guard hold(impl_->lock_);
    const auto to = impl_->whom(*this, "share_to", id, whom);
    if (!to) return std::unexpected(to.error());
    impl_->give(*to, impl_->tag_of(presence::here().runs_for(*this)));
    return {};
}

result<void> executor::share_from(int id) {
    lock_guard hold(impl_->lock_);
    const auto from = impl_->whom(*this, "share_from", id, scope::thread);
    if (!from) return std::unexpected(from.error());
    impl_->give({presence::here().runs_for(*this)}, impl_->tag_of(from->front()));
    return {};
}

result<void> executor::clear(int id, scope whom) {
    lock_guard hold(impl_->lock_);
    const auto to = impl_->whom(*this, "clear", id, whom);
    if (!to) return std::unexpected(to.error());
    impl_->give(*to, no_cookie);
    return {};
}

// ---- the report

executor_report executor::report() const {
    executor_report r;
    r.source = impl_->options_.source;
    r.astray = impl_->astray_.load(std::memory_order_relaxed);
    r.wide = impl_->wide_.load(std::memory_order_relaxed);
    lock_guard hold(impl_->lock_);
    std::vector<task_figures> by_tenant(impl_->tenants_.size());
    histogram changes;
    for (const auto& c : impl_->cores_) {
        c->room.with_books([&](detail::books& b, std::uint64_t now) {
            const detail::state& s = b.ledger(now);
            for (std::size_t i = 0; i < s.tasks.size(); ++i) {
                by_tenant[i].runtime_ns += s.tasks[i].runtime;
                by_tenant[i].forced_idle_ns += s.tasks[i].forced_idle;
                by_tenant[i].switches += s.tasks[i].switches;
            }
            std::size_t place = 0;
            for (const int cpu : c->cpus) r.cpus.push_back({cpu, s.cpus[place++].figures});
            for (const auto& [pair, ns] : s.forced_by) r.who_forced_whom[pair] += ns;
            const auto proof = b.overlap(now);
            r.overlap_ns += proof.ns;
            r.stretches += proof.stretches;
            r.turns += b.turns();
            r.changing_ns += b.changing_ns();
            changes.add(b.changes());
            r.longest_wait_ns = std::max(r.longest_wait_ns, b.longest_wait_ns());
        });
    }
    r.change_p50_ns = changes.percentile(50);
    r.change_p99_ns = changes.percentile(99);
    for (std::size_t i = 0; i < by_tenant.size(); ++i) {
        if (const tenant* t = impl_->tenants_[i]) r.tenants.push_back({t->name(), t->id(), impl_->tag_of(t), by_tenant[i]});
    }
    return r;
}

}  // namespace cohort::coresched
