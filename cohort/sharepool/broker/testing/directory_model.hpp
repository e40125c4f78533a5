// SPDX-License-Identifier: Apache-2.0
/// For tests: what a directory has to answer, written down without any thought of speed: lists, and a look through all of them.
///
///     reference m{settings, all.known};
///     EXPECT_EQ(code(d.begin_add(who, r, nullptr)), m.begin_add(who, r));       // and m.same(d)
///
/// Groups have one size, so that a group fits if there are fewer than the window has places.
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool::testing {

struct reference {
    struct group {
        int id = 0;
        unsigned uid = 0, gid = 0, mode = 0660;
        bool kept = false, dead = false, local = false, lived = false;
        std::vector<int> members = {};
        std::vector<int> joining = {};    // tickets
        int finders = 0;
        std::vector<import_facts> imports = {};
    };
    struct ticket {
        int id, pid;
        bool gone;
    };
    const directory_settings& s;
    const std::map<int, process_facts>& known;
    int places;
    std::vector<group> groups;                      // in the order of their creation
    std::vector<sys::process_identity> attached;
    std::map<int, ticket> tickets;
    int last_ticket = 0;
    std::vector<int> deaths;                        // of the last call

    group* any(int id) {
        for (group& g : groups) {
            if (g.id == id) return &g;
        }
        return nullptr;
    }
    group* living(int id) { return any(id) && !any(id)->dead ? any(id) : nullptr; }
    static bool has(const std::vector<int>& v, int x) { return std::find(v.begin(), v.end(), x) != v.end(); }
    bool is_attached(const sys::process_identity& p) const { return std::find(attached.begin(), attached.end(), p) != attached.end(); }
    std::vector<int> groups_of(int pid, bool local) {
        std::vector<int> ids;
        for (group& g : groups) {
            if (g.local == local && has(g.members, pid)) ids.push_back(g.id);
        }
        return ids;
    }
    std::vector<int> tickets_of(int pid, bool local) {
        std::vector<int> ids;
        for (const auto& [number, t] : tickets) {
            if (t.pid == pid && !t.gone && any(t.id)->local == local) ids.push_back(t.id);
        }
        return ids;
    }
    int fresh_id(int from, int to) {
        while (from <= to && any(from)) ++from;
        return from <= to ? from : 0;
    }
    int in_machine() const {
        return static_cast<int>(std::count_if(groups.begin(), groups.end(), [](const group& g) { return !g.local; }));
    }
    /// What nobody has any more goes.
    void sweep() {
        deaths.clear();
        for (group& g : groups) {
            if (!g.dead && g.members.empty() && !g.kept && (g.lived || g.joining.empty())) {
                if (g.lived) deaths.push_back(g.id);
                g.dead = true;
                g.imports.clear();
            }
        }
        std::sort(deaths.begin(), deaths.end());
        std::erase_if(groups, [](const group& g) { return g.dead && g.joining.empty() && g.finders == 0; });
    }
    void leave(group& g, int pid) {
        std::erase(g.members, pid);
        std::erase_if(g.imports, [&](const import_facts& i) { return i.to_process && i.pid == pid; });
    }

    int create(const caller& who, const group_request& r) {
        if (!((r.id >= 1 && r.id <= 99'999) || r.id == 200'000 || r.id == 900'000)) return EINVAL;
        const int id = r.id == 200'000 ? fresh_id(100'000, 199'999) : r.id == 900'000 ? fresh_id(800'000, 899'999) : r.id;
        if (any(id)) return any(id)->dead ? ENODEV : EEXIST;
        if (r.mode > 0777) return EINVAL;
        if (in_machine() >= s.most_groups) return ENOSPC;
        if (static_cast<int>(groups.size()) >= places) return EOVERFLOW;
        groups.push_back({.id = id, .uid = who.uid, .gid = who.gid, .mode = r.mode, .kept = true, .lived = true});
        return 0;
    }
    int destroy(const caller& who, int id, bool force) {
        group* g = living(id);
        if (!g) return ENODEV;
        if (g->local) return EPERM;
        if (who.uid != 0 && who.uid != g->uid) return EPERM;
        if (!g->members.empty() && !force) return EBUSY;
        g->members.clear(), g->imports.clear();
        g->dead = true;
        sweep();
        return 0;
    }
    int find(int id) {
        if (!living(id)) return ENODEV;
        ++living(id)->finders;
        return 0;
    }
    void drop(int id) {
        --any(id)->finders;
        sweep();
    }
    int process(const caller& who, int pid, bool itself) {
        const auto k = known.find(pid);
        if (k == known.end() || !k->second.exists || k->second.exiting) return ESRCH;
        const process_facts& f = k->second;
        if (f.kernel_thread) return itself ? EINVAL : ESRCH;
        if (f.shares_memory) return EINVAL;
        if (!f.attached || !is_attached(f.leader)) return EOPNOTSUPP;
        if (f.dumping) return EBUSY;
        return who.uid == 0 || who.uid == f.uid || who.pid == pid ? 0 : EPERM;
    }
    int begin_add(const caller& who, const add_request& r) {
        const int id = s.default_group ? s.default_group : r.id;
        if ((id < 1 || id > 200'000) && id != 900'000) return EINVAL;
        if (id >= 100'000 && id < 200'000 && !living(id)) return EINVAL;
        if (const int e = process(who, r.pid, false)) return e;
        const int real = id == 200'000 ? fresh_id(100'000, 199'999) : id == 900'000 ? fresh_id(800'000, 899'999) : id;
        const auto in = groups_of(r.pid, false), asked = tickets_of(r.pid, false);
        if (r.single && in.size() + asked.size() > 0) return EEXIST;
        if (has(in, real) || has(asked, real)) return EEXIST;
        if (static_cast<int>(in.size() + asked.size()) >= s.most_groups_of_process) return ENOSPC;
        group* g = any(real);
        if (!g) {
            if (in_machine() >= s.most_groups) return ENOSPC;
            if (static_cast<int>(groups.size()) >= places) return EOVERFLOW;
            groups.push_back({.id = real, .uid = who.uid, .gid = who.gid});
            g = &groups.back();
        } else {
            if (g->dead) return ENODEV;
            if (s.only_owner_adds && who.uid != 0 && who.uid != g->uid) return EPERM;
            const unsigned digit = who.uid == g->uid ? g->mode / 64 % 8 : who.gid == g->gid ? g->mode / 8 % 8 : g->mode % 8;
            const bool may_read = digit & 4, may_write = digit & 2;
            if (who.uid != 0 && !(may_read && (may_write || r.prot == access::read))) return EACCES;
        }
        if (static_cast<int>(g->members.size() + g->joining.size()) >= s.most_members) return ENOSPC;
        give(*g, r.pid);
        return 0;
    }
    void give(group& g, int pid) {
        tickets[++last_ticket] = {g.id, pid, false};
        g.joining.push_back(last_ticket);
    }
    int begin_local(const caller& who, int pid) {
        if (const int e = process(who, pid, true)) return e;
        if (!groups_of(pid, true).empty() || !tickets_of(pid, true).empty()) return EEXIST;
        const int id = fresh_id(200'001, 299'999);
        if (static_cast<int>(groups.size()) >= places) return EOVERFLOW;
        groups.push_back({.id = id, .uid = known.at(pid).uid, .local = true});
        give(groups.back(), pid);
        return 0;
    }
    void abort(int number) {
        if (!tickets.contains(number)) return;
        std::erase(any(tickets.at(number).id)->joining, number);
        tickets.erase(number);
        sweep();
    }
    int commit(int number) {
        const auto i = tickets.find(number);
        if (i == tickets.end()) return EINVAL;
        const ticket t = i->second;
        group& g = *any(t.id);
        const auto k = known.find(t.pid);
        int e = 0;
        if (t.gone || k == known.end() || !k->second.exists || k->second.exiting || !k->second.attached || !is_attached(k->second.leader)) e = ESRCH;
        else if (k->second.dumping) e = EBUSY;
        else if (g.dead) e = ENODEV;
        if (e == 0) g.members.push_back(t.pid), g.lived = true;
        abort(number);
        return e;
    }
    int remove(const caller& who, int pid, int id, bool in_use) {
        group* g = living(id);
        if (!g || g->local || in_use || !g->imports.empty()) return EINVAL;
        const auto k = known.find(pid);
        if (k == known.end() || !k->second.exists || k->second.exiting || !is_attached(k->second.leader) || !has(g->members, pid)) return ESRCH;
        if (who.uid != 0 && who.uid != k->second.uid && who.pid != pid) return EPERM;
        leave(*g, pid);
        sweep();
        return 0;
    }
    int attach(const sys::process_identity& p) {
        for (const auto& a : attached) {
            if (a.pid == p.pid) return a == p ? 0 : EEXIST;
        }
        attached.push_back(p);
        return 0;
    }
    void exit(const sys::process_identity& p) {
        deaths.clear();
        if (!is_attached(p)) return;
        std::erase(attached, p);
        for (auto& [number, t] : tickets) t.gone = t.gone || t.pid == p.pid;
        for (group& g : groups) leave(g, p.pid);
        sweep();
    }
    int import(const caller& who, int id, import_facts f, address_range r) {
        group* g = living(id);
        if (!g) return ENODEV;
        if (!has(g->members, who.pid)) return EPERM;
        bool good = f.bytes > 0 && f.at % 4096 == 0 && f.bytes % 4096 == 0 && f.at >= r.base && f.at + f.bytes <= r.end();
        for (const import_facts& i : g->imports) good = good && (f.at + f.bytes <= i.at || i.at + i.bytes <= f.at);
        if (!good) return EINVAL;
        f.pid = who.pid;
        g->imports.push_back(f);
        return 0;
    }
    int unshare(const caller& who, int id, std::uint64_t at, std::uint64_t bytes) {
        group* g = living(id);
        if (!g) return ENODEV;
        if (!has(g->members, who.pid)) return EPERM;
        const auto i = std::find_if(g->imports.begin(), g->imports.end(), [&](const import_facts& f) { return at >= f.at && at < f.at + f.bytes; });
        if (i == g->imports.end()) return EINVAL;
        if (i->to_process && i->pid != who.pid) return EPERM;
        if (bytes > i->bytes) return EINVAL;
        g->imports.erase(i);
        return 0;
    }
    /// What differs; empty: nothing.
    std::string same(const directory& d) {
        std::vector<int> ids;
        for (const group& g : groups) ids.push_back(g.id);
        std::sort(ids.begin(), ids.end());
        if (ids != d.groups()) return "other groups";
        for (const group& g : groups) {
            const spg real = *d.look_at(g.id);
            std::vector<int> members = {};
            for (const member_facts& m : real.members) members.push_back(m.process.pid);
            const std::string name = "group " + std::to_string(g.id) + ": ";
            if (real.dead != g.dead || real.kept != g.kept || real.local != g.local) return name + "dead, kept or local";
            if (real.references != g.finders + static_cast<int>(g.joining.size())) return name + "references";
            if (members != g.members) return name + "members";
            if (real.imports.size() != g.imports.size()) return name + "imports";
            if (real.owner_uid != g.uid || real.mode != (g.local ? 0600 : g.mode)) return name + "owner or mode";
        }
        return attached.size() == d.processes().size() ? "" : "other processes";
    }
};

}  // namespace cohort::sharepool::testing
