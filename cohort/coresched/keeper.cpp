// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/keeper.hpp>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>

namespace cohort::coresched {
namespace {

constexpr std::size_t longest_name = 64;
constexpr std::string_view greeting = "cohort-cookie 1 ";

std::string beginning() { return "cohort-cookie-" + std::to_string(sys::effective_uid()) + "-"; }
std::string object(const std::string& name) { return "named cookie \"" + name + "\""; }

/// Tells a keeper something ("end", or nothing) and answers what it says of itself.
result<kept> ask(const std::string& name, std::string_view what, const char* act) {
    if (auto ok = check_keeper_name(name); !ok) return std::unexpected(ok.error());
    const auto peer = sys::connect_local(beginning() + name);
    if (!peer && peer.error().code == ECONNREFUSED) return fail(ENOENT, object(name), act, "nobody keeps it");
    if (!peer) return fail(peer.error().code, object(name), act, peer.error().reason);
    const sys::owned_fd stream(sys::real(), peer->fd);
    if (peer->uid != sys::effective_uid()) return fail(EPERM, object(name), act, "user " + std::to_string(peer->uid) + " answers to its name");
    if (auto sent = sys::send_local(stream.get(), std::string(what) + "\n"); !sent) return fail(sent.error().code, object(name), act, sent.error().reason);
    const auto text = sys::read_rest(sys::real(), stream.get(), 256);
    if (!text) return fail(text.error().code, object(name), act, text.error().reason);
    kept out{.name = name};
    std::istringstream words(text->starts_with(greeting) ? text->substr(greeting.size()) : std::string());
    if (!(words >> out.id >> out.value)) return fail(EIO, object(name), act, "who answers is no keeper");
    return out;
}

}  // namespace

result<void> check_keeper_name(const std::string& name) {
    const auto letter = [](unsigned char c) { return c < 128 && std::isalnum(c); };
    const bool good = !name.empty() && name.size() <= longest_name && letter(static_cast<unsigned char>(name[0])) &&
                      std::ranges::all_of(name, [&](char c) { return letter(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-'; });
    if (good) return {};
    return fail(EINVAL, object(name), "use the name", "1 to 64 letters, digits, '.', '_' and '-' make one, a letter or digit first");
}

result<std::unique_ptr<keeper>> keeper::create(sys::os& os, const std::string& name, const source& from, const tag_options& o) {
    if (auto ok = check_keeper_name(name); !ok) return std::unexpected(ok.error());
    // The name first: a cookie that is taken cannot be given back to who had another.
    const auto listener = sys::listen_local(beginning() + name);
    if (!listener && listener.error().code == EADDRINUSE) return fail(EEXIST, object(name), "keep it", "it is kept already");
    if (!listener) return fail(listener.error().code, object(name), "keep it", listener.error().reason);
    sys::owned_fd socket(sys::real(), *listener);
    const auto value = take(os, from, o);
    if (!value) return std::unexpected(value.error());
    return std::unique_ptr<keeper>(new keeper({.name = name, .id = os.gettid(), .value = *value}, socket.release()));
}

keeper::~keeper() { (void)sys::real().close(listener_); }

bool keeper::answer() {
    const auto peer = sys::accept_local(listener_);
    if (!peer) return false;
    const sys::owned_fd stream(sys::real(), peer->fd);
    if (peer->uid != sys::effective_uid() && peer->uid != 0) return false;
    std::string asked;
    for (char c = 0; asked.size() < 16 && c != '\n'; asked += c) {
        const auto got = sys::real().read(stream.get(), std::as_writable_bytes(std::span(&c, 1)));
        if (!got || *got == 0) return false;
    }
    (void)sys::send_local(stream.get(), std::string(greeting) + std::to_string(about_.id) + " " + std::to_string(about_.value) + "\n");
    return asked == "end\n";
}

result<void> keeper::serve(int stop_fd) {
    for (;;) {
        sys::poll_item items[] = {{.fd = listener_, .want_read = true}, {.fd = stop_fd, .want_read = true}};
        if (auto r = sys::real().poll(std::span(items, stop_fd < 0 ? 1 : 2), std::nullopt); !r) return std::unexpected(r.error());
        if (items[1].can_read) return {};
        if (items[0].can_read && answer()) return {};
    }
}

result<kept> find_kept(const std::string& name) { return ask(name, "", "find its keeper"); }

result<void> end_kept(const std::string& name) {
    if (auto r = ask(name, "end", "end its keeper"); !r) return std::unexpected(r.error());
    return {};
}

result<std::vector<kept>> all_kept() {
    const auto names = sys::local_names(beginning());
    if (!names) return std::unexpected(names.error());
    std::vector<kept> out;
    for (const std::string& n : *names) {
        // One that has ended meanwhile, or is none, is not kept.
        if (auto one = find_kept(n.substr(beginning().size()))) out.push_back(*one);
    }
    return out;
}

}  // namespace cohort::coresched
