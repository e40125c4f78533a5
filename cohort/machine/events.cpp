// SPDX-License-Identifier: Apache-2.0
#include <cohort/machine/events.hpp>

#include <cohort/machine/detail/masks.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::machine {
namespace {

struct state {
    cpumask cpus;
    nodemask nodes;
};

result<state> read_state(sys::os& os) {
    const auto cpus = detail::read_mask<cpumask>(os, sys::paths::cpu + "/online");
    if (!cpus) return std::unexpected(cpus.error());
    const auto nodes = detail::read_mask<nodemask>(os, sys::paths::node + "/online");
    if (!nodes && nodes.error().code != ENOENT) return std::unexpected(nodes.error());
    return state{*cpus, nodes.value_or(nodemask{0})};  // without sysfs of nodes there is one
}

}  // namespace

cpumask events::online() const {
    const lock_guard hold(lock_);
    return online_;
}

nodemask events::nodes() const {
    const lock_guard hold(lock_);
    return nodes_;
}

result<bool> events::deliver(const cpumask& online, const nodemask& nodes) {
    if (online.empty()) return fail(EINVAL, "machine", "change what is online", "no CPU would be left");
    change what{.online = online, .came = {}, .went = {}, .nodes = nodes, .nodes_came = {}, .nodes_went = {}};
    {
        const lock_guard hold(lock_);
        what.came = online - online_;
        what.went = online_ - online;
        what.nodes_came = nodes - nodes_;
        what.nodes_went = nodes_ - nodes;
        online_ = online;
        nodes_ = nodes;
    }
    const bool cpus_differ = !what.came.empty() || !what.went.empty();
    const bool nodes_differ = !what.nodes_came.empty() || !what.nodes_went.empty();
    // Memory first when it comes, CPUs first when it goes: nobody hears of a CPU whose node is not there.
    if (nodes_differ && what.nodes_went.empty()) chain_.call(nodes_changed, &what);
    if (cpus_differ) chain_.call(cpus_changed, &what);
    if (nodes_differ && !what.nodes_went.empty()) chain_.call(nodes_changed, &what);
    return cpus_differ || nodes_differ;
}

template <class Edit>
result<bool> events::edit(Edit how) {
    if (chain_.in_callback()) return fail(EDEADLK, "machine", "change what is online", "from a callback about such a change");
    const lock_guard hold(one_at_a_time_);
    state now{online(), nodes()};
    how(now);
    return deliver(now.cpus, now.nodes);
}

result<bool> events::publish(const cpumask& online, const nodemask& nodes) {
    return edit([&](state& s) { s = {online, nodes}; });
}

result<bool> synthetic_events::cpu_online(int cpu) {
    return edit([&](state& s) { s.cpus.set(cpu); });
}
result<bool> synthetic_events::cpu_offline(int cpu) {
    return edit([&](state& s) { s.cpus.clear(cpu); });
}
result<bool> synthetic_events::node_online(int node) {
    return edit([&](state& s) { s.nodes.set(node); });
}
result<bool> synthetic_events::node_offline(int node) {
    return edit([&](state& s) { s.nodes.clear(node); });
}

result<std::unique_ptr<live_events>> live_events::create(sys::os& os) {
    auto now = read_state(os);
    if (!now) return std::unexpected(now.error());
    return std::unique_ptr<live_events>(new live_events(os, now->cpus, now->nodes));
}

result<bool> live_events::check() {
    const auto now = read_state(os_);
    if (!now) return std::unexpected(now.error());
    return publish(now->cpus, now->nodes);
}

}  // namespace cohort::machine
