// SPDX-License-Identifier: Apache-2.0
#include "coresched_control.hpp"

#include <fmt/format.h>

#include <cohort/coresched/keeper.hpp>

#include "cpuset_live.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

ordered_json json_of(const coresched::tagged& t) {
    return {{"tid", t.id}, {"pid", t.pid}, {"name", t.name}, {"before", cookie_text(t.before)}, {"after", cookie_text(t.after)}};
}
ordered_json json_of(const std::vector<coresched::tagged>& all) {
    ordered_json out = ordered_json::array();
    for (const auto& t : all) out.push_back(json_of(t));
    return out;
}

ordered_json json_of(const coresched::tag_report& r, bool dry_run) {
    ordered_json out{{"schema_version", 1}, {"ok", r.ok()}, {"dry_run", dry_run}, {"cookie", cookie_text(r.value)}, {"rounds", r.rounds},
                     {"changed", json_of(r.changed)}, {"already", json_of(r.already)}, {"gone", r.gone}};
    if (r.failure) {
        out["failure"] = fault_json(*r.failure);
        out["failure"]["tid"] = r.failed_id;
    }
    return out;
}

outcome get(const core_options& o) {
    int id = sys::real().getpid();
    if (o.source) {
        const auto pid = pid_of(*o.source, "coresched get");
        if (!pid) return exit_code::usage;
        id = *pid;
    }
    const auto here = coresched::facility(sys::real());
    const auto value = coresched::control(sys::real()).get(id);
    if (!value) {
        const error e = here.there() ? value.error() : error{here.code, "core scheduling", "get a cookie", here.why};
        if (o.json) print_json(ordered_json{{"schema_version", 1}, {"ok", false}, {"pid", id}, {"failure", fault_json(e)}});
        complain(e.line());
        return code_of_refusal(e, !here.there());
    }
    if (o.json) print_json(ordered_json{{"schema_version", 1}, {"ok", true}, {"pid", id}, {"cookie", cookie_text(*value)}});
    else print(fmt::format("cookie of pid {} is {}\n", id, cookie_text(*value)));
    return exit_code::ok;
}

outcome clear(const core_options& o) {
    const auto whom = targets_of(o, "coresched clear");
    if (!whom) return exit_code::usage;
    return tag_and_tell(o, {.what = coresched::origin::none}, *whom);
}

/// new, copy: for targets that run, or for a program that is started.
outcome give(const core_options& o, const coresched::source& from, const std::string& command) {
    if (o.program_given) {
        if (!o.dest.empty() || !o.cgroups.empty()) return usage(command + ": a program and targets exclude each other");
        if (o.program.empty()) return usage(command + ": no program after --");
        return become_program(o, from);
    }
    const auto whom = targets_of(o, command);
    if (!whom) return exit_code::usage;
    return tag_and_tell(o, from, *whom);
}

outcome copy(const core_options& o) {
    const auto from = source_of(o, "coresched copy");
    if (!from.from) return from.code;
    return give(o, *from.from, "coresched copy");
}

}  // namespace

std::string cookie_text(coresched::cookie value) { return value == coresched::no_cookie ? "0" : fmt::format("{:#x}", value); }

ordered_json fault_json(const error& e) { return {{"errno", errno_name(e.code)}, {"object", e.object}, {"act", e.act}, {"why", e.reason}, {"line", e.line()}}; }

exit_code code_of_refusal(const error& e, bool unsupported) {
    if (unsupported) return exit_code::unsupported;
    return e.code == EINVAL || e.code == ESTALE ? exit_code::no : exit_code_of(e);
}

command& with_source(command& c, core_options& o) {
    return c.option("-s,--source", o.source, "PID", "whose cookie; default: the caller's own")
        .option("--name", o.keeper, "NAME", "the cookie that a keeper holds under this name (coresched keep)");
}
command& with_targets(command& c, core_options& o) {
    return c.option("-d,--dest", o.dest, "PID", "whom to change; may be given again")
        .choice("-t,--dest-type", o.type, {"pid", "tgid", "pgid"}, "what a PID stands for: the thread, its process (default), its process group")
        .option("--cgroup", o.cgroups, "PATH", "all threads of a cgroup and of those below it; may be given again")
        .flag("-n,--dry-run", o.dry_run, "look at everything that would be changed; change nothing")
        .flag("--force", o.force, "go on where core scheduling can stop this machine (sched_ext)")
        .flag("-v,--verbose", o.verbose, "tell each thread")
        .flag("--json", o.json, "print JSON");
}
command& with_program(command& c, core_options& o) { return c.rest("PROGRAM [ARG]...", o.program, "start this program with the cookie, instead of changing targets", &o.program_given); }
command& with_policy(command& c, core_options& o, bool emulate) {
    std::vector<std::string> values{"require", "prefer"};
    if (emulate) values.push_back("emulate");
    return c.choice("--policy", o.policy, values,
                    std::string("where there is no core scheduling: end with 3 (require, the default); say so and go on without it (prefer)") + (emulate ? "; take a whole core by affinity (emulate)" : ""));
}

