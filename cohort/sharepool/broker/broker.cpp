// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/broker.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include <cohort/sharepool/broker/detail/serving.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/process_state.hpp>

namespace cohort::sharepool {

using detail::shared_fd;
using wire::packet;
using wire::verb;

namespace {

constexpr std::uint64_t wanted_descriptors = 1 << 18;  // 50,000 groups, two files each, and who is connected
constexpr std::size_t most_tasks = 256;                // of one connection

packet answer_with(const packet& to, int id) {
    packet a = wire::answer(to);
    a.id = id;
    return a;
}

/// Rows from `all` in pages: `row` makes one of an element, `offset` of the question is where to begin.
template <class Element, class MakeRow>
packet page_of(const packet& p, const std::vector<Element>& all, MakeRow row) {
    packet a = wire::answer(p);
    for (std::size_t i = p.offset; i < all.size(); ++i) {
        if (wire::add_row(a, row(all[i]))) continue;
        a.offset = i;
        break;
    }
    return a;
}

bool may_read(const spg& g, const caller& who) {
    if (who.uid == 0) return true;
    return (g.mode & (who.uid == g.owner_uid ? 0400u : who.gid == g.owner_gid ? 0040u : 0004u)) != 0;
}

}  // namespace

// ---- the server ----

result<void> broker::impl::start() {
    if (options.settings.window.bytes == 0) options.settings.window = {window_base, window_bytes};
    (void)sys::allow_descriptors(wanted_descriptors);
    auto served = detail::connections::create(options, figures);
    if (!served) return std::unexpected(served.error());
    peers = std::move(*served);
    groups = std::make_unique<directory>(options.settings, [this](int pid) { return facts_of(pid); }, [this](const record& r) { write_down(r); });
    peers->on = {.message = [this](connection& c, packet p, descriptors fds) { serve(c, std::move(p), std::move(fds)); },
                 .ended = [this](connection& c) { connection_ended(c); },
                 .process_ended = [this](int pid) { process_ended(pid); }};
    return read_journal();
}

process_facts broker::impl::facts_of(int pid) {
    const sys::process_state s = sys::state_of_process(pid);
    if (!s.exists) return {};
    const auto known = processes.find(s.leader);
    const bool attached = known != processes.end() && known->second.connection != 0;
    return {.exists = true, .exiting = s.exiting, .dumping = s.dumping, .kernel_thread = s.kernel_thread, .attached = attached,
            .leader = attached ? known->second.identity : sys::identify_process(s.leader), .uid = s.uid, .shares_memory = s.shares_memory};
}

void broker::impl::serve(connection& c, packet p, descriptors fds) {
    const auto reply = [&](const result<packet>& r, std::vector<shared_fd> out = {}) {
        if (!r) ++figures.refused;
        peers->send(c, r ? *r : wire::answer(p, r.error()), std::move(out));
    };
    const auto done = [&](const result<void>& r) { reply(r ? result<packet>(wire::answer(p)) : std::unexpected(r.error())); };
    if (c.tasks.size() >= most_tasks && p.what != verb::done) return done(fail(EAGAIN, "broker", "take another request", std::to_string(most_tasks) + " of this connection wait"));
    switch (p.what) {
        case verb::hello: return reply(hello(c, p));
        case verb::create: return reply(create_group(c, p));
        case verb::destroy: return reply(destroy(c, p));
        case verb::add: return add(c, std::move(p));
        case verb::add_local: return add_local(c, p);
        case verb::remove: return remove(c, p);
        case verb::ids: {
            const auto ids = groups->ids_of(p.pid);
            if (!ids) return reply(std::unexpected(ids.error()));
            return reply(page_of(p, *ids, [](int id) { return id; }));
        }
        case verb::groups: return reply(list_groups(p));
        case verb::members: return reply(list_members(p));
        case verb::imports: return reply(list_imports(p));
        case verb::look: {
            std::vector<shared_fd> out;
            const auto r = look(c, p, out);
            return reply(r, std::move(out));
        }
        case verb::limit: return done(groups->set_limit(c.who(), p.id, p.bytes));
        case verb::import: return import(c, p, std::move(fds));
        case verb::unshare: return unshare(c, p);
        case verb::follow: c.follows = true; return done({});
        case verb::stat: return reply(totals(p));
        case verb::holds: return holds(c, p, std::move(fds));
        case verb::done: return answered(c, p);
        case verb::map: case verb::map_import: case verb::unmap_import: case verb::ask_use: case verb::unmap: case verb::recover: case verb::group_died: case verb::answer: break;
    }
    ++figures.malformed;
    done(fail(EPROTO, "message", "read it", "only a broker sends this kind"));
    peers->end(c);
}

result<packet> broker::impl::hello(connection& c, const packet& p) {
    packet a = wire::answer(p);
    a.at = options.settings.window.base, a.bytes = options.settings.window.bytes;
    if (!(p.flags & wire::attach) || c.attached) {
        c.greeted = true;
        return a;
    }
    const sys::process_identity& who = c.peer.process;
    const auto no = [&](int code, std::string reason) { return fail(code, "process " + std::to_string(who.pid), "attach it", std::move(reason)); };
    if (who.pid == 0) return no(EPERM, "it is of another PID namespace, from which the broker cannot be told its number");
    if (auto known = processes.find(who.pid); known != processes.end()) {
        // Its last connection may have ended in this very round, or its number's last owner.
        connection* before = peers->find(known->second.connection);
        if (before && known->second.identity == who) {
            if (!peers->has_hung_up(*before)) return no(EEXIST, "it is attached already");
            connection_ended(*before);
            peers->end(*before);
        } else if (known->second.identity != who) {
            process_ended(who.pid);
        }
    }
    c.greeted = true;
    process& mine = processes[who.pid];
    if (!mine.in_directory) {
        if (auto r = groups->attach(who); !r) {
            if (mine.left.empty()) processes.erase(who.pid);
            return std::unexpected(r.error());
        }
    }
    mine.identity = who;
    mine.in_directory = true;
    mine.connection = c.key;
    if (!mine.ends && c.peer.ends) {
        mine.ends = std::move(c.peer.ends);
        peers->watch(who.pid, mine.ends.get());
    }
    c.attached = true;
    a.flags = waits_for_members ? wire::restarted : 0u;
    return a;
}

result<packet> broker::impl::create_group(connection& c, const packet& p) {
    if (options.may_create && !options.may_create(c.peer.uid, c.peer.gid)) {
        return fail(EPERM, object_of(p.id), "create it", "the broker lets user " + std::to_string(c.peer.uid) + " create none");
    }
    if ((p.flags & ~static_cast<unsigned>(wire::every_group_flag)) != 0) return fail(EINVAL, object_of(p.id), "create it", "unknown flags");
    const auto g = groups->create(c.who(), {.id = p.id, .bytes = p.bytes, .name = p.text, .mode = p.mode, .limit = p.offset, .flags = p.flags});
    if (!g) return std::unexpected(g.error());
    return answer_with(p, g->id);
}

result<packet> broker::impl::destroy(connection& c, const packet& p) {
    const auto members = groups->destroy(c.who(), p.id, (p.flags & wire::force) != 0);
    if (!members) return std::unexpected(members.error());
    for (const member_facts& m : *members) tell_unmap(m.process, p.id);
    group_died(p.id);
    return wire::answer(p);
}

result<packet> broker::impl::list_groups(const packet& p) {
    packet a = wire::answer(p);
    // By id: what comes and goes between two pages makes none of the others be left out.
    const int from = static_cast<int>(std::min<std::uint64_t>(p.offset, INT_MAX));
    for (const int id : groups->groups(from, wire::most_row_bytes / sizeof(wire::group_row) + 1)) {
        if (wire::add_row(a, wire::row_of(*groups->look_at(id)))) continue;
        a.offset = static_cast<std::uint64_t>(id);
        break;
    }
    return a;
}
result<packet> broker::impl::list_members(const packet& p) {
    const auto g = groups->look_at(p.id);
    if (!g) return fail(ENODEV, object_of(p.id), "list its members", "there is no such group");
    return page_of(p, g->members, [](const member_facts& m) {
        return wire::member_row{.pid = m.process.pid, .reads_only = m.prot == access::read, .populate = m.populate, .unused = {}, .mark = m.process.mark};
    });
}
result<packet> broker::impl::list_imports(const packet& p) {
    const auto g = groups->look_at(p.id);
    if (!g) return fail(ENODEV, object_of(p.id), "list its imports", "there is no such group");
    return page_of(p, g->imports, [](const import_facts& f) {
        return wire::import_row{.at = f.at, .bytes = f.bytes, .offset = f.offset, .device = f.device, .inode = f.inode, .pid = f.pid, .to_process = f.to_process};
    });
}
result<packet> broker::impl::totals(const packet& p) {
    const directory::totals t = groups->count();
    const auto n = [](int i) { return static_cast<std::uint64_t>(i); };
    packet a = wire::answer(p);
    wire::add_row(a, wire::totals_row{n(t.groups), n(t.dead), n(t.members), n(t.processes), n(t.imports), t.addresses, figures.connections, figures.requests, figures.refused, figures.malformed, figures.joins,
                                      figures.failed_joins, figures.deaths, figures.recoveries_asked, figures.groups_lost, figures.groups_again, figures.slowest_request_ns});
    return a;
}
result<packet> broker::impl::look(connection& c, const packet& p, std::vector<shared_fd>& out) {
    const auto g = groups->look_at(p.id);
    if (!g) return fail(ENODEV, object_of(p.id), "look at it", "there is no such group");
    packet a = wire::answer(p);
    wire::add_row(a, wire::row_of(*g));
    const auto* files = store.find(p.id);
    if (!files || !may_read(*g, c.who())) return a;
    auto fds = detail::group_file_store::for_reading(*files);
    if (!fds) return std::unexpected(fds.error());
    out = std::move(*fds);
    return a;
}

// ---- the class ----

broker::broker(std::unique_ptr<impl> i) : impl_(std::move(i)) {}
broker::~broker() = default;

result<std::unique_ptr<broker>> broker::create(broker_options o) {
    auto i = std::make_unique<impl>(std::move(o));
    if (auto r = i->start(); !r) return std::unexpected(r.error());
    return std::unique_ptr<broker>(new broker(std::move(i)));
}
int broker::descriptor() const { return impl_->peers->descriptor(); }
result<void> broker::step(std::chrono::nanoseconds timeout) {
    auto done = impl_->peers->step(timeout);
    impl_->tend_journal();
    return done;
}
const directory& broker::groups() const { return *impl_->groups; }
broker_figures broker::figures() const {
    broker_figures f = impl_->figures;
    f.totals = impl_->groups->count();
    return f;
}

}  // namespace cohort::sharepool
