// SPDX-License-Identifier: Apache-2.0
// The daemon: serves the share pool's groups to the processes of this machine, watches what is up, keeps named cookies, tells Prometheus.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/coresched/control.hpp>
#include <cohort/coresched/keeper.hpp>
#include <cohort/group/apply.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/up_watch.hpp>
#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/signals.hpp>

#include "../cohort/command.hpp"
#include "keepers.hpp"
#include "metrics.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string socket, window, socket_mode = "0666", allow_create;
    std::optional<std::string> journal, metrics_at, ups, keep;
    bool no_journal = false, only_owner_adds = false, quiet = false;
    std::uint64_t group_bytes = std::uint64_t{64} << 20, local_bytes = std::uint64_t{64} << 20;
    std::int64_t default_group = 0, most_groups = 50'000, most_members = 1'024, most_of_process = 3'000, most_connections = 16'384, patience_ms = 2'000, shown_groups = 256;
};

/// A whole text as a number.
template <class T>
std::optional<T> number(const std::string& text, int base) {
    T v = 0;
    const auto r = std::from_chars(text.data(), text.data() + text.size(), v, base);
    return r.ec == std::errc() && r.ptr == text.data() + text.size() ? std::optional(v) : std::nullopt;
}

/// BASE:SIZE, such as 0x550000000000:320G.
std::optional<sharepool::address_range> window_of(const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos || !text.starts_with("0x")) return std::nullopt;
    const auto base = number<std::uint64_t>(text.substr(2, colon - 2), 16);
    const auto bytes = group::parse_bytes(text.substr(colon + 1));
    constexpr std::uint64_t granule = sharepool::address_ranges::granule, end_of_user_space = std::uint64_t{1} << 47;
    if (!base || !bytes || *base == 0 || *base % granule != 0 || *bytes < granule || *base >= end_of_user_space || *bytes > end_of_user_space - *base) return std::nullopt;
    return sharepool::address_range{*base, *bytes};
}

std::optional<std::vector<unsigned>> uids_of(const std::string& text) {
    std::vector<unsigned> uids;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t comma = std::min(text.find(',', at), text.size());
        const auto uid = number<unsigned>(text.substr(at, comma - at), 10);
        if (!uid) return std::nullopt;
        uids.push_back(*uid);
        at = comma + 1;
    }
    return uids;
}

/// What the command line says as the broker wants it; nothing: it was told what is wrong.
std::optional<sharepool::broker_options> broker_options_of(const options& o) {
    const auto wrong = [](const std::string& text) {
        (void)usage(text);
        return std::nullopt;
    };
    sharepool::broker_options b;
    b.socket = sharepool::socket_name(o.socket);
    if (b.socket.size() > 107 || b.socket == "@") return wrong("--socket \"" + b.socket + "\": a name has 1 to 107 bytes");
    if (o.no_journal && o.journal) return wrong("--journal and --no-journal exclude each other");
    b.journal = o.journal ? *o.journal : o.no_journal || b.socket.starts_with('@') ? "" : b.socket + ".journal";
    const auto mode = number<unsigned>(o.socket_mode, 8);
    if (!mode || *mode > 0777) return wrong("--socket-mode \"" + o.socket_mode + "\": it is no mode of a file, such as 0660");
    b.socket_mode = *mode;
    auto& s = b.settings;
    s.window = {sharepool::window_base, sharepool::window_bytes};
    if (!o.window.empty()) {
        const auto w = window_of(o.window);
        if (!w) return wrong("--window \"" + o.window + "\": a window is BASE:SIZE below 0x800000000000, BASE a multiple of 2 MiB, such as 0x550000000000:320G");
        s.window = *w;
    }
    s.group_bytes = o.group_bytes, s.local_bytes = o.local_bytes;
    s.default_group = static_cast<int>(o.default_group);
    s.only_owner_adds = o.only_owner_adds;
    s.most_groups = static_cast<int>(o.most_groups), s.most_members = static_cast<int>(o.most_members), s.most_groups_of_process = static_cast<int>(o.most_of_process);
    b.most_connections = static_cast<unsigned>(o.most_connections);
    b.patience = std::chrono::milliseconds(o.patience_ms);
    if (!o.allow_create.empty()) {
        const auto uids = uids_of(o.allow_create);
        if (!uids) return wrong("--allow-create \"" + o.allow_create + "\": it is no list of user numbers, such as 1000,1001");
        b.may_create = [allowed = *uids](unsigned uid, unsigned) { return uid == 0 || std::find(allowed.begin(), allowed.end(), uid) != allowed.end(); };
    }
    if (!o.quiet) b.say = [](const std::string& line) { complain(line); };
    return b;
}

