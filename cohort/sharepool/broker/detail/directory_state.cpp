// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/detail/directory_state.hpp>

#include <algorithm>
#include <iterator>

namespace cohort::sharepool {

using namespace detail;

directory::impl::group* directory::impl::any(int id) {
    const auto i = groups.find(id);
    return i == groups.end() ? nullptr : &i->second;
}

directory::impl::group* directory::impl::living(int id) {
    group* g = any(id);
    return g && !g->facts.dead ? g : nullptr;
}

directory::impl::process* directory::impl::attached(const sys::process_identity& p) {
    const auto i = processes.find(p.pid);
    return i == processes.end() || !same_process(i->second.who, p) ? nullptr : &i->second;
}

bool directory::impl::is_member(int pid, int id) {
    const auto i = processes.find(pid);
    return i != processes.end() && (i->second.groups.contains(id) || (i->second.local == id && id != 0));
}

void directory::impl::count(const group& g, int sign) {
    const spg& f = g.facts;
    (f.local ? sums.local : f.dead ? sums.dead : sums.groups) += sign;
    if (!f.local) sums.members += sign * static_cast<int>(f.members.size());
    sums.imports += sign * static_cast<int>(f.imports.size());
}

directory::impl::group& directory::impl::insert(spg f) {
    const int id = f.id;
    sums.addresses += f.range.bytes;
    group& g = groups[id];
    g.facts = std::move(f);
    count(g, 1);
    return g;
}

void directory::impl::enter(group& g, process& p, const member_facts& m) {
    const std::uint64_t number = ++joinings;
    g.facts.members.push_back(m);
    g.since.push_back(number);
    if (g.facts.local) {
        p.local = g.facts.id, p.local_since = number;
        return;
    }
    p.groups.emplace(g.facts.id, number);
    ++sums.members;
}

bool directory::impl::leave(int id, process& p) {
    group& g = groups.at(id);
    std::uint64_t number = p.local_since;
    if (g.facts.local) {
        p.local = 0, p.local_since = 0;
    } else {
        const auto of = p.groups.find(id);
        number = of->second;
        p.groups.erase(of);
        --sums.members;
    }
    const auto at = std::lower_bound(g.since.begin(), g.since.end(), number) - g.since.begin();
    g.since.erase(g.since.begin() + at);
    g.facts.members.erase(g.facts.members.begin() + at);
    if (g.private_imports != 0) {
        const auto his = [&](const import_facts& i) { return i.to_process && i.pid == p.who.pid; };
        const int before = static_cast<int>(g.facts.imports.size());
        std::erase_if(g.facts.imports, his);
        const int fewer = before - static_cast<int>(g.facts.imports.size());
        g.private_imports -= fewer, sums.imports -= fewer;
    }
    if (!g.facts.members.empty() || g.facts.kept) return false;
    die(g);
    settle(id);
    return true;
}

void directory::impl::expel_all(group& g) {
    for (const member_facts& m : g.facts.members) {
        process& p = processes.at(m.process.pid);
        if (g.facts.local) p.local = 0, p.local_since = 0;
        else p.groups.erase(g.facts.id);
    }
}

void directory::impl::die(group& g) {
    count(g, -1);
    g.facts.dead = true;
    g.facts.members.clear();
    g.facts.imports.clear();
    g.since.clear();
    g.private_imports = 0;
    count(g, 1);
}

void directory::impl::settle(int id) {
    group& g = groups.at(id);
    if (!g.facts.dead && !g.recorded && g.tickets == 0) die(g);  // its first join was not committed, and nobody else's can be
    if (!g.facts.dead || g.facts.references != 0) return;
    count(g, -1);
    sums.addresses -= g.facts.range.bytes;
    addresses.give(g.facts.range);
    if (is_given_out(id)) (void)ids.free(id);
    groups.erase(id);
}

void directory::impl::put(group& g, const import_facts& f) {
    const auto before = std::lower_bound(g.facts.imports.begin(), g.facts.imports.end(), f.at, [](const import_facts& i, std::uint64_t at) { return i.at < at; });
    g.facts.imports.insert(before, f);
    g.private_imports += f.to_process;
    ++sums.imports;
}

void directory::impl::take_out(group& g, std::vector<import_facts>::iterator i) {
    g.private_imports -= i->to_process;
    --sums.imports;
    g.facts.imports.erase(i);
}

spg directory::impl::bare(const group& g) {
    const spg& f = g.facts;
    return {.id = f.id, .name = f.name, .range = f.range, .owner_uid = f.owner_uid, .owner_gid = f.owner_gid, .mode = f.mode, .limit = f.limit, .flags = f.flags, .kept = f.kept, .local = f.local, .files = f.files};
}

}  // namespace cohort::sharepool
