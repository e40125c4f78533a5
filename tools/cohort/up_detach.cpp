// SPDX-License-Identifier: Apache-2.0
// `up --detach`: this program starts itself in a session of its own, and relays what that says until all is up.
#include <array>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/signals.hpp>

#include "up.hpp"

namespace cohort::cli {
namespace {

struct ends {
    sys::owned_fd read, write;
    static result<ends> make(sys::os& os) {
        auto made = os.pipe();
        if (!made) return std::unexpected(made.error());
        return ends{{os, made->read}, {os, made->write}};
    }
};

/// The process that stays, as long as it has not told that all is up.
class starting {
public:
    starting(sys::os& os, int pid, ends out, ends err) : os_(os), pid_(pid), out_(std::move(out)), err_(std::move(err)) {
        (void)out_.write.close();
        (void)err_.write.close();
    }
    /// Until it has spoken its line and its talk has gone elsewhere, or it has ended. A signal to us ends it.
    result<void> listen(sys::signal_catcher& caught) {
        bool asked = false;
        while (out_.read || err_.read) {
            std::array<sys::poll_item, 3> items{{{.fd = caught.fd(), .want_read = !asked}, {.fd = out_.read.get(), .want_read = true}, {.fd = err_.read.get(), .want_read = true}}};
            if (auto ready = os_.poll(items, std::nullopt); !ready) return std::unexpected(ready.error());
            if (caught.signal() != 0 && !std::exchange(asked, true)) (void)os_.kill(pid_, SIGTERM);
            if (items[1].can_read || items[1].hung_up) {
                if (auto r = take(out_.read, data_); !r) return r;
            }
            if (items[2].can_read || items[2].hung_up) {
                std::string talk;
                if (auto r = take(err_.read, talk); !r) return r;
                (void)sys::write_all(os_, 2, talk);
            }
            if (is_up() && !err_.read) return {};
        }
        return {};
    }
    bool is_up() const { return data_.starts_with(started_word) && data_.ends_with('\n'); }
    const std::string& data() const { return data_; }

private:
    result<void> take(sys::owned_fd& from, std::string& into) {
        std::array<std::byte, 4096> some;
        auto n = os_.read(from.get(), some);
        if (!n) return std::unexpected(n.error());
        if (*n == 0) return from.close();
        into.append(reinterpret_cast<const char*>(some.data()), *n);
        return {};
    }

    sys::os& os_;
    const int pid_;
    ends out_, err_;
    std::string data_;
};

std::string introduction(const nlohmann::json& up) {
    std::string cohorts;
    for (const auto& c : up["cohorts"]) cohorts += (cohorts.empty() ? "" : ", ") + c["name"].get<std::string>();
    const std::string name = up["name"];
    return fmt::format("{} is up: cohorts {}; {} jobs; process {}\n`cohort status {}` shows it, `cohort down {}` ends it\n", name, cohorts, up["jobs"].size(), up["owner"]["pid"].get<int>(), name, name);
}

}  // namespace

outcome start_detached(const std::vector<std::string>& words, bool reads_input, bool json) {
    sys::os& os = sys::real();
    auto caught = sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    auto out = ends::make(os), err = ends::make(os);
    if (!out) return std::unexpected(out.error());
    if (!err) return std::unexpected(err.error());
    auto nothing = sys::open_file(os, "/dev/null", sys::open_read);
    if (!nothing) return std::unexpected(nothing.error());
    sys::spawn_request r{.argv = words, .stdin_fd = reads_input ? 0 : nothing->get(), .stdout_fd = out->write.get(), .stderr_fd = err->write.get(), .new_session = true};
    r.argv[0] = "up-owner";
    r.argv.insert(r.argv.begin(), "/proc/self/exe");
    const auto pid = os.spawn(r);
    if (!pid) return std::unexpected(pid.error());
    starting owner(os, *pid, std::move(*out), std::move(*err));
    if (auto heard = owner.listen(*caught); !heard) return std::unexpected(heard.error());
    if (!owner.is_up()) {
        print(owner.data());
        const auto end = os.wait(*pid);
        if (!end) return std::unexpected(end.error());
        if (end->signal != 0) return fail(ECHILD, "process " + std::to_string(*pid), "bring up", end->text());
        return static_cast<exit_code>(end->code);
    }
    const auto told = nlohmann::ordered_json::parse(owner.data().substr(started_word.size()));
    if (json) print_json(told);
    else print(introduction(told["ups"][0]));
    return exit_code::ok;
}

}  // namespace cohort::cli
