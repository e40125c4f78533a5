// SPDX-License-Identifier: Apache-2.0
// Changing the live tree: create, rm, set, attach, delegate. Each is done whole or not at all.
#include <algorithm>
#include <charconv>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/cpuset/live_delegate.hpp>
#include <cohort/sys/fd.hpp>

#include "cpuset_live.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using cpuset::operation;
using cpuset::verb;

struct options {
    std::string path, pid, user;
    std::optional<std::string> cpus, mems, exclusive, partition;
    std::vector<std::string> writes;
    bool json = false, verbose = false, recursive = false, thread = false, any = false;
};

operation write_step(const std::string& path, const std::string& file, const std::string& text) { return {.what = verb::write, .path = path, .file = file, .text = text}; }

/// The writes asked for, in an order in which a new set takes them. Nothing: a usage error was told.
std::optional<std::vector<operation>> writes_of(const options& o, const std::string& path, const std::string& command) {
    std::vector<operation> out;
    const std::pair<const char*, const std::optional<std::string>*> lists[] = {
        {"cpuset.mems", &o.mems}, {"cpuset.cpus", &o.cpus}, {"cpuset.cpus.exclusive", &o.exclusive}};
    for (const auto& [file, text] : lists) {
        if (*text) out.push_back(write_step(path, file, **text));
    }
    for (const std::string& w : o.writes) {
        const std::size_t eq = w.find('=');
        if (eq == w.npos || eq == 0 || w.find('/') < eq) {
            (void)usage(command + ": --write \"" + w + "\": FILE=VALUE was expected");
            return std::nullopt;
        }
        out.push_back(write_step(path, w.substr(0, eq), w.substr(eq + 1)));
    }
    if (o.partition) {
        // CPUs that leave a partition go first; those that make one come before it.
        const operation p = write_step(path, "cpuset.cpus.partition", *o.partition);
        out.insert(*o.partition == "member" ? out.begin() : out.end(), p);
    }
    return out;
}

outcome create(const options& o) {
    auto at = open_live(o.path);
    if (!at) return stopped(at.error());
    const auto writes = writes_of(o, at->path, "cpuset create");
    if (!writes) return exit_code::usage;
    auto steps = cpuset::hand_on_above(*at->tree, at->path);
    if (!steps) return std::unexpected(steps.error());
    steps->push_back({.what = verb::mkdir, .path = at->path});
    steps->insert(steps->end(), writes->begin(), writes->end());
    return run_steps(*at->tree, *steps, o.json, o.verbose, {.partitions_must_hold = !o.any});
}

outcome set(const options& o) {
    auto at = open_live(o.path);
    if (!at) return stopped(at.error());
    const auto writes = writes_of(o, at->path, "cpuset set");
    if (!writes) return exit_code::usage;
    if (writes->empty()) return usage("cpuset set: nothing to write: give --cpus, --mems, --exclusive, --partition or --write");
    return run_steps(*at->tree, *writes, o.json, o.verbose, {.partitions_must_hold = !o.any});
}

void add_below(cpuset::backend& tree, const std::string& path, std::vector<operation>& out) {
    for (const std::string& name : tree.children(path).value_or(std::vector<std::string>{})) add_below(tree, path.empty() ? name : path + "/" + name, out);
    out.push_back({.what = verb::rmdir, .path = path});
}

outcome rm(const options& o) {
    auto at = open_live(o.path);
    if (!at) return stopped(at.error());
    std::vector<operation> steps;
    if (o.recursive && !at->path.empty()) add_below(*at->tree, at->path, steps);
    else steps.push_back({.what = verb::rmdir, .path = at->path});
    return run_steps(*at->tree, steps, o.json, o.verbose, {.partitions_must_hold = false});
}

outcome attach(const options& o) {
    const auto pid = pid_of(o.pid, "cpuset attach");
    if (!pid) return exit_code::usage;
    auto at = open_live(o.path);
    if (!at) return stopped(at.error());
    const operation step{.what = verb::attach, .path = at->path, .task = (o.thread ? "thread:" : "") + std::to_string(*pid)};
    return run_steps(*at->tree, std::span(&step, 1), o.json, o.verbose, {.partitions_must_hold = false});
}

