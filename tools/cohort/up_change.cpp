// SPDX-License-Identifier: Apache-2.0
#include "up_change.hpp"

#include <array>
#include <cstdio>
#include <future>

#include <fmt/format.h>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/difference.hpp>
#include <cohort/group/spec.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/local_socket.hpp>

#include "spec_input.hpp"
#include "up.hpp"

namespace cohort::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t most_bytes = std::size_t{64} << 20;

std::string socket_name(const group::owner& o) { return "cohort-up-" + o.mark(); }

/// Up to the first newline, or the end. `patient`: whether to go on when nothing has come for some seconds.
result<std::string> read_line(sys::os& os, int fd, const std::function<bool()>& patient) {
    std::string out;
    while (out.size() < most_bytes) {
        std::array<std::byte, 65536> some;
        const auto n = os.read(fd, some);
        if (!n && n.error().code == EAGAIN && patient()) continue;
        if (!n) return std::unexpected(n.error());
        out.append(reinterpret_cast<const char*>(some.data()), *n);
        if (out.ends_with('\n')) return out;
        if (*n == 0) return fail(ECONNRESET, "socket", "read", "the other end has gone");
    }
    return fail(EMSGSIZE, "socket", "read", "more than 64 MiB in one line");
}

std::string line_of(const change_request& r) {
    ordered_json env = ordered_json::object();
    for (const auto& [name, value] : r.environment) env[name] = value ? ordered_json(*value) : ordered_json();
    const ordered_json out{{"schema_version", 1}, {"text", r.text}, {"file", r.file}, {"origin", r.origin}, {"directory", r.directory}, {"environment", env}, {"bare", r.bare}, {"only_look", r.only_look}};
    return out.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

result<change_request> request_from(const std::string& line) {
    const json j = json::parse(line, nullptr, false);
    if (!j.is_object() || j.value("schema_version", 0) != 1) return fail(EPROTO, "change", "hear", "it is not understood; is it of another version?");
    try {
        change_request r{.text = j.at("text"), .file = j.at("file"), .origin = j.at("origin"), .directory = j.at("directory"), .environment = {}, .bare = j.at("bare"), .only_look = j.at("only_look")};
        for (const auto& [name, value] : j.at("environment").items()) r.environment[name] = value.is_null() ? std::nullopt : std::optional(value.get<std::string>());
        return r;
    } catch (const json::exception& e) {
        return fail(EPROTO, "change", "hear", e.what());
    }
}

/// Why nothing was done. lines: for people.
ordered_json refused(exit_code code, const std::vector<std::string>& lines) { return {{"exit_code", static_cast<int>(code)}, {"lines", lines}, {"text", ""}, {"difference", nullptr}}; }
ordered_json refused(const std::vector<error>& wrong) {
    std::vector<std::string> lines;
    for (const error& e : wrong) lines.push_back(e.line());
    return refused(exit_code_of(wrong.front()), lines);
}
ordered_json done(const group::difference& d) { return {{"exit_code", 0}, {"lines", ordered_json::array()}, {"text", difference_text(d)}, {"difference", difference_json(d)}}; }

}  // namespace

changer::changer(sys::os& os, group::applied& up, life& mine, group::run_changes& run, std::string run_dir, const group::plan& first, bool may_change)
    : os_(os), up_(up), life_(mine), run_(run), run_dir_(std::move(run_dir)), may_change_(may_change), now_(&first, [](const group::plan*) {}) {}

changer::~changer() {
    if (!thread_.joinable()) return;
    sys::end_listening(listener_.get());
    thread_.join();
}

result<void> changer::listen() {
    const auto fd = sys::listen_local(socket_name(life_.now().who));
    if (!fd) return std::unexpected(fd.error());
    listener_ = sys::owned_fd(os_, *fd);
    thread_ = std::thread([this] { serve(); });
    return {};
}

std::shared_ptr<const group::plan> changer::now() const {
    const std::lock_guard guard(mutex_);
    return now_;
}

