// SPDX-License-Identifier: Apache-2.0
// A plan as a shell script.
#include <cohort/cpuset/plan.hpp>

namespace cohort::cpuset {
namespace {

std::string quoted(const std::string& text) {
    std::string out = "'";
    for (char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
    return out + "'";
}

/// One operation as a command of the script's functions; expect: what a file reads then.
std::string command_of(const operation& op, const std::string* expect, bool v1) {
    const std::string path = " " + quoted(op.path);
    switch (op.what) {
        case verb::mkdir: return "mkdir -- \"$CGROUP\"/" + quoted(op.path);
        case verb::rmdir: return "rmdir -- \"$CGROUP\"/" + quoted(op.path);
        case verb::controller: return "tell" + path + " cgroup.subtree_control " + (op.on ? "+cpuset" : "-cpuset");
        case verb::attach: return "tell" + path + (v1 ? " tasks " : " cgroup.procs ") + quoted(op.task);
        default: break;
    }
    const std::string write = "tell" + path + " " + quoted(op.file) + " " + quoted(op.text);
    return expect ? write + " && reads" + path + " " + quoted(op.file) + " " + quoted(*expect) : write;
}

constexpr std::string_view functions = R"(set -u
: "${CGROUP:=/sys/fs/cgroup}"
tell() { printf '%s\n' "$3" > "$CGROUP/$1/$2"; }
reads() {
    is=$(cat "$CGROUP/$1/$2") || return 1
    [ "$is" = "$3" ] || { echo "$1/$2 reads \"$is\", not \"$3\"" >&2; return 1; }
}
)";

constexpr std::string_view driver = R"(roll_back() {
    while [ "$n" -gt 0 ]; do
        "undo_$n" || echo "the undo of step $n failed" >&2
        n=$((n - 1))
    done
}
n=0
if [ "${1:-}" = --roll-back ]; then
    n=$steps
    roll_back
    exit 0
fi
while [ "$n" -lt "$steps" ]; do
    n=$((n + 1))
    "step_$n" && continue
    echo "step $n failed; going back" >&2
    roll_back
    exit 1
done
)";

}  // namespace

std::string plan_script(const plan& p, bool v1) {
    std::string out = "#!/bin/sh\n# " + std::to_string(p.steps.size()) + " steps; the first that fails is undone with all before it. --roll-back: undoes a plan that was carried out.\n" + std::string(functions);
    for (std::size_t i = 0; i < p.steps.size(); ++i) {
        const plan_step& s = p.steps[i];
        const std::string number = std::to_string(i + 1);
        out += "step_" + number + "() { " + command_of(s.what, s.what.what == verb::write ? &s.expect : nullptr, v1) + "; }" + (s.note.empty() ? "" : "  # " + s.note) + "\n";
        out += "undo_" + number + "() { ";
        for (const operation& op : s.undo) out += command_of(op, nullptr, v1) + "; ";
        out += "}\n";
    }
    return out + "steps=" + std::to_string(p.steps.size()) + "\n" + std::string(driver);
}

}  // namespace cohort::cpuset
