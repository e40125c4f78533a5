// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/directory.hpp>

#include <algorithm>
#include <iterator>

#include <cohort/base/check.hpp>
#include <cohort/sharepool/broker/detail/directory_state.hpp>

namespace cohort::sharepool {

using namespace detail;

namespace {

constexpr std::uint64_t page = 4096;

bool owns(const caller& who, const spg& g) { return who.uid == 0 || who.uid == g.owner_uid; }

/// Why the group is not there, for an error.
template <class Group>
std::unexpected<error> not_there(int id, const Group* g, const char* act) {
    return fail(ENODEV, group_name(id), act, g ? "it is dead" : "there is no such group");
}

std::unexpected<error> not_owner(const caller& who, const spg& g, const char* act) {
    return fail(EPERM, group_name(g.id), act, "uid " + std::to_string(who.uid) + " is neither its owner, uid " + std::to_string(g.owner_uid) + ", nor root");
}

std::string text(std::uint64_t bytes) { return std::to_string(bytes) + " bytes"; }

}  // namespace

directory::directory(directory_settings s, look facts, std::function<void(const record&)> changed) : impl_(std::make_unique<impl>(std::move(s), std::move(facts), std::move(changed))) {}
directory::~directory() = default;

// ---- groups ----

result<spg> directory::create(const caller& who, const group_request& r) {
    checks c(nullptr, group_name(r.id), "create");
    const bool manual = r.id >= spg_id_min && r.id <= spg_id_max;
    if (!manual && r.id != spg_id_auto && r.id != spg_id_dvpp) return c.stop(EINVAL, "id", "a new group has an id of 1-99999, or 200000 or 900000 for one that is given out");
    int id = r.id;
    if (!manual) {
        const auto reserved = impl_->new_id(r.id, c);
        if (!reserved) return std::unexpected(reserved.error());
        id = *reserved;
    }
    impl::reserved_id undo(impl_->ids, manual ? 0 : id);
    if (const impl::group* g = impl_->any(id)) return g->facts.dead ? c.stop(ENODEV, "id", "a dead group has this id until nobody refers to it") : c.stop(EEXIST, "id", "there is a group of this id");
    const auto g = impl_->make(who, id, r, true, false, c);
    if (!g) return std::unexpected(g.error());
    undo.keep();
    (*g)->recorded = true;
    impl_->tell({.what = record::kind::created, .group = impl::bare(**g)});
    return (*g)->facts;
}

result<std::vector<member_facts>> directory::destroy(const caller& who, int id, bool force) {
    impl::group* g = impl_->living(id);
    if (!g) return not_there(id, impl_->any(id), "destroy");
    if (g->facts.local) return fail(EPERM, group_name(id), "destroy", "it is a process's own, and ends with it");
    if (!owns(who, g->facts)) return not_owner(who, g->facts, "destroy");
    std::vector<member_facts> members = g->facts.members;
    if (!members.empty() && !force) return fail(EBUSY, group_name(id), "destroy", std::to_string(members.size()) + " processes are in it");
    const bool recorded = g->recorded;
    impl_->expel_all(*g);
    impl_->die(*g);
    impl_->settle(id);
    if (recorded) impl_->tell({.what = record::kind::destroyed, .group = {.id = id}});
    return members;
}

result<spg> directory::find(int id) {
    impl::group* g = impl_->living(id);
    if (!g) return not_there(id, impl_->any(id), "find");
    ++g->finders, ++g->facts.references;
    return g->facts;
}

void directory::drop(int id) {
    impl::group* g = impl_->any(id);
    COHORT_CHECK(g && g->finders > 0, "a group is dropped that was not found");
    --g->finders, --g->facts.references;
    impl_->settle(id);
}

result<void> directory::set_limit(const caller& who, int id, std::uint64_t bytes) {
    impl::group* g = impl_->living(id);
    if (!g) return not_there(id, impl_->any(id), "set its limit");
    if (!owns(who, g->facts)) return not_owner(who, g->facts, "set its limit");
    if (bytes > g->facts.range.bytes) return fail(EINVAL, group_name(id), "set its limit to " + text(bytes), "it has " + text(g->facts.range.bytes) + " of addresses");
    g->facts.limit = bytes;
    if (g->recorded) impl_->tell({.what = record::kind::limited, .group = {.id = id, .limit = bytes}});
    return {};
}

result<void> directory::set_files(int id, const group_inodes& files) {
    impl::group* g = impl_->living(id);
    if (!g) return not_there(id, impl_->any(id), "note its files");
    g->facts.files = files;
    if (g->recorded) impl_->tell({.what = record::kind::filed, .group = {.id = id, .files = files}});
    return {};
}

// ---- looking ----

result<std::vector<int>> directory::ids_of(int pid) const {
    const auto wrong = [&](int code, const char* reason) { return fail(code, "process " + std::to_string(pid), "list its groups", reason); };
    const process_facts f = impl_->facts(pid);
    if (!f.exists || f.exiting) return wrong(ESRCH, f.exists ? "it is ending" : "there is no such process");
    auto ids = ids_of(f.leader);
    if (ids.empty()) return wrong(ENODEV, "it is in no group");
    return ids;
}

std::vector<int> directory::ids_of(const sys::process_identity& who) const {
    const impl::process* p = impl_->attached(who);
    if (!p) return {};
    std::vector<std::pair<std::uint64_t, int>> by_age;
    by_age.reserve(p->groups.size());
    for (const auto& [id, since] : p->groups) by_age.emplace_back(since, id);
    std::sort(by_age.begin(), by_age.end());
    std::vector<int> ids;
    ids.reserve(by_age.size());
    for (const auto& [since, id] : by_age) ids.push_back(id);
    return ids;
}

std::optional<int> directory::local_of(int pid) const {
    const auto p = impl_->processes.find(pid);
    return p == impl_->processes.end() || p->second.local == 0 ? std::nullopt : std::optional(p->second.local);
}

std::vector<int> directory::groups(int from, std::size_t most) const {
    std::vector<int> ids;
    for (auto i = impl_->groups.lower_bound(from); i != impl_->groups.end() && ids.size() < most; ++i) ids.push_back(i->first);
    return ids;
}

std::optional<spg> directory::look_at(int id) const {
    const impl::group* g = impl_->any(id);
    return g ? std::optional(g->facts) : std::nullopt;
}

std::vector<sys::process_identity> directory::processes() const {
    std::vector<sys::process_identity> all;
    all.reserve(impl_->processes.size());
    for (const auto& [pid, p] : impl_->processes) all.push_back(p.who);
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
    return all;
}

directory::totals directory::count() const {
    totals t = impl_->sums;
    t.processes = static_cast<int>(impl_->processes.size());
    return t;
}

// ---- imports ----

bool directory::impl::fits(const group& g, const import_facts& f) const {
    if (f.bytes == 0 || f.at % page != 0 || f.bytes % page != 0 || f.offset % page != 0 || f.at < g.facts.range.base || f.bytes > g.facts.range.bytes || f.at - g.facts.range.base > g.facts.range.bytes - f.bytes) return false;
    const auto next = std::lower_bound(g.facts.imports.begin(), g.facts.imports.end(), f.at, [](const import_facts& i, std::uint64_t at) { return i.at < at; });
    if (next != g.facts.imports.end() && next->at < f.at + f.bytes) return false;
    return next == g.facts.imports.begin() || std::prev(next)->at + std::prev(next)->bytes <= f.at;
}

result<void> directory::import(const caller& who, int id, const import_facts& f) {
    const auto wrong = [&](int code, std::string reason) { return fail(code, group_name(id), "import " + text(f.bytes) + " for process " + std::to_string(who.pid), std::move(reason)); };
    impl::group* g = impl_->living(id);
    if (!g) return wrong(ENODEV, impl_->any(id) ? "it is dead" : "there is no such group");
    if (!impl_->is_member(who.pid, id)) return wrong(EPERM, "the process is not in it");
    if (!impl_->fits(*g, f)) return wrong(EINVAL, "that is not whole pages inside its addresses where nothing else is imported");
    import_facts his = f;
    his.pid = who.pid;
    impl_->put(*g, his);
    impl_->tell({.what = record::kind::imported, .group = {.id = id}, .import = his});
    return {};
}

result<import_facts> directory::unshare(const caller& who, int id, std::uint64_t at, std::uint64_t bytes) {
    const auto wrong = [&](int code, std::string reason) { return fail(code, group_name(id), "take back an import for process " + std::to_string(who.pid), std::move(reason)); };
    impl::group* g = impl_->living(id);
    if (!g) return wrong(ENODEV, impl_->any(id) ? "it is dead" : "there is no such group");
    if (!impl_->is_member(who.pid, id)) return wrong(EPERM, "the process is not in it");
    auto i = std::upper_bound(g->facts.imports.begin(), g->facts.imports.end(), at, [](std::uint64_t a, const import_facts& f) { return a < f.at; });
    if (i == g->facts.imports.begin()) return wrong(EINVAL, "nothing is imported at this address");
    --i;
    if (at - i->at >= std::min(i->bytes, address_ranges::granule)) return wrong(EINVAL, "no import begins at this address, nor within 2 MiB before it");
    if (i->to_process && i->pid != who.pid) return wrong(EPERM, "process " + std::to_string(i->pid) + " has it for itself");
    if (bytes > i->bytes) return wrong(EINVAL, text(bytes) + " are asked for, the import has " + std::to_string(i->bytes));
    const import_facts was = *i;
    impl_->take_out(*g, i);
    impl_->tell({.what = record::kind::unshared, .group = {.id = id}, .import = {.at = was.at}});
    return was;
}

}  // namespace cohort::sharepool
