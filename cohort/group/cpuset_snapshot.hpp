// SPDX-License-Identifier: Apache-2.0
/// A cpuset snapshot as JSON text, and back.
///
///     std::string text = cpuset_snapshot_json(s);
///     auto again = read_cpuset_snapshot("tree.json", text);      // result<cpuset::snapshot>; the error names the place: sets[3].path
///
/// Shape (schema_version 1), lists in the kernel's form:
///     {"schema_version": 1, "kind": "cpuset_snapshot", "kernel": "6.12", "release": "6.12.41", "mount": "v2",
///      "machine": "synthetic:pack:2 numa:1 core:2 pu:2"
///              or {"source": "live", "possible": "0-7", "cores": ["0-1", ...], "packages": ["0-3", ...], "nodes": [{"number": 0, "cpus": "0-3", "memory_bytes": 1}]},
///      "online": "0-7", "memory_nodes": "0-1", "boot_isolated": "",
///      "sets": [{"path": ".", "subtree_control": true, "files": {"cpuset.cpus.effective": "0-7"}}],
///      "tasks": [{"id": "4711", "name": "web", "path": "a/b", "cpus": "0-3", "mems": "0-1", "asked": null}]}
#pragma once

#include <string>
#include <string_view>

#include <cohort/cpuset/snapshot.hpp>

namespace cohort::group {

/// Caches are left out: no cpuset rule looks at them. Bytes that are no UTF-8 become U+FFFD. Ends with a newline.
std::string cpuset_snapshot_json(const cpuset::snapshot& s);

/// Keys that are not known are passed over; those with a plain default (release, boot_isolated, tasks, online: all, memory_nodes: those with memory) may be missing.
/// Errors: EINVAL (no JSON, with line and column; a key missing or of the wrong type), EINVAL, ERANGE, EOVERFLOW of a list, EOPNOTSUPP (another schema_version).
/// What the sets and tasks say is checked by cpuset::load(). name: of the file, for errors.
result<cpuset::snapshot> read_cpuset_snapshot(const std::string& name, std::string_view text);

}  // namespace cohort::group
