// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/client.hpp>

#include <array>
#include <cerrno>
#include <utility>

#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/packet_socket.hpp>

namespace cohort::sharepool {

namespace {

std::unexpected<error> late() { return fail(ETIMEDOUT, "broker", "wait for it", "it does not answer"); }
std::unexpected<error> gone() { return fail(ECONNRESET, "broker", "ask it", "it has closed the connection"); }

/// False: the time is over.
bool wait_for(int socket, bool write, std::uint64_t until) {
    const std::uint64_t now = sys::real().now();
    if (now >= until) return false;
    std::array item{sys::poll_item{.fd = socket, .want_read = !write, .want_write = write}};
    (void)sys::real().poll(item, until - now);
    return true;
}

}  // namespace

std::string default_socket() {
    const unsigned uid = sys::effective_uid();
    if (uid == 0) return "/run/cohort/pool.sock";
    return sys::real().getenv("XDG_RUNTIME_DIR").value_or("/run/user/" + std::to_string(uid)) + "/cohort/pool.sock";
}
std::string socket_name(const std::string& name) {
    if (!name.empty()) return name;
    const auto set = sys::real().getenv("COHORT_SOCKET");
    return set && !set->empty() ? *set : default_socket();
}

result<void> send_message(int socket, const wire::packet& p, std::span<const int> descriptors, std::uint64_t until) {
    const auto bytes = wire::encode(p);
    for (;;) {
        const int e = sys::send_packet(socket, bytes, descriptors);
        if (e == 0) return {};
        if (e == EPIPE || e == ECONNRESET || e == ENOTCONN) return gone();
        if (e != EAGAIN) return fail(e, "broker", "send it a message", errno_text(e));
        if (!wait_for(socket, true, until)) return late();
    }
}

result<broker_client::answered> receive_message(int socket, std::uint64_t until) {
    std::array<std::byte, wire::most_bytes> into;
    for (bool reset = false;;) {
        auto in = sys::receive_packet(socket, into);
        // Told once, before what the other end had to say when it closed without reading all.
        if (!in && in.error().code == ECONNRESET && !std::exchange(reset, true)) continue;
        if (!in && in.error().code != EAGAIN) return gone();
        if (!in) {
            if (!wait_for(socket, false, until)) return late();
            continue;
        }
        if (in->bytes == 0) return gone();
        if (!in->whole) return fail(EPROTO, "broker", "read its message", "it is too long");
        auto p = wire::decode({into.data(), in->bytes});
        if (!p) return std::unexpected(p.error());
        return broker_client::answered{std::move(*p), std::move(in->descriptors)};
    }
}

result<broker_client> broker_client::connect(const std::string& socket, std::chrono::milliseconds patience) {
    auto fd = sys::connect_packets(socket_name(socket));
    if (!fd) return std::unexpected(fd.error());
    broker_client c(std::move(*fd), patience);
    if (auto r = c.ask({.what = wire::verb::hello}); !r) return std::unexpected(r.error());
    return c;
}

result<broker_client::answered> broker_client::ask(wire::packet p, std::span<const int> descriptors) {
    const std::uint64_t until = sys::real().now() + static_cast<std::uint64_t>(std::chrono::nanoseconds(patience_).count());
    p.number = ++numbers_;
    const auto sent = send_message(fd_.get(), p, descriptors, until);
    // Who was turned away finds the reason before the end.
    if (!sent && sent.error().code != ECONNRESET) return std::unexpected(sent.error());
    for (;;) {
        auto got = receive_message(fd_.get(), until);
        if (!got) return got;
        if (got->p.what != wire::verb::answer || (got->p.number != p.number && got->p.number != 0)) continue;
        // A trace comes with a failure, too.
        if (got->p.code != 0 && !(p.flags & wire::with_trace)) return std::unexpected(wire::error_of(got->p));
        return got;
    }
}

result<int> broker_client::create(const group_request& r) {
    auto got = ask({.what = wire::verb::create, .id = r.id, .flags = r.flags, .mode = r.mode, .bytes = r.bytes, .offset = r.limit, .text = r.name});
    if (!got) return std::unexpected(got.error());
    return got->p.id;
}
result<void> broker_client::destroy(int id, bool force) {
    auto got = ask({.what = wire::verb::destroy, .id = id, .flags = force ? wire::force : 0u});
    if (!got) return std::unexpected(got.error());
    return {};
}
result<int> broker_client::add(const add_request& r, trace* seen) {
    const std::uint32_t flags = (r.prot == access::read ? wire::read_only : 0u) | (r.single ? wire::single : 0u) | (r.populate ? wire::populate : 0u) | (seen ? wire::with_trace : 0u);
    auto got = ask({.what = wire::verb::add, .pid = r.pid, .id = r.id, .flags = flags});
    if (!got) return std::unexpected(got.error());
    if (seen) *seen = wire::trace_of(got->p);
    if (got->p.code != 0) return std::unexpected(wire::error_of(got->p));
    return got->p.id;
}
result<void> broker_client::remove(int pid, int id) {
    auto got = ask({.what = wire::verb::remove, .pid = pid, .id = id});
    if (!got) return std::unexpected(got.error());
    return {};
}
result<void> broker_client::set_limit(int id, std::uint64_t bytes) {
    auto got = ask({.what = wire::verb::limit, .id = id, .bytes = bytes});
    if (!got) return std::unexpected(got.error());
    return {};
}
result<std::vector<int>> broker_client::ids_of(int pid) {
    auto got = ask({.what = wire::verb::ids, .pid = pid});
    if (!got) return std::unexpected(got.error());
    return wire::rows_of<int>(got->p);
}

/// Answers are pages: `offset` tells where the next one begins, 0 that there is none.
template <class Row>
result<std::vector<Row>> broker_client::list(wire::packet p) {
    std::vector<Row> all;
    do {
        auto got = ask(p);
        if (!got) return std::unexpected(got.error());
        const auto rows = wire::rows_of<Row>(got->p);
        all.insert(all.end(), rows.begin(), rows.end());
        p.offset = got->p.offset;
    } while (p.offset != 0);
    return all;
}
result<std::vector<wire::group_row>> broker_client::groups() { return list<wire::group_row>({.what = wire::verb::groups}); }
result<std::vector<wire::member_row>> broker_client::members(int id) { return list<wire::member_row>({.what = wire::verb::members, .id = id}); }
result<std::vector<wire::import_row>> broker_client::imports(int id) { return list<wire::import_row>({.what = wire::verb::imports, .id = id}); }

result<wire::totals_row> broker_client::totals() {
    auto got = ask({.what = wire::verb::stat});
    if (!got) return std::unexpected(got.error());
    const auto rows = wire::rows_of<wire::totals_row>(got->p);
    if (rows.size() != 1) return fail(EPROTO, "broker", "read its totals", "there are none");
    return rows.front();
}
result<broker_client::looked> broker_client::look(int id) {
    auto got = ask({.what = wire::verb::look, .id = id});
    if (!got) return std::unexpected(got.error());
    const auto rows = wire::rows_of<wire::group_row>(got->p);
    if (rows.size() != 1) return fail(EPROTO, "broker", "read its answer", "it shows no group");
    return looked{rows.front(), std::move(got->descriptors)};
}

}  // namespace cohort::sharepool
