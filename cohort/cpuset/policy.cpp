// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/policy.hpp>

namespace cohort::cpuset {
namespace {

int ordinal(const nodemask& of, int member) { return (of & nodemask::range(0, member - 1)).weight(); }

nodemask effective_in(const memory_policy& p, const nodemask& allowed) {
    return p.relative_nodes && !allowed.empty() ? relative_to(p.nodes, allowed) & allowed : p.nodes & allowed;
}

}  // namespace

std::string_view mode_name(policy_mode m) {
    switch (m) {
        case policy_mode::none: return "default";
        case policy_mode::preferred: return "preferred";
        case policy_mode::bind: return "bind";
        case policy_mode::interleave: return "interleave";
        case policy_mode::local: return "local";
        case policy_mode::preferred_many: return "preferred-many";
        case policy_mode::weighted_interleave: return "weighted-interleave";
    }
    return {};
}

std::string memory_policy::text() const {
    std::string out(mode_name(mode));
    if (static_nodes) out += "+static";
    if (relative_nodes) out += "+relative";
    if (!effective.empty()) out += ":" + effective.list();
    return out;
}

nodemask relative_to(const nodemask& relative, const nodemask& onto) {
    const int size = onto.weight();
    nodemask out;
    for (int n : relative) out.set(onto.nth(n % size));
    return out;
}

nodemask remap(const nodemask& nodes, const nodemask& from, const nodemask& to) {
    const int size = to.weight();
    nodemask out;
    for (int n : nodes) out.set(from.test(n) && size ? to.nth(ordinal(from, n) % size) : n);
    return out;
}

result<memory_policy> contextualize(memory_policy asked, const nodemask& allowed) {
    const auto refuse = [&](const char* why) { return fail(EINVAL, "policy " + std::string(mode_name(asked.mode)), "set", why); };
    if (asked.static_nodes && asked.relative_nodes) return refuse("static and relative exclude each other");
    const bool flags = asked.static_nodes || asked.relative_nodes;
    const bool nodeless = asked.mode == policy_mode::none || asked.mode == policy_mode::local;
    asked.cpuset = allowed;
    asked.effective = {};
    if (nodeless) {
        if (asked.mode == policy_mode::none && !asked.nodes.empty()) return refuse("it takes no nodes");
        if (asked.mode == policy_mode::none) asked.static_nodes = asked.relative_nodes = false;
        if (asked.mode == policy_mode::local && (flags || !asked.nodes.empty())) return refuse("it takes no flags and no nodes");
        return asked;
    }
    if (asked.nodes.empty()) {
        if (asked.mode != policy_mode::preferred) return refuse("it needs nodes");
        if (flags) return refuse("flags need nodes");
        asked.mode = policy_mode::local;  // to prefer no node is to prefer the near one
        return asked;
    }
    asked.effective = effective_in(asked, allowed);
    if (asked.effective.empty()) return refuse("none of its nodes is allowed here");
    if (asked.mode == policy_mode::preferred) asked.effective = nodemask{asked.effective.first()};
    return asked;
}

void rebind(memory_policy& p, const nodemask& allowed) {
    if (p.mode == policy_mode::none || p.mode == policy_mode::local) return;
    // A policy that names its nodes itself does not move when the set's nodes are what they were.
    if (!p.static_nodes && !p.relative_nodes && p.cpuset == allowed) return;
    nodemask now;
    if (p.static_nodes) now = p.nodes & allowed;
    else if (p.relative_nodes) now = allowed.empty() ? nodemask{} : relative_to(p.nodes, allowed);
    else now = remap(p.effective, p.cpuset, allowed);
    if (p.mode == policy_mode::preferred && !p.static_nodes && !p.relative_nodes && now.weight() > 1) now = nodemask{now.first()};
    if (now.empty()) now = allowed;
    p.effective = now;
    p.cpuset = allowed;
}

}  // namespace cohort::cpuset