/// USER[:GROUP], names or numbers. Nothing: there is no such one.
std::optional<unsigned> id_in(const char* file, const std::string& name) {
    unsigned id = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (bad == std::errc() && end == name.data() + name.size()) return id;
    std::istringstream lines(sys::read_file(sys::real(), file).value_or(""));
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(name + ":")) continue;
        const std::size_t second = line.find(':', name.size() + 1);
        if (second != line.npos && std::from_chars(line.data() + second + 1, line.data() + line.size(), id).ec == std::errc()) return id;
    }
    return std::nullopt;
}

outcome delegate(const options& o) {
    const std::size_t colon = o.user.find(':');
    const auto uid = id_in("/etc/passwd", o.user.substr(0, colon));
    if (!uid) return usage("cpuset delegate: there is no user \"" + o.user.substr(0, colon) + "\"");
    std::int64_t gid = -1;
    if (colon != o.user.npos) {
        const auto id = id_in("/etc/group", o.user.substr(colon + 1));
        if (!id) return usage("cpuset delegate: there is no group \"" + o.user.substr(colon + 1) + "\"");
        gid = *id;
    }
    auto at = open_live(o.path);
    if (!at) return stopped(at.error());
    const auto files = cpuset::delegate(sys::real(), at->place, at->path, *uid, gid);
    if (!files) return std::unexpected(files.error());
    if (o.json) print_json({{"schema_version", 1}, {"path", at->path}, {"user", *uid}, {"files", *files}});
    else if (o.verbose) {
        for (const std::string& f : *files) print("done  chown " + o.user + " " + f + "\n");
    }
    return exit_code::ok;
}

command& with_lists(command& c, const std::shared_ptr<options>& o) {
    return c.option("--cpus", o->cpus, "LIST", "cpuset.cpus, as 0-3,8; an empty LIST clears it")
        .option("--mems", o->mems, "LIST", "cpuset.mems")
        .option("--exclusive", o->exclusive, "LIST", "cpuset.cpus.exclusive (version 2, kernel 6.7 or later)")
        .option("--partition", o->partition, "KIND", "member, root or isolated (version 2)")
        .option("--write", o->writes, "FILE=VALUE", "any other file of the set; may be given again")
        .flag("--keep-invalid", o->any, "a partition that comes out invalid is kept; without this all is undone");
}
command& with_talk(command& c, const std::shared_ptr<options>& o) {
    return c.flag("-v,--verbose", o->verbose, "tell each step").flag("--json", o->json, "print JSON");
}

constexpr const char* path_note = "PATH: from the top (a/b; / is the top), or a directory below the mount point.\nDone whole or not at all: when a step is refused, those before it are undone and the refusal is told. Exit 1: the kernel's rules refuse it.";

}  // namespace

void add_cpuset_change(registry& all) {
    auto c = std::make_shared<options>();
    with_talk(with_lists(all.add("cpuset create", "Make a set, and what the sets above need to hand cpuset on").argument("PATH", c->path, "the set"), c), c)
        .notes(std::string(path_note) + "\nExample:\n  cohort cpuset create web --cpus 2-3 --mems 0 --partition isolated")
        .run([c] { return create(*c); });

    auto s = std::make_shared<options>();
    with_talk(with_lists(all.add("cpuset set", "Write lists and flags of a set, and read back what came of it").argument("PATH", s->path, "the set"), s), s)
        .notes(std::string(path_note) + "\nA list that is missing stays. `member` is written before the lists, `root` and `isolated` after them.")
        .run([s] { return set(*s); });

    auto r = std::make_shared<options>();
    with_talk(all.add("cpuset rm", "Remove a set").argument("PATH", r->path, "the set"), r)
        .flag("-r,--recursive", r->recursive, "sets below it, too")
        .notes(path_note)
        .run([r] { return rm(*r); });

    auto a = std::make_shared<options>();
    with_talk(all.add("cpuset attach", "Move a process, with all its threads, into a set").argument("PATH", a->path, "the set").argument("PID", a->pid, "the process"), a)
        .flag("--thread", a->thread, "PID is one thread, which moves alone")
        .notes(path_note)
        .run([a] { return attach(*a); });

    auto d = std::make_shared<options>();
    with_talk(all.add("cpuset delegate", "Hand a set to a user").argument("PATH", d->path, "the set").argument("USER", d->user, "USER or USER:GROUP, names or numbers"), d)
        .notes("The user may then make sets below it and move own processes into them. The set's own lists stay its parent's.")
        .run([d] { return delegate(*d); });
}

}  // namespace cohort::cli
