// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/map.hpp>
#include <cohort/group/view.hpp>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string machine = "live";
    std::optional<std::string> svg;
    bool json = false;
};

outcome topology(const options& o) {
    sys::os& os = sys::real();
    auto view = group::view_machine(o.machine, os);
    if (!view) return machine_fault(view.error());
    auto t = machine::load(o.machine, os);
    if (!t) return machine_fault(t.error());
    const group::machine_map map = group::map_of(*t, *view);
    if (o.svg) {
        if (auto w = write_whole(os, *o.svg, group::map_svg(map, {{"usable", view->usable}})); !w) return std::unexpected(w.error());
        if (*o.svg == "-") return exit_code::ok;
    }
    print(o.json ? group::map_json(map) + "\n" : group::map_text(map));
    return exit_code::ok;
}

}  // namespace

void add_topology(registry& all) {
    auto o = std::make_shared<options>();
    all.add("topology", "Show packages, nodes, caches, cores and CPUs")
        .option("--machine", o->machine, "MACHINE", "live, synthetic:DESCRIPTION (hwloc's), or a file of hwloc's XML; default: live")
        .option("--svg", o->svg, "FILE", "draw it into FILE too; - draws to standard output instead of the text")
        .flag("--json", o->json, "print JSON")
        .notes("Examples:\n  cohort topology --svg machine.svg\n  cohort topology --machine 'synthetic:pack:2 numa:2 l3:2 core:4 pu:2'")
        .run([o] { return topology(*o); });
}

}  // namespace cohort::cli