std::string listening(const sharepool::broker_options& b, const sharepool::broker& running, const std::optional<metrics>& m, const std::vector<std::string>& cookies) {
    std::array<char, 32> base{};
    (void)std::snprintf(base.data(), base.size(), "0x%llx", static_cast<unsigned long long>(b.settings.window.base));
    std::string line = "listening on " + b.socket + ", window " + base.data() + ":" + group::human_bytes(static_cast<double>(b.settings.window.bytes));
    line += b.journal.empty() ? ", no journal" : ", journal " + b.journal;
    if (const int n = running.figures().totals.groups; n > 0) line += ", " + std::to_string(n) + (n == 1 ? " group" : " groups") + " from it";
    if (m) line += ", metrics at http://" + m->address() + "/metrics";
    for (const std::string& name : cookies) line += (&name == &cookies.front() ? ", keeps cookies " : " ") + name;
    return line;
}

/// "a,b" -> a, b; nothing: one of them is empty.
std::optional<std::vector<std::string>> words_of(const std::string& text) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t comma = std::min(text.find(',', at), text.size());
        if (comma == at) return std::nullopt;
        out.push_back(text.substr(at, comma - at));
        at = comma + 1;
    }
    return out;
}

/// The folders whose ups are watched, and the cookies that are kept. `code` is set where something was wrong, and told.
struct wishes {
    std::vector<std::string> folders, cookies;
    std::optional<exit_code> code;
};
wishes wishes_of(const options& o) {
    const auto wrong = [](const std::string& text) { return wishes{{}, {}, *usage(text)}; };
    wishes w{{group::run_directory(sys::real())}, {}, {}};
    if (o.ups) {
        const auto folders = words_of(*o.ups);
        if (!folders) return wrong("--ups \"" + *o.ups + "\": it is no list of folders, such as /run/cohort/up,/run/user/1000/cohort");
        w.folders = *o.ups == "none" ? std::vector<std::string>{} : *folders;
    }
    if (!o.keep) return w;
    const auto names = words_of(*o.keep);
    if (!names) return wrong("--keep \"" + *o.keep + "\": it is no list of names, such as web,db");
    for (const std::string& name : *names) {
        if (auto good = coresched::check_keeper_name(name); !good) return wrong(good.error().line());
        if (std::ranges::count(*names, name) > 1) return wrong("--keep: \"" + name + "\" is named twice");
    }
    if (const auto here = coresched::facility(sys::real()); !here.there()) {
        complain("--keep: no cookie can be kept here: " + here.why);
        w.code = exit_code::unsupported;
    }
    w.cookies = *names;
    return w;
}

/// What goes on beside the broker, once a second.
class rounds {
public:
    rounds(sys::os& os, const options& o, wishes w, std::optional<metrics> shown, keepers cookies) : os_(os), quiet_(o.quiet), watch_(os, std::move(w.folders)), shown_(std::move(shown)), cookies_(std::move(cookies)) {}

    void look(const sharepool::broker& b) {
        if (next_ != 0 && os_.now() < next_) return;
        next_ = os_.now() + second_ns;
        const group::ups_seen now = watch_.look();
        if (!quiet_) {
            for (const std::string& line : now.news) complain(line);
            for (const std::string& name : cookies_.ended()) complain("cookie \"" + name + "\" is kept no longer: its keeper was told to end");
        }
        if (shown_) shown_->show(b, now, cookies_.now());
    }
    static constexpr std::uint64_t second_ns = 1'000'000'000;

private:
    sys::os& os_;
    const bool quiet_;
    group::up_watch watch_;
    std::optional<metrics> shown_;
    keepers cookies_;
    std::uint64_t next_ = 0;
};