void changer::serve() {
    while (const auto peer = sys::accept_local(listener_.get())) {
        const sys::owned_fd fd(os_, peer->fd);
        const auto say = [&](const ordered_json& what) { (void)sys::send_local(fd.get(), what.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"); };
        if (peer->uid != sys::effective_uid() && peer->uid != 0) {
            say(refused(exit_code::permission, {"what is up: change: EACCES: it is another user's"}));
            continue;
        }
        const auto line = read_line(os_, fd.get(), [] { return false; });
        const auto asked = line ? request_from(*line) : std::unexpected(line.error());
        say(asked ? answer(*asked) : refused({asked.error()}));
    }
}

ordered_json changer::answer(const change_request& asked) {
    const auto env = [&](std::string_view name) {
        const auto it = asked.environment.find(std::string(name));
        return it == asked.environment.end() ? std::nullopt : it->second;
    };
    group::spec_reading read = group::read_spec(asked.file, asked.text, env);
    auto seen = group::view_machine("live", os_);
    if (!seen) return refused({seen.error()});
    auto sets = group::view_cpusets("live", read.value.cpusets_under, os_);
    if (!sets) return refused({sets.error()});
    seen->cpusets = std::move(*sets);
    const auto now = this->now();
    const group::machine_view without = group::without_own(*seen, *now);
    for (group::fault& f : group::check_cpus(read.value, without)) read.faults.push_back(std::move(f));
    if (!read.faults.empty()) {
        std::vector<std::string> lines;
        for (const group::fault& f : read.faults) lines.push_back(f.line());
        return refused(exit_code::usage, lines);
    }
    const auto next = std::make_shared<const group::plan>(group::make_plan(asked.bare ? group::without_cohorts(read.value) : read.value, without, asked.directory));
    if (!next->holds()) {
        std::vector<std::string> lines;
        for (const group::refusal& r : next->refusals) lines.push_back(r.line());
        return refused(next->unsupported() ? exit_code::unsupported : exit_code::no, lines);
    }
    const group::difference d = group::change_of(*now, *next, *seen);
    if (asked.only_look) return done(d);
    if (!may_change_) return refused({{EBUSY, "\"" + life_.now().name + "\"", "change", "it was not brought up with --detach, and belongs to the terminal where it was"}});
    if (d.nothing()) return done(d);
    const std::vector<error> wrong = group::applied::check(d.steps, os_, life_.about_to());
    return wrong.empty() ? carry_out(next, d, asked.origin) : refused(wrong);
}

ordered_json changer::carry_out(const std::shared_ptr<const group::plan>& next, const group::difference& d, const std::string& origin) {
    const auto before = now();
    const std::vector<std::string> kept = d.kept();
    const auto back = [&, before] {
        const group::difference way = reversed(d);
        auto r = up_.change(way, *before, run_dir_);
        life_.stands(*before, kept, d.steps);
        return r;
    };
    std::promise<result<void>> ended;
    run_.ask({.next = next,
              .kept = kept,
              .exchange = [&]() -> result<void> {
                  if (auto noted = life_.changing(d, *next); !noted) return noted;
                  auto r = up_.change(d, *next, run_dir_);
                  if (r) life_.stands(*next, kept, d.undo);
                  else life_.stands(*before, kept, d.steps);
                  return r;
              },
              .back = back,
              .done = [&](const result<void>& r, const std::shared_ptr<const group::plan>& stands) {
                  if (stands) {
                      const std::lock_guard guard(mutex_);
                      now_ = stands;
                  }
                  // Those of which nothing is left are not shown any more.
                  if (!r && stands && stands != before) {
                      std::vector<std::string> all;
                      for (const group::cohort_plan& c : stands->cohorts) all.push_back(c.name);
                      life_.stands(*stands, all, {});
                  }
                  if (r) life_.now_from(origin);
                  ended.set_value(r);
              }});
    const result<void> r = ended.get_future().get();
    if (!r) return refused({r.error()});
    (void)sys::write_all(os_, 2, "changed to " + origin + "\n" + difference_text(d));
    return done(d);
}

result<change_request> request_of(sys::os& os, const std::string& path) {
    auto text = read_input(os, path);
    if (!text) return std::unexpected(text.error());
    const auto here = os.readlink("/proc/self/cwd");
    if (!here) return std::unexpected(here.error());
    change_request r{.text = std::move(*text), .file = input_name(path), .origin = path == "-" || path.starts_with('/') ? path : *here + "/" + path, .directory = *here, .environment = {}, .bare = false, .only_look = false};
    (void)group::read_spec(r.file, r.text, [&](std::string_view name) { return r.environment[std::string(name)] = os.getenv(std::string(name)); });
    return r;
}

namespace {

result<std::string> ask(sys::os& os, const group::up_state& s, const change_request& request) {
    const auto peer = sys::connect_local(socket_name(s.who));
    if (!peer) return std::unexpected(peer.error());
    const sys::owned_fd fd(os, peer->fd);
    // Whoever came first has the name; what is sent holds a part of our environment.
    if (peer->uid != sys::effective_uid() && peer->uid != 0) return fail(EACCES, "socket", "ask", "process " + std::to_string(peer->pid) + " of another user listens there");
    if (auto sent = sys::send_local(fd.get(), line_of(request)); !sent) return std::unexpected(sent.error());
    return read_line(os, fd.get(), [&] { return alive(os, s); });
}

/// Its descriptors are closed some moments before it is gone.
bool has_ended(sys::os& os, const group::up_state& s) {
    const std::uint64_t until = os.now() + 5'000'000'000;
    while (alive(os, s) && os.now() < until) os.sleep_until(os.now() + 5'000'000);
    return !alive(os, s);
}

}  // namespace

std::optional<outcome> change_running(sys::os& os, const group::up_state& s, const change_request& request, bool as_json) {
    const auto told = ask(os, s, request);
    if (!told && has_ended(os, s)) return std::nullopt;
    if (!told) return fail(told.error().code, "\"" + s.name + "\" in process " + std::to_string(s.who.pid), "ask it to change", told.error().reason);
    const auto answer = ordered_json::parse(*told, nullptr, false);
    if (!answer.is_object()) return fail(EPROTO, "\"" + s.name + "\"", "ask", "its answer is not understood; is it of another version?");
    const int code = answer.value("exit_code", static_cast<int>(exit_code::failed));
    for (const auto& l : answer["lines"]) complain(l.get<std::string>());
    if (as_json) {
        print_json(ordered_json{{"schema_version", 1}, {"kind", "change"}, {"name", s.name}, {"ok", code == 0}, {"only_look", request.only_look}, {"exit_code", code}, {"difference", answer["difference"]}, {"errors", answer["lines"]}});
    } else if (code == 0) {
        print(answer["text"].get<std::string>());
    }
    return static_cast<exit_code>(code);
}

}  // namespace cohort::cli
