// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/model.hpp>

#include <algorithm>
#include <bit>

#include <cohort/cpuset/detail/world.hpp>

namespace cohort::cpuset {
namespace {

using detail::group;
using detail::verdict;
using detail::world;

answer answered(const verdict& v) { return {.code = v.code, .why = v.why}; }

/// The number of the last level of sched domains that the machine's topology builds, counted from 0.
int domain_levels(const machine::topology& t) {
    const bool one_core = t.cores.size() <= 1;
    const auto spans_all = [&](const cpumask& m) { return t.online.subset_of(m); };
    if (one_core) return 0;
    if (!t.packages.empty() && t.nodes.size() <= 1 && spans_all(t.packages.front().cpus)) return 2;
    return t.nodes.size() <= 1 ? 3 : 5;
}

nodemask nodes_with_memory(const machine::topology& t) {
    nodemask out;
    for (const auto& n : t.nodes) {
        if (n.memory_bytes) out.set(n.number);
    }
    return out.empty() ? t.node_numbers() : out;
}

verdict suspend(world& w, bool to_sleep) {
    if (!w.admin()) return {EACCES, "only root suspends the machine"};
    if (w.suspended == to_sleep) return {EINVAL, to_sleep ? "the machine is suspended" : "the machine is not suspended"};
    w.suspended = to_sleep;
    return {};
}

verdict mark_pressure(world& w, const std::string& name, std::int64_t events) {
    const auto it = w.tasks.find(name);
    if (it == w.tasks.end()) return {ESRCH, "there is no task \"" + name + "\""};
    if (w.pressure_on) detail::cpuset_of(*it->second.at).pressure.mark(events, w.now);
    return {};
}

verdict act_as(world& w, const operation& op) {
    if (op.what == verb::as_root) {
        w.user = nullptr;
        return {};
    }
    group* g = detail::find(w, op.path);
    if (!g) return detail::no_such_group(op.path);
    if (g->is_root()) return {EINVAL, "the root is not delegated"};
    w.user = g;
    return {};
}

/// User space is frozen while the machine sleeps; what only looks is allowed here.
bool only_looks(verb v) { return v == verb::read || v == verb::domains || v == verb::tasks || v == verb::task || v == verb::resume; }

std::vector<std::string> lists_of(const std::vector<cpumask>& masks) {
    std::vector<std::string> out;
    for (const cpumask& m : masks) out.push_back(m.list());
    return out;
}

answer carry_out(world& w, const operation& op) {
    if (w.suspended && !only_looks(op.what)) return {.code = EBUSY, .why = "the machine is suspended: nothing runs before resume"};
    switch (op.what) {
        case verb::mkdir: return answered(detail::make_group(w, op.path));
        case verb::rmdir: return answered(detail::remove_group(w, op.path));
        case verb::write: return answered(detail::write_file(w, op.path, op.file, op.text));
        case verb::read: return detail::read_file(w, op.path, op.file);
        case verb::attach: return answered(detail::attach(w, op.path, op.task));
        case verb::fork: return answered(detail::fork(w, op.task, op.child));
        case verb::exit: return answered(detail::exit(w, op.task));
        case verb::affinity: return answered(detail::set_affinity(w, op.task, op.cpus));
        case verb::mempolicy: return answered(detail::set_policy(w, op.task, op.policy, false));
        case verb::mbind: return answered(detail::set_policy(w, op.task, op.policy, true));
        case verb::controller: return answered(detail::set_controller(w, op.path, op.on));
        case verb::cpu: return answered(detail::set_cpu_online(w, op.number, op.on));
        case verb::node: return answered(detail::set_node_online(w, op.number, op.on));
        case verb::suspend: return answered(suspend(w, true));
        case verb::resume: return answered(suspend(w, false));
        case verb::bind: return answered(detail::bind(w, op.on));
        case verb::pressure: return answered(mark_pressure(w, op.task, op.number));
        case verb::advance: w.now += op.number; return {};
        case verb::as_root:
        case verb::as_delegate: return answered(act_as(w, op));
        case verb::domains: return {.list = lists_of(detail::sched_domains(w))};
        case verb::tasks: return detail::list_tasks(w, op.path);
        case verb::task: return detail::show_task(w, op.task);
    }
    return {};
}

}  // namespace

model::model(const machine::topology& t, model_options o) : world_(std::make_unique<world>()) {
    world& w = *world_;
    w.profile = o.profile;
    w.v1 = o.v1;
    w.possible = w.active = t.possible;
    w.possible_nodes = t.node_numbers();
    w.memory_nodes = nodes_with_memory(t);
    w.boot_isolated = w.isolated = o.boot_isolated & t.possible;
    w.cpu_ids = t.possible.last() + 1;
    w.node_ids = std::max(64, static_cast<int>(std::bit_ceil(static_cast<unsigned>(w.possible_nodes.last() + 1))));
    w.relax_max = domain_levels(t);

    w.root = std::make_unique<group>();
    group& root = *w.root;
    root.has_cpuset = true;
    root.hands_on = !o.v1;
    root.state = partition_state::root;
    root.own.cpus = o.v1 ? w.active : w.possible;
    root.own.mems = o.v1 ? w.memory_nodes : w.possible_nodes;
    root.own.granted = w.possible;
    root.own.cpu_exclusive = root.own.mem_exclusive = true;
    root.effective_cpus = w.active;
    root.effective_mems = root.old_mems = w.memory_nodes;
    w.starter_cpus = w.possible;
    w.domains_due = true;
    detail::make_domains(w);
    w.at_risk = false;
}

model::model(std::unique_ptr<detail::world> w) : world_(std::move(w)) {}
model::~model() = default;
model::model(model&&) noexcept = default;
model& model::operator=(model&&) noexcept = default;

answer model::perform(const operation& op) {
    answer out = carry_out(*world_, op);
    // A hotplug has made its own, as the last of its steps.
    detail::make_domains(*world_);
    // Reset where it was set, so that operations that only look write nothing: many may be under way (shared_model.hpp).
    if (world_->at_risk) {
        out.hazard = detail::risk_text;
        world_->at_risk = false;
    }
    return out;
}

model model::clone() const { return model(detail::copy(*world_)); }

void model::trace(std::vector<trace_step>* into) { world_->trace = into; }

void model::rebuild_domains() {
    world_->domains_due = true;
    detail::make_domains(*world_);
    world_->at_risk = false;
}

bool model::is_v1() const { return world_->v1; }

std::string model::broken() const { return detail::broken(*world_); }

std::vector<std::string> model::paths() const {
    std::vector<std::string> out;
    for (group* at = world_->root.get(); at;) {
        out.push_back(detail::path_of(*at));
        if (at->first) {
            at = at->first;
            continue;
        }
        while (at && !at->next) at = at->parent;
        if (at) at = at->next;
    }
    return out;
}

std::vector<std::string> model::files(const std::string& path) const {
    const group* g = detail::find(*world_, path == "." ? "" : path);
    return g ? detail::files_of(*world_, *g) : std::vector<std::string>{};
}

}  // namespace cohort::cpuset
