// SPDX-License-Identifier: Apache-2.0
/// A machine as nested boxes: packages, nodes, caches, cores, CPUs; as text, JSON and a picture.
///
///     auto t = machine::load("synthetic:pack:2 core:4 pu:2", os).value();
///     machine_map m = map_of(t, view_of(t, machine::usable_of(t), false));
///     print(map_text(m));
///     write("m.svg", map_svg(m, {{"usable", m.view.usable}}));      // one colour a group of CPUs
///
/// Kernel: none; the picture is in the manner of hwloc's lstopo.
#pragma once

#include <string>
#include <vector>

#include <cohort/group/plan.hpp>
#include <cohort/machine/topology.hpp>

namespace cohort::group {

struct map_box {
    enum class form { machine, package, node, cache, core, cpu };
    form kind = form::machine;
    std::string label;               // "package 0", "L3 36.0 MiB"
    std::string detail;              // of a core: its own caches; of a node: its memory
    cpumask cpus;
    std::vector<map_box> inside;     // by lowest CPU
};

struct machine_map {
    machine_view view;
    map_box top;
    std::vector<std::string> memory_only;  // nodes without CPUs
    std::string topology_json;             // the flat description, for map_json
};

/// Boxes with the same CPUs nest as package, node, cache, core. What overlaps without nesting stands beside. Offline CPUs are boxes of
/// the machine. Cost: 8,192 CPUs take well under a second.
machine_map map_of(const machine::topology& t, const machine_view& view);

/// A tree of lines. Large machines are shortened: cores that are alike share a line.
std::string map_text(const machine_map& m);
/// With schema_version 1.
std::string map_json(const machine_map& m);

/// CPUs that the picture paints in one colour.
struct map_group {
    std::string name;
    cpumask cpus;
};
/// A self-contained SVG: no script, no font, no network. CPUs of several groups are striped, those of none are grey; offline and
/// forbidden ones are hatched, their reasons are in the legend.
std::string map_svg(const machine_map& m, const std::vector<map_group>& groups);
/// The colour of group number i there, as "#rrggbb".
const char* map_color(std::size_t i);

}  // namespace cohort::group
