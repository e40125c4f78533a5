// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/cookies.hpp>

#include <algorithm>

#include <cohort/group/detail/plan_cookies.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::group::detail {

result<std::unique_ptr<cookies>> cookies::create(const plan& p, coresched::verbs& kernel) {
    std::unique_ptr<cookies> out(new cookies(p, kernel));
    for (const cohort_plan& c : p.cohorts) {
        if (c.cookie.by != cookie_keeping::form::kernel || out->holders_.contains(c.cookie.name)) continue;
        if (auto r = out->hold(c.cookie.name); !r) return std::unexpected(r.error());
    }
    if (auto r = out->add_tenants(); !r) return std::unexpected(r.error());
    return out;
}

result<void> cookies::add_tenants() {
    if (std::ranges::none_of(plan_.cohorts, [](const cohort_plan& c) { return c.cookie.passes_gate; })) return {};
    auto made = coresched::executor::create({.cores = cores_with_siblings(plan_.machine), .source = plan_.cores_declared ? plan_.file : plan_.machine.name});
    if (!made) return std::unexpected(made.error());
    executor_ = std::move(*made);
    std::map<std::string, int> first;  // tenant of a cookie
    for (const cohort_plan& c : plan_.cohorts) {
        if (!c.cookie.passes_gate) continue;
        auto t = executor_->add({.name = c.name});
        if (!t) return std::unexpected(t.error());
        const int id = (*t)->id();
        tenants_[c.name] = std::move(*t);
        if (c.cookie.name.empty()) continue;
        const auto [of, fresh] = first.emplace(c.cookie.name, id);
        // This thread runs no tenant's task: what it takes is the outside's, and handed on.
        auto given = fresh ? executor_->create(id, coresched::scope::thread) : executor_->share_from(of->second);
        if (given && !fresh) given = executor_->share_to(id, coresched::scope::thread);
        if (!given) return given;
    }
    return {};
}

cookies::~cookies() {
    for (auto& [name, h] : holders_) {
        h.end.store(true);
        h.end.notify_all();
        h.thread.join();
    }
}

result<void> cookies::hold(const std::string& cookie) {
    holder& h = holders_[cookie];
    h.thread = std::thread([this, &h] {
        h.made = kernel_.create(0, coresched::scope::thread);
        h.tid.store(sys::thread_id());
        h.tid.notify_all();
        h.end.wait(false);
    });
    h.tid.wait(0);
    return h.made;
}

work::gate* cookies::gate_of(const std::string& cohort) const {
    const auto it = tenants_.find(cohort);
    return it == tenants_.end() ? nullptr : it->second.get();
}

result<void> cookies::take(const std::string& cohort) {
    const auto c = std::ranges::find(plan_.cohorts, cohort, &cohort_plan::name);
    if (c == plan_.cohorts.end() || c->cookie.by != cookie_keeping::form::kernel) return {};
    return kernel_.share_from(holders_.at(c->cookie.name).tid.load());
}

std::optional<coresched::executor_report> cookies::report() const {
    return executor_ ? std::optional(executor_->report()) : std::nullopt;
}

}  // namespace cohort::group::detail
