// SPDX-License-Identifier: Apache-2.0
/// The thread of a share_pool: it reads everything that the broker sends, does what it asks for, and finds the broker again when it was started anew.
#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <cohort/sharepool/detail/attachment.hpp>
#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sys/packet_socket.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {

using wire::packet;
using wire::verb;

namespace {

constexpr std::uint64_t millisecond = 1'000'000;
constexpr std::uint64_t first_pause = 10 * millisecond, longest_pause = 320 * millisecond;  // between two looks for a broker

std::uint64_t after(std::chrono::nanoseconds t) { return sys::real().now() + static_cast<std::uint64_t>(t.count()); }

}  // namespace

// ---- beginning ----

/// One question, by who has the socket to himself; what the broker asks meanwhile is done. Errors: what it answered; ETIMEDOUT, ECONNRESET.
result<broker_client::answered> share_pool::impl::exchange(int fd, packet p, std::span<const int> descriptors) {
    const std::uint64_t until = after(options.patience);
    {
        lock_guard hold(lock);
        p.number = ++numbers;
    }
    if (auto r = send_message(fd, p, descriptors, until); !r && r.error().code != ECONNRESET) return std::unexpected(r.error());
    for (;;) {
        auto m = receive_message(fd, until);
        if (!m) return m;
        if (m->p.what != verb::answer) {
            serve(fd, *m);
        } else if (m->p.number == p.number || m->p.number == 0) {
            if (m->p.code != 0) return std::unexpected(wire::error_of(m->p));
            return m;
        }
    }
}

/// Says hello, and shows what the process has.
result<void> share_pool::impl::shake_hands(int fd) {
    if (auto r = exchange(fd, {.what = verb::hello, .flags = wire::attach}); !r) return std::unexpected(r.error());
    bool follow = false;
    {
        lock_guard hold(lock);
        for (const auto& [id, g] : groups) g->offered = false;
        follow = !notifiers.empty();
    }
    if (follow) {
        if (auto r = exchange(fd, {.what = verb::follow}); !r) return std::unexpected(r.error());
    }
    return offer(fd);
}

/// Shows groups that the broker may have forgotten. EAGAIN: it cannot tell before others have come; again later.
result<void> share_pool::impl::offer(int fd) {
    std::vector<std::shared_ptr<detail::joined>> mine;
    {
        lock_guard hold(lock);
        for (const auto& [id, g] : groups) {
            if (!g->offered) mine.push_back(g);
        }
    }
    to_offer = false;
    for (const auto& g : mine) {
        const std::array both = g->writes ? std::array{g->writes->internals().data_fd, g->writes->internals().meta_fd} : std::array{g->data.get(), g->metadata.get()};
        const auto taken = exchange(fd, {.what = verb::holds, .id = g->id, .flags = g->writes ? 0u : wire::read_only}, both);
        const int code = taken ? 0 : taken.error().code;
        if (code == ETIMEDOUT || code == ECONNRESET) return std::unexpected(taken.error());
        g->offered = code != EAGAIN;
        to_offer |= code == EAGAIN;
        // A group that the broker does not know any more stays as it is, as long as it is used; nobody joins it.
        g->lost = code != 0;
        for (const auto& [at, file] : g->imports) {
            const std::array one{file.get()};
            if (taken) (void)exchange(fd, {.what = verb::holds, .id = g->id, .at = at}, one);
        }
    }
    return {};
}

// ---- serving ----

void share_pool::impl::main() {
    sys::name_thread("cohort-pool");
    thread_id.store(sys::thread_id());
    while (!ending.load()) {
        int fd;
        {
            lock_guard hold(lock);
            fd = socket.get();
        }
        if (fd < 0) {
            if (!reconnect()) return;
            continue;
        }
        std::array items{sys::poll_item{.fd = fd, .want_read = true}, sys::poll_item{.fd = bell->fd(), .want_read = true}};
        (void)sys::real().poll(items, to_offer ? std::optional(100 * millisecond) : std::nullopt);
        if (items[1].can_read) continue;
        if (!items[0].can_read) {
            if (to_offer && !offer(fd)) fail_all();
            continue;
        }
        auto m = receive_message(fd, 0);
        if (m) {
            serve(fd, *m);
        } else if (m.error().code != ETIMEDOUT) {
            fail_all();
        }
    }
}

/// What waits has no answer any more.
void share_pool::impl::fail_all() {
    lock_guard hold(lock);
    socket = {};
    for (auto& [number, w] : waiting) w->done = true;
    waiting.clear();
    answered.notify_all();
}

/// Until there is a broker. False: the process leaves first.
bool share_pool::impl::reconnect() {
    for (std::uint64_t pause = first_pause; !ending.load(); pause = std::min(2 * pause, longest_pause)) {
        auto fd = sys::connect_packets(socket_name(options.socket));
        if (fd && shake_hands(fd->get())) {
            lock_guard hold(lock);
            socket = std::move(*fd);
            return true;
        }
        std::array item{sys::poll_item{.fd = bell->fd(), .want_read = true}};
        (void)sys::real().poll(item, pause);
    }
    return false;
}

