// SPDX-License-Identifier: Apache-2.0
// A program with a cookie, or with what the policy has instead.
#include <fmt/format.h>

#include <cohort/coresched/whole_core.hpp>

#include "coresched_control.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;

outcome exec(const core_options& o) {
    if (!o.program_given || o.program.empty()) return usage("coresched exec: no program after --");
    coresched::source from;
    if (o.source || o.keeper) {
        const auto chosen = source_of(o, "coresched exec");
        if (!chosen.from) return chosen.code;
        from = *chosen.from;
    }
    return become_program(o, from);
}

/// How the program is started, told before it is.
void tell(const core_options& o, const std::string& how, ordered_json more) {
    if (!o.json) {
        if (o.verbose || how != "kernel") complain("coresched: " + more["text"].get<std::string>());
        return;
    }
    ordered_json out{{"schema_version", 1}, {"ok", true}, {"policy", o.policy}, {"used", how}};
    out.update(more);
    print_json(out);
}

outcome start(const core_options& o) {
    std::fflush(stdout);
    const auto r = sys::real().exec(o.program);
    return std::unexpected(r.error());
}

}  // namespace

outcome become_program(const core_options& o, const coresched::source& from) {
    const auto here = coresched::facility(sys::real());
    const auto value = coresched::take(sys::real(), from, {.even_if_unsafe = o.force});
    if (value) {
        tell(o, "kernel", {{"cookie", cookie_text(*value)}, {"text", "cookie " + cookie_text(*value)}});
        return start(o);
    }
    const bool unsupported = !here.there() || value.error().code == EOPNOTSUPP;
    const error& e = value.error();
    if (unsupported && o.policy == "prefer") {
        tell(o, "none", {{"why", fault_json(e)}, {"text", e.line() + "; policy prefer: going on without it"}});
        return start(o);
    }
    if (unsupported && o.policy == "emulate") {
        if (from.what == coresched::origin::of) {
            complain(e.line() + "; policy emulate: a whole core is had by one program and what it starts, not shared with those that run");
            return exit_code::unsupported;
        }
        const auto core = coresched::take_whole_core(sys::real());
        if (core) {
            tell(o, "whole core", {{"cpus", core->list()}, {"why", fault_json(e)},
                                   {"text", e.line() + "; policy emulate: bound to CPUs " + core->list() + ", a whole core that no other program emulated so is given; what else runs there is not kept off"}});
            return start(o);
        }
        complain(e.line());
        complain(core.error().line());
        return exit_code::unsupported;
    }
    if (o.json) print_json(ordered_json{{"schema_version", 1}, {"ok", false}, {"policy", o.policy}, {"failure", fault_json(e)}});
    complain(e.line());
    return code_of_refusal(e, unsupported);
}

void add_coresched_exec(registry& all) {
    auto o = std::make_shared<core_options>();
    command& c = all.add("coresched exec", "Start a program that shares cores with nobody, or with those of a cookie");
    with_policy(with_program(with_source(c, *o), *o), *o, true)
        .flag("--force", o->force, "go on where core scheduling can stop this machine (sched_ext)")
        .flag("-v,--verbose", o->verbose, "tell the cookie")
        .flag("--json", o->json, "print how it is started, before it is")
        .notes("Without --source and --name: a new cookie. This process becomes PROGRAM; what that starts has the cookie, too.\nExit: PROGRAM's own; 3 no core scheduling here, or not safe; 5 it cannot be started.\n"
               "Examples:\n  cohort coresched exec -- ./server\n  cohort coresched exec --policy prefer --name web -- ./worker")
        .run([o] { return exec(*o); });
}

}  // namespace cohort::cli
