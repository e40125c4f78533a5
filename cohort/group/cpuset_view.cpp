// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_view.hpp>

#include <cohort/cpuset/live.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace {

/// Fills the view, or answers what is in the way.
std::string look(cpuset_view& out, const std::string& under, sys::os& os) {
    auto place = cpuset::find_mount(os);
    if (!place) return place.error().line();
    out.about = place->about;
    out.place = *place;
    if (!place->mounted()) return place->about;
    const auto path = cpuset::set_path(*place, under);
    if (!path) return path.error().line();
    out.under = *path;
    // cgroup.procs is written by whoever may put processes into sets, and only then are sets of any use.
    const std::string probe = place->directory(*path) + "/cgroup.procs";
    if (auto fd = sys::open_file(os, probe, sys::open_write); !fd) return "sets cannot be made there: " + fd.error().line();
    auto live = cpuset::read_live(os);
    if (!live) return live.error().line();
    auto loaded = cpuset::load(live->what);
    if (!loaded) return loaded.error().line();
    out.notes = std::move(live->notes);
    if (!loaded->differences.empty()) {
        out.notes.push_back("cpusets: the kernel shows " + std::to_string(loaded->differences.size()) + " things that the model does not come to, such as " + loaded->differences.front().line());
    }
    const auto home = cpuset::home_of(os, *place, os.getpid());
    out.home = !home ? "" : home->empty() ? "." : *home;
    out.machine = std::move(live->what.machine);
    out.tree = std::make_unique<cpuset::model>(std::move(loaded->model));
    return {};
}

}  // namespace

result<std::shared_ptr<const cpuset_view>> view_cpusets(std::string_view machine, const std::string& under, sys::os& os) {
    auto out = std::make_shared<cpuset_view>();
    if (machine.empty() || machine == "live") {
        out->barred = look(*out, under, os);
        if (out->machine.possible.empty()) {
            auto t = machine::load("live", os);
            if (!t) return std::unexpected(t.error());
            out->machine = std::move(*t);
        }
        return out;
    }
    auto t = machine::load(machine, os);
    if (!t) return std::unexpected(t.error());
    out->about = "kernel 6.12 without sets, as the machine is not here";
    out->machine = std::move(*t);
    out->tree = std::make_unique<cpuset::model>(out->machine);
    if (!under.empty()) out->barred = "the machine is not here: whether it has a set \"" + under + "\" is not known";
    return out;
}

}  // namespace cohort::group
