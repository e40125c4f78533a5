// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/apply.hpp>
#include <cohort/group/spec_schema.hpp>

#include "command.hpp"
#include "spec_input.hpp"
#include "up.hpp"
#include "up_change.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string spec;
    std::optional<std::string> machine;
    std::optional<std::string> svg;
    std::optional<std::string> name;
    bool json = false, schema = false, against_running = false;
};

/// What `up --detach` would change; the owner of what is up says it.
outcome show_difference(const options& o) {
    sys::os& os = sys::real();
    if (o.machine || o.svg) return usage("plan: --against-running is about this machine, and draws nothing");
    auto there = group::ups(os, group::run_directory(os));
    if (!there) return std::unexpected(there.error());
    const std::string name = o.name ? *o.name : group::up_name_of(o.spec);
    for (const group::up_state& s : there->all) {
        if (s.name != name || !alive(os, s)) continue;
        auto request = request_of(os, o.spec);
        if (!request) return std::unexpected(request.error());
        request->only_look = true;
        if (const auto told = change_running(os, s, *request, o.json)) return *told;
    }
    complain("\"" + name + "\" is not up");
    return exit_code::no;
}

outcome show_plan(const options& o) {
    if (o.schema) {
        print(group::spec_schema());
        return exit_code::ok;
    }
    if (o.spec.empty()) return usage("plan: it needs a SPEC, or --schema");
    if (o.against_running) return show_difference(o);
    if (o.name) return usage("plan: --name goes with --against-running");
    auto p = plan_of(sys::real(), o.spec, o.machine, o.json);
    if (!p) return std::unexpected(p.error());
    if (!p->plan) return p->code;
    if (o.svg) {
        const auto svg = map_of_plan(sys::real(), *p->plan);
        if (!svg) return std::unexpected(svg.error());
        if (auto drawn = write_whole(sys::real(), *o.svg, *svg); !drawn) return std::unexpected(drawn.error());
    }
    if (o.svg != "-") print(o.json ? group::plan_json(*p->plan) + "\n" : group::plan_text(*p->plan));
    for (const group::refusal& r : p->plan->refusals) complain(r.line());
    return p->plan->holds() ? exit_code::ok : p->plan->unsupported() ? exit_code::unsupported : exit_code::no;
}

}  // namespace

void add_plan(registry& all) {
    auto o = std::make_shared<options>();
    all.add("plan", "Show what a spec would do on a machine")
        .argument("SPEC", o->spec, "the spec, a TOML file; - is standard input", false)
        .option("--machine", o->machine, "MACHINE", "live, synthetic:DESCRIPTION (hwloc's), or a file of hwloc's XML; default: the spec's, or live")
        .option("--svg", o->svg, "FILE", "draw the machine with the cohorts' colours into FILE; - draws to standard output")
        .flag("--json", o->json, "print JSON")
        .flag("--against-running", o->against_running, "what differs from what is up under the spec's name: what goes on, what ends, what begins; `up --detach` does it")
        .option("--name", o->name, "NAME", "with --against-running: what it is up as (the spec's file name)")
        .flag("--schema", o->schema, "print the JSON Schema of specs, for editors, and do nothing else")
        .notes("Nothing is changed. Exit code 1: the plan cannot hold on that machine; 3: since a cookie cannot be kept there.\n\nExamples:\n"
               "  cohort plan examples/two-tenants.toml\n"
               "  cohort plan examples/two-tenants.toml --machine 'synthetic:pack:2 numa:2 core:16 pu:2'")
        .run([o] { return show_plan(*o); });
}

}  // namespace cohort::cli