void share_pool::impl::serve(int fd, broker_client::answered& m) {
    const packet& p = m.p;
    const auto done = [&](const result<void>& r) {
        // Who cannot be told within this time has closed the connection for all that matters.
        (void)send_message(fd, r ? wire::answer(p, verb::done) : wire::answer(p, r.error(), verb::done), {}, after(options.patience));
    };
    switch (p.what) {
        case verb::answer: return wake(m);
        case verb::map: return done(map(p, m.descriptors));
        case verb::map_import:
        case verb::unmap_import: {
            const auto g = find(p.id);
            if (!g) return done(fail(ENODEV, "group " + std::to_string(p.id), "map an import", "the process is not in it"));
            if (p.what == verb::unmap_import) {
                unmap_import(*g, p.at);
                if (p.number != 0) done({});
                return;
            }
            if (m.descriptors.size() != 1) return done(fail(EPROTO, "group " + std::to_string(p.id), "map an import", "no descriptor came with it"));
            return done(map_import(*g, p, std::move(m.descriptors[0])));
        }
        case verb::ask_use: {
            const auto g = find(p.id);
            return done(g && in_use(*g) ? fail(EBUSY, "group " + std::to_string(p.id), "leave it", "it has areas") : result<void>{});
        }
        case verb::unmap: {
            std::shared_ptr<detail::joined> g;  // goes without the lock
            lock_guard hold(lock);
            if (auto out = groups.extract(p.id)) g = std::move(out.mapped());
            if (p.id == local) local = 0;
            break;
        }
        case verb::recover: return done(recover(p));
        case verb::group_died: {
            std::vector<std::function<void(int)>> all;
            {
                lock_guard hold(lock);
                for (const auto& [number, f] : notifiers) all.push_back(f);
            }
            for (const auto& f : all) f(p.id);
            break;
        }
        default: break;  // a later version's, which is none that waits
    }
}

void share_pool::impl::wake(broker_client::answered& m) {
    lock_guard hold(lock);
    const auto w = waiting.find(m.p.number);
    if (w == waiting.end()) return;
    w->second->done = true;
    w->second->what = std::move(m);
    waiting.erase(w);
    answered.notify_all();
}

// ---- groups ----

/// A group that no broker knows, and that is not used, gives way to one that a broker puts there.
void share_pool::impl::make_room(const packet& p) {
    std::vector<std::shared_ptr<detail::joined>> unused;  // go without the lock
    lock_guard hold(lock);
    for (auto it = groups.begin(); it != groups.end();) {
        const detail::joined& g = *it->second;
        const bool in_the_way = g.id == p.id || (g.base < p.at + p.bytes && p.at < g.base + g.bytes);
        if (!g.lost || !in_the_way || in_use(g)) {
            ++it;
            continue;
        }
        unused.push_back(std::move(it->second));
        it = groups.erase(it);
    }
}

result<void> share_pool::impl::map(const packet& p, std::vector<sys::owned_fd>& fds) {
    const std::string object = "group " + std::to_string(p.id);
    if (fds.size() != 2) return fail(EPROTO, object, "join it", "two descriptors were to come, there are " + std::to_string(fds.size()));
    make_room(p);
    auto g = std::make_shared<detail::joined>();
    g->id = p.id, g->base = p.at, g->bytes = p.bytes, g->limit = p.offset;
    g->prot = p.flags & wire::read_only ? access::read : access::read_write;
    result<std::uint64_t> populated = 0;
    if (g->prot == access::read) {
        auto v = view::attach(fds[0].get(), fds[1].get());
        if (!v) return std::unexpected(v.error());
        g->reads = std::make_unique<view>(std::move(*v));
        g->data = std::move(fds[0]), g->metadata = std::move(fds[1]);
        if (p.flags & wire::populate) populated = g->reads->populate();
    } else {
        auto m = member::join(fds[0].get(), fds[1].get());
        if (!m) return std::unexpected(m.error());
        g->writes = std::make_unique<member>(std::move(*m));
        if (p.flags & wire::populate) populated = g->writes->populate();
    }
    if (!populated) return std::unexpected(populated.error());
    std::shared_ptr<detail::joined> before;  // one that the broker has forgotten: goes without the lock
    lock_guard hold(lock);
    before = std::exchange(groups[p.id], std::move(g));
    return {};
}

result<void> share_pool::impl::recover(const packet& p) {
    const auto g = find(p.id);
    if (!g || !g->writes) return fail(ENODEV, "group " + std::to_string(p.id), "recover what process " + std::to_string(p.pid) + " left", "the process is not in it for writing");
    (void)(p.pid == 0 ? g->writes->recover_dead() : g->writes->recover_process(p.pid));
    return {};
}

result<void> share_pool::impl::map_import(detail::joined& g, const packet& p, sys::owned_fd file) {
    void* at = reinterpret_cast<void*>(p.at);
    const auto mapped = g.writes ? g.writes->map_import(at, p.bytes, file.get(), p.offset, p.flags & wire::read_only ? access::read : access::read_write)
                                 : g.reads->map_import(at, p.bytes, file.get(), p.offset);
    if (mapped) g.imports.insert_or_assign(p.at, std::move(file));
    return mapped;
}
void share_pool::impl::unmap_import(detail::joined& g, std::uint64_t at) {
    if (g.imports.erase(at) == 0) return;
    void* p = reinterpret_cast<void*>(at);
    (void)(g.writes ? g.writes->unmap_import(p) : g.reads->unmap_import(p));
}

bool share_pool::impl::in_use(const detail::joined& g) {
    const census c = g.writes ? g.writes->count() : g.reads->count();
    return c.areas + c.owned + c.kept + g.imports.size() != 0;
}

}  // namespace cohort::sharepool
