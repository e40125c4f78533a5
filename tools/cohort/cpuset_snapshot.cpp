// SPDX-License-Identifier: Apache-2.0
// The live tree as a file, for those that look at it elsewhere.
#include <cohort/cpuset/live.hpp>
#include <cohort/group/cpuset_snapshot.hpp>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    std::string file = "-";
    bool bare = false;
};

outcome snapshot(const options& o) {
    auto live = cpuset::read_live(sys::real(), {.tasks = !o.bare});
    if (!live) return std::unexpected(live.error());
    if (live->vanished_sets) complain(std::to_string(live->vanished_sets) + " sets vanished while they were read and are left out");
    if (live->unseen_tasks) complain(std::to_string(live->unseen_tasks) + " threads are in sets that cannot be seen from here and are left out");
    for (const std::string& n : live->notes) complain(n);
    if (auto w = write_whole(sys::real(), o.file, group::cpuset_snapshot_json(live->what)); !w) return std::unexpected(w.error());
    return exit_code::ok;
}

}  // namespace

void add_cpuset_snapshot(registry& all) {
    auto o = std::make_shared<options>();
    all.add("cpuset snapshot", "Write the live tree, its threads and the machine as JSON")
        .argument("FILE", o->file, "where; default: standard output", false)
        .flag("--no-tasks", o->bare, "without threads")
        .notes("Needs no privilege. `cohort cpuset explain`, `what-if`, `lint` and `plan` read it with --snapshot, on any machine.")
        .run([o] { return snapshot(*o); });
}

}  // namespace cohort::cli
