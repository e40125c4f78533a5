// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/detail/connections.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace cohort::sharepool::detail {

namespace {

/// A poll key's lowest bits tell what of; the rest which.
enum class source : std::uint64_t { listener, socket, process, timer };
constexpr std::uint64_t key_of(source s, std::uint64_t which) { return which << 2 | static_cast<std::uint64_t>(s); }

constexpr std::size_t most_queued = 16'384, most_queued_bytes = std::size_t{4} << 20;   // of one connection
constexpr std::size_t most_queued_of_all = std::size_t{256} << 20;
// Who has so many answers waiting is not read from until it has read. What it was asked does not count: a process that is about to answer must be read from, or both would wait.
constexpr std::size_t reads_below = 2048, reads_below_bytes = std::size_t{1} << 20;
constexpr int accepts_a_round = 64;

std::uint64_t now() { return sys::real().now(); }

}  // namespace

result<std::unique_ptr<connections>> connections::create(const broker_options& o, broker_figures& figures) {
    auto poll = sys::event_poll::create();
    if (!poll) return std::unexpected(poll.error());
    auto timer = sys::poll_timer::create();
    if (!timer) return std::unexpected(timer.error());
    auto listener = sys::listen_packets(o.socket, o.socket_mode);
    if (!listener) return std::unexpected(listener.error());
    std::unique_ptr<connections> c(new connections(std::move(*poll), std::move(*timer), std::move(*listener), o, figures));
    if (auto r = c->poll_.add(c->listener_.socket.get(), key_of(source::listener, 0), true, false); !r) return std::unexpected(r.error());
    if (auto r = c->poll_.add(c->timer_.fd(), key_of(source::timer, 0), true, false); !r) return std::unexpected(r.error());
    if (auto f = sys::open_file(sys::real(), "/", sys::open_read | sys::open_directory)) c->spare_ = std::move(*f);
    return c;
}

connection* connections::find(std::uint64_t key) {
    const auto it = all_.find(key);
    return it == all_.end() || it->second->over ? nullptr : it->second.get();
}
void connections::each(const std::function<void(connection&)>& f) {
    for (auto& [key, c] : all_) {
        if (!c->over) f(*c);
    }
}

// ---- coming ----

void connections::accept_some() {
    for (int i = 0; i < accepts_a_round; ++i) {
        auto fd = sys::accept_packets(listener_.socket.get());
        if (fd) {
            admit(std::move(*fd));
            continue;
        }
        if ((fd.error().code != EMFILE && fd.error().code != ENFILE) || !spare_) return;
        // Without a descriptor for it, it would stay in the queue, and this loop would not come to rest.
        (void)spare_.close();
        if (auto last = sys::accept_packets(listener_.socket.get())) turn_away(last->get(), EMFILE, "it has no descriptors left");
        if (auto f = sys::open_file(sys::real(), "/", sys::open_read | sys::open_directory)) spare_ = std::move(*f);
        return;
    }
}

void connections::turn_away(int fd, int code, std::string reason) {
    ++figures_.refused;
    (void)sys::send_packet(fd, wire::encode(wire::answer(wire::packet{}, error{code, "broker", "connect", std::move(reason)})), {});
}

void connections::admit(sys::owned_fd fd) {
    if (all_.size() >= options_.most_connections) return turn_away(fd.get(), EUSERS, "it has " + std::to_string(all_.size()) + " connections");
    auto peer = sys::peer_of(fd.get());
    if (!peer) return;
    unsigned& of_user = of_uid_[peer->uid];
    if (of_user >= options_.most_of_uid) return turn_away(fd.get(), EUSERS, "user " + std::to_string(peer->uid) + " has " + std::to_string(of_user) + " connections");
    auto c = std::make_unique<connection>();
    c->key = ++keys_;
    if (auto r = poll_.add(fd.get(), key_of(source::socket, c->key), true, false); !r) return turn_away(fd.get(), r.error().code, r.error().reason);
    ++of_user;
    c->socket = std::move(fd);
    c->peer = std::move(*peer);
    // Who says nothing is no peer.
    at(now() + static_cast<std::uint64_t>(std::chrono::nanoseconds(options_.patience).count()), [this, key = c->key] {
        if (connection* late = find(key); late && !late->greeted) malformed(*late, {EPROTO, "broker", "wait for hello", "none came"});
    });
    figures_.connections = all_.size() + 1;
    all_.emplace(c->key, std::move(c));
}

// ---- reading ----

void connections::read_one(connection& c) {
    std::array<std::byte, wire::most_bytes> into;
    auto in = sys::receive_packet(c.socket.get(), into);
    if (!in) {
        if (in.error().code != EAGAIN) end(c);
        return;
    }
    if (in->bytes == 0) return end(c);
    if (!in->whole) return malformed(c, {EPROTO, "message", "read it", "it is longer, or has more descriptors, than a message may"});
    auto p = wire::decode({into.data(), in->bytes});
    if (!p) return malformed(c, p.error());
    if (!c.greeted && p->what != wire::verb::hello) return malformed(c, {EPROTO, "message", "read it", "hello has to be the first"});
    ++figures_.requests;
    const std::uint64_t begin = now();
    on.message(c, std::move(*p), std::move(in->descriptors));
    figures_.slowest_request_ns = std::max(figures_.slowest_request_ns, now() - begin);
}