std::optional<coresched::targets> targets_of(const core_options& o, const std::string& command) {
    coresched::targets out;
    out.whom = o.type == "pid" ? coresched::scope::thread : o.type == "tgid" ? coresched::scope::process : coresched::scope::process_group;
    for (const std::string& text : o.dest) {
        const auto pid = pid_of(text, command);
        if (!pid) return std::nullopt;
        out.ids.push_back(*pid);
    }
    for (const std::string& text : o.cgroups) {
        const auto directory = coresched::cgroup_directory(sys::real(), text);
        if (!directory) {
            (void)usage(directory.error().line());
            return std::nullopt;
        }
        out.cgroups.push_back(*directory);
    }
    if (out.ids.empty() && out.cgroups.empty()) {
        (void)usage(command + ": whom? give --dest or --cgroup");
        return std::nullopt;
    }
    return out;
}

chosen_source source_of(const core_options& o, const std::string& command) {
    if (o.source && o.keeper) return {std::nullopt, *usage(command + ": --source and --name exclude each other")};
    if (o.keeper) {
        const auto kept = coresched::find_kept(*o.keeper);
        if (kept) return {coresched::source{coresched::origin::of, kept->id, kept->value}};
        complain(kept.error().line());
        return {std::nullopt, kept.error().code == EINVAL ? exit_code::usage : exit_code_of(kept.error())};
    }
    if (!o.source) return {coresched::source{coresched::origin::of, 0}};
    const auto pid = pid_of(*o.source, command);
    if (!pid) return {std::nullopt, exit_code::usage};
    return {coresched::source{coresched::origin::of, *pid}};
}

outcome tag_and_tell(const core_options& o, const coresched::source& from, const coresched::targets& whom) {
    const auto r = coresched::tag(sys::real(), from, whom, {.dry_run = o.dry_run, .even_if_unsafe = o.force});
    if (o.json) print_json(json_of(r, o.dry_run));
    else if (o.verbose || o.dry_run) {
        for (const auto& t : r.changed) print(fmt::format("{}pid {} thread {} ({}): {} -> {}\n", o.dry_run ? "would change " : "", t.pid, t.id, t.name, cookie_text(t.before), o.dry_run ? "?" : cookie_text(t.after)));
        for (const int id : r.gone) print(fmt::format("thread {} has ended\n", id));
    }
    if (r.ok()) return exit_code::ok;
    complain(r.failure->line());
    if (!r.unsupported) {
        complain(r.changed.empty() ? std::string("nothing was changed") : fmt::format("changed before that: {} thread{}{}", r.changed.size(), r.changed.size() == 1 ? "" : "s", o.verbose ? "" : " (--verbose names them)"));
    }
    if (r.unsupported && o.policy != "require") {
        complain("policy prefer: going on without it");
        return exit_code::ok;
    }
    return code_of_refusal(*r.failure, r.unsupported);
}

void add_coresched_control(registry& all) {
    static constexpr const char* exits = "Exit: 0; 1 the source has no cookie; 3 no core scheduling here, or not safe; 4 a thread is not ours to look at; 5 a thread is not there.\nWhat was changed before a failure is told.";
    auto g = std::make_shared<core_options>();
    all.add("coresched get", "Tell the cookie of a process")
        .option("-s,--source", g->source, "PID", "whose cookie; default: the caller's own")
        .flag("--json", g->json, "print JSON")
        .notes(std::string("A cookie's number tells only whether two are the same.\n") + exits)
        .run([g] { return get(*g); });

    auto n = std::make_shared<core_options>();
    with_policy(with_program(with_targets(all.add("coresched new", "Give processes a cookie that nobody else has, or start a program with one"), *n), *n), *n, false)
        .notes(std::string("One cookie for all targets together. Examples:\n  cohort coresched new -d 4711 -t tgid\n  cohort coresched new --cgroup web\n  cohort coresched new -- make -j8\n") + exits)
        .run([n] { return give(*n, {.what = coresched::origin::fresh}, "coresched new"); });

    auto c = std::make_shared<core_options>();
    with_policy(with_program(with_targets(with_source(all.add("coresched copy", "Give processes the cookie of another, or start a program with it"), *c), *c), *c), *c, false)
        .notes(std::string("Examples:\n  cohort coresched copy -s 4711 -d 4712\n  cohort coresched copy --name web --cgroup web\n") + exits)
        .run([c] { return copy(*c); });

    auto x = std::make_shared<core_options>();
    with_policy(with_targets(all.add("coresched clear", "Take the cookie away from processes"), *x), *x, false)
        .notes(std::string("Done from a thread without a cookie: the kernel has no other way. Example:\n  cohort coresched clear --cgroup web\n") + exits)
        .run([x] { return clear(*x); });
}

}  // namespace cohort::cli
