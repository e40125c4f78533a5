// SPDX-License-Identifier: Apache-2.0
// Ends what is up.
#include <algorithm>
#include <csignal>

#include <fmt/format.h>

#include <cohort/group/apply.hpp>
#include <cohort/sys/fd.hpp>

#include "up.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

struct options {
    std::string name;
    bool all = false, kill = false, json = false;
};

/// What it takes beside the jobs' own patience; then the owner is killed, and what it left is swept.
constexpr std::uint64_t grace_ns = 60'000'000'000;

/// Waits for the owner's end; false: it is still there when the time is over.
result<bool> ended(sys::os& os, const group::up_state& s, std::uint64_t until) {
    auto fd = os.pidfd(s.who.pid);
    const sys::owned_fd handle = fd ? sys::owned_fd(os, *fd) : sys::owned_fd();
    while (alive(os, s)) {
        const std::uint64_t now = os.now();
        if (now >= until) return false;
        // Before Linux 5.3 there is no such descriptor: then it is looked for again and again.
        sys::poll_item item{.fd = handle.get(), .want_read = true};
        const std::uint64_t wait = handle ? until - now : std::min<std::uint64_t>(until - now, 20'000'000);
        if (auto r = os.poll({&item, handle ? 1u : 0u}, wait); !r) return std::unexpected(r.error());
    }
    return true;
}

/// The owner undoes everything itself, if it can.
result<void> end(sys::os& os, const group::up_state& s, bool kill) {
    if (!alive(os, s)) return {};
    if (auto sent = os.kill(s.who.pid, kill ? SIGKILL : SIGTERM); !sent && sent.error().code != ESRCH) return sent;
    auto gone = ended(os, s, os.now() + s.patience_ns + grace_ns);
    if (gone && !*gone && !kill) {
        complain(fmt::format("\"{}\": its process {} does not end; it is killed", s.name, s.who.pid));
        return end(os, s, true);
    }
    if (!gone) return std::unexpected(gone.error());
    return *gone ? result<void>{} : fail(ETIMEDOUT, "process " + std::to_string(s.who.pid), "end", "it was killed, and is still there");
}

struct chosen {
    std::vector<group::up_state> which;
    exit_code code = exit_code::ok;
};

/// By its name, or by that of one of its cohorts.
chosen choose(const std::vector<group::up_state>& all, const options& o) {
    if (o.all || (o.name.empty() && all.size() <= 1)) return {all, exit_code::ok};
    std::string names;
    for (const group::up_state& s : all) names += (names.empty() ? "" : ", ") + s.name;
    if (o.name.empty()) {
        complain("down: which one? " + names + " are up (--all: all of them)");
        return {{}, exit_code::usage};
    }
    for (const bool by_cohort : {false, true}) {
        for (const group::up_state& s : all) {
            const bool has = std::ranges::any_of(s.cohorts, [&](const group::up_cohort& c) { return c.name == o.name; });
            if (by_cohort ? has : s.name == o.name) return {{s}, exit_code::ok};
        }
    }
    complain("\"" + o.name + "\" is not up" + (names.empty() ? "" : "; " + names + (all.size() == 1 ? " is" : " are")));
    return {{}, exit_code::no};
}

outcome down(const options& o) {
    if (o.all && !o.name.empty()) return usage("down: --all and NAME exclude each other");
    sys::os& os = sys::real();
    const std::string run_dir = group::run_directory(os);
    // Whoever can write there says which processes end.
    if (const auto ours = group::check_run_directory(os, run_dir); !ours && ours.error().code != ENOENT) return std::unexpected(ours.error());
    const auto there = group::ups(os, run_dir);
    if (!there) return std::unexpected(there.error());
    const chosen c = choose(there->all, o);
    if (c.code != exit_code::ok) return c.code;
    ordered_json out{{"schema_version", 1}, {"kind", "down"}, {"ok", true}, {"ended", ordered_json::array()}, {"swept", ordered_json::array()}, {"errors", ordered_json::array()}};
    std::vector<error> wrong;
    for (const group::up_state& s : c.which) {
        if (auto done = end(os, s, o.kill); !done) wrong.push_back(done.error());
    }
    // Whatever an owner has left, because it was killed or could not undo it.
    const group::sweep_report swept = group::sweep(os, run_dir);
    wrong.insert(wrong.end(), swept.not_swept.begin(), swept.not_swept.end());
    for (const group::up_state& s : c.which) {
        const bool dirty = std::ranges::find(swept.swept, s.name) != swept.swept.end();
        if (!dirty) out["ended"].push_back(s.name);
        if (!o.json) print(s.name + (dirty ? " is down; its process had been killed, and what it left is removed\n" : " is down\n"));
    }
    for (const std::string& name : swept.swept) out["swept"].push_back(name);
    for (const error& e : wrong) {
        complain(e.line());
        out["errors"].push_back(e.line());
    }
    out["ok"] = wrong.empty();
    if (o.json) print_json(out);
    else if (c.which.empty() && swept.swept.empty() && wrong.empty()) print("nothing is up\n");
    return wrong.empty() ? exit_code::ok : exit_code_of(wrong.front());
}

}  // namespace

void add_down(registry& all) {
    auto o = std::make_shared<options>();
    all.add("down", "End what is up: its jobs, then everything that was done for them is undone")
        .argument("NAME", o->name, "what to end, or one of its cohorts; may be left out where only one is up", false)
        .flag("--all", o->all, "everything that is up")
        .flag("--kill", o->kill, "at once: kill -9, and what is left is removed")
        .flag("--json", o->json, "print JSON")
        .notes("Jobs get SIGTERM, and SIGKILL when the patience that `cohort up` was given is over. Returns when nothing is left.\n"
               "Of an up whose process was killed, what it left is removed: processes, cpusets, pools, claims, unfinished outputs.\n\n"
               "Exit code 0 also when nothing is up and no NAME is given; 1: NAME is not up; 5: something could not be undone.")
        .run([o] { return down(*o); });
}

}  // namespace cohort::cli