outcome run(const options& o) {
    const auto b = broker_options_of(o);
    if (!b) return exit_code::usage;
    wishes w = wishes_of(o);
    if (w.code) return *w.code;
    auto caught = sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    std::optional<metrics> shown;
    if (o.metrics_at) {
        auto m = metrics::serve(*o.metrics_at, static_cast<std::size_t>(o.shown_groups));
        if (!m && m.error().code == EINVAL) return usage(m.error().line());
        if (!m) return std::unexpected(m.error());
        shown.emplace(std::move(*m));
    }
    auto cookies = keepers::start(w.cookies);
    if (!cookies) return std::unexpected(cookies.error());
    auto running = sharepool::broker::create(*b);
    if (!running) return std::unexpected(running.error());
    complain(listening(*b, **running, shown, w.cookies));

    sys::os& os = sys::real();
    rounds beside(os, o, std::move(w), std::move(shown), std::move(*cookies));
    while (caught->signal() == 0) {
        beside.look(**running);
        std::array<sys::poll_item, 2> wait{{{.fd = (*running)->descriptor(), .want_read = true}, {.fd = caught->fd(), .want_read = true}}};
        if (auto ready = os.poll(wait, rounds::second_ns); !ready) return std::unexpected(ready.error());
        if (auto done = (*running)->step(std::chrono::nanoseconds(0)); !done) return std::unexpected(done.error());
    }
    if (!o.quiet) complain("ends by signal " + std::to_string(caught->signal()) + "; members keep their memory");
    return exit_code::ok;
}

}  // namespace
}  // namespace cohort::cli

int main(int argc, char** argv) {
    using namespace cohort::cli;
    registry all("cohortd", "Serves groups of processes that share memory (cohort pool), watches what is up, keeps named cookies, and tells Prometheus. Its death stops joins and nothing else: started again, it takes the groups up.");
    auto o = std::make_shared<options>();
    all.program()
        .option("--socket", o->socket, "PATH", "where it listens; \"@name\" is an abstract socket. Default: $COHORT_SOCKET, else /run/cohort/pool.sock for root, $XDG_RUNTIME_DIR/cohort/pool.sock for others")
        .option("--socket-mode", o->socket_mode, "MODE", "who may connect; each group has rights of its own (0666)")
        .option("--journal", o->journal, "PATH", "what the next broker reads; default: beside the socket, PATH.journal")
        .flag("--no-journal", o->no_journal, "groups end with the broker")
        .option("--window", o->window, "BASE:SIZE", "addresses for groups (0x550000000000:320G, which every program that is linked with the library has reserved)")
        .bytes("--group-size", o->group_bytes, "addresses of a group that a join makes (64M)")
        .bytes("--local-size", o->local_bytes, "addresses of a process's own hidden group (64M)")
        .number("--default-group", o->default_group, 0, 99'999, "every join is to this group, whatever it asks for; 0: as asked for")
        .flag("--only-owner-adds", o->only_owner_adds, "only a group's owner adds to it")
        .number("--most-groups", o->most_groups, 1, 99'999, "of the machine (50000)")
        .number("--most-groups-of-process", o->most_of_process, 1, 99'999, "(3000)")
        .number("--most-members", o->most_members, 1, 1'024, "of a group (1024)")
        .number("--most-connections", o->most_connections, 1, 1'000'000, "more are turned away (16384)")
        .number("--patience", o->patience_ms, 1, 3'600'000, "milliseconds for a process that is told to map, and for members after a restart (2000)")
        .option("--allow-create", o->allow_create, "UID,...", "who may create groups, beside root; default: everybody")
        .option("--metrics", o->metrics_at, "ADDRESS", "figures for Prometheus at http://ADDRESS/metrics; of this machine alone: 127.0.0.1:9464")
        .number("--metrics-groups", o->shown_groups, 0, 100'000, "so many groups have series of their own (256)")
        .option("--ups", o->ups, "DIR,...", "folders of ups (`cohort up`) that are watched, of users who are trusted; none: no folder. Default: where `cohort up` of this user writes")
        .option("--keep", o->keep, "NAME,...", "keep a cookie of each name, as `cohort coresched keep` does; exit code 3 where the kernel has none")
        .flag("--quiet", o->quiet, "only the first line and errors")
        .notes("One line on stderr says when it listens. SIGTERM and SIGINT end it, exit code 0.\n"
               "Of what is up it tells, a line each: CPUs that leave a cohort and come back, partitions that become invalid or are taken back,\n"
               "owners that were killed. All of it, and what jobs have done, is in the figures. A daemon that is started again keeps new cookies.\nExample:\n  cohortd --socket /tmp/pool.sock & COHORT_SOCKET=/tmp/pool.sock cohort pool create --id 7 --size 1G")
        .run([o] { return run(*o); });
    return all.main(argc, argv);
}
