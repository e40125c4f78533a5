// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/group/cpuset_snapshot.hpp>

/// Any bytes are a snapshot or a fault that is told; a snapshot that reads comes to the same text, and a model takes or refuses it.
FUZZ(text) {
    const auto s = cohort::group::read_cpuset_snapshot("input", text);
    if (!s) return;
    const std::string written = cohort::group::cpuset_snapshot_json(*s);
    const auto again = cohort::group::read_cpuset_snapshot("again", written);
    CLAIM(again && cohort::group::cpuset_snapshot_json(*again) == written);
    const auto l = cohort::cpuset::load(*s);
    CLAIM(!l || l->model.broken().empty());
}