void connections::malformed(connection& c, const error& e) {
    ++figures_.malformed;
    if (options_.say) options_.say("process " + std::to_string(c.peer.process.pid) + " of user " + std::to_string(c.peer.uid) + ": " + e.line() + "; disconnected");
    send(c, wire::answer(wire::packet{}, e));
    end(c);
}

// ---- sending ----

void connections::send(connection& c, const wire::packet& p, std::vector<shared_fd> descriptors) {
    if (c.over) return;
    connection::outgoing out{wire::encode(p), std::move(descriptors), p.what == wire::verb::answer};
    c.queued_bytes += out.bytes.size();
    if (out.answers) ++c.queued_answers, c.queued_answer_bytes += out.bytes.size();
    queued_bytes_ += out.bytes.size();
    c.queue.push_back(std::move(out));
    flush(c);
    if (c.over) return;
    if (c.queue.size() > most_queued || c.queued_bytes > most_queued_bytes || queued_bytes_ > most_queued_of_all) {
        ++figures_.malformed;
        if (options_.say) options_.say("process " + std::to_string(c.peer.process.pid) + " does not read its messages; disconnected");
        return end(c);
    }
    repoll(c);
}

void connections::flush(connection& c) {
    while (!c.queue.empty()) {
        const connection::outgoing& o = c.queue.front();
        std::vector<int> numbers;
        for (const shared_fd& f : o.descriptors) numbers.push_back(f->get());
        const int e = sys::send_packet(c.socket.get(), o.bytes, numbers);
        if (e == EAGAIN) return;
        if (e != 0) return end(c);
        c.queued_bytes -= o.bytes.size();
        queued_bytes_ -= o.bytes.size();
        if (o.answers) --c.queued_answers, c.queued_answer_bytes -= o.bytes.size();
        c.queue.pop_front();
    }
}

void connections::repoll(connection& c) {
    const bool reads = c.queued_answers < reads_below && c.queued_answer_bytes < reads_below_bytes, writes = !c.queue.empty();
    if (c.over || (reads == c.reads && writes == c.writes)) return;
    c.reads = reads, c.writes = writes;
    poll_.change(c.socket.get(), key_of(source::socket, c.key), reads, writes);
}

// ---- going ----

void connections::end(connection& c) {
    if (std::exchange(c.over, true)) return;
    over_.push_back(c.key);
}

bool connections::has_hung_up(const connection& c) const {
    std::array item{sys::poll_item{.fd = c.socket.get()}};
    return sys::real().poll(item, 0).has_value() && item[0].hung_up;
}

void connections::sweep() {
    while (!over_.empty()) {
        for (const std::uint64_t key : std::exchange(over_, {})) {
            const auto it = all_.find(key);
            connection& c = *it->second;
            on.ended(c);
            poll_.remove(c.socket.get());
            queued_bytes_ -= c.queued_bytes;
            if (const auto user = of_uid_.find(c.peer.uid); --user->second == 0) of_uid_.erase(user);
            all_.erase(it);
        }
        figures_.connections = all_.size();
    }
}

// ---- processes, times ----

void connections::watch(int pid, int pidfd) { (void)poll_.add(pidfd, key_of(source::process, static_cast<std::uint64_t>(pid)), true, false); }

void connections::at(std::uint64_t when, std::function<void()> f) {
    const auto it = timers_.emplace(when, std::move(f));
    if (it == timers_.begin()) timer_.set(when);
}

void connections::run_timers() {
    while (!timers_.empty() && timers_.begin()->first <= now()) {
        const auto f = std::move(timers_.extract(timers_.begin()).mapped());
        f();
    }
    timer_.set(timers_.empty() ? 0 : timers_.begin()->first);
}

result<void> connections::step(std::chrono::nanoseconds timeout) {
    const auto ready = poll_.wait(timeout);
    if (!ready) return std::unexpected(ready.error());
    for (const sys::poll_event& e : *ready) {
        const std::uint64_t which = e.key >> 2;
        switch (static_cast<source>(e.key & 3)) {
            case source::listener: accept_some(); break;
            case source::timer: run_timers(); break;
            case source::process: on.process_ended(static_cast<int>(which)); break;
            case source::socket: {
                connection* c = find(which);
                if (!c) break;
                if (e.can_write) flush(*c);
                // What it sent before it hung up is read first.
                if (!c->over && e.can_read && c->reads) read_one(*c);
                else if (!c->over && e.hung_up) end(*c);
                if (!c->over) repoll(*c);
                break;
            }
        }
        sweep();
    }
    return {};
}

}  // namespace cohort::sharepool::detail
