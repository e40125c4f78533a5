// SPDX-License-Identifier: Apache-2.0
// A spec with a fault, read through cohort::group: the installed headers, libraries and their dependencies fit together.
#include <cstdio>

#include <cohort/group/spec.hpp>

int main() {
    const auto read = cohort::group::read_spec("inline.toml", "[[cohort]]\nname = \"a\"\ncpuz = \"0\"\n", [](std::string_view) { return std::nullopt; });
    for (const auto& fault : read.faults) std::puts(fault.line().c_str());
    return read.faults.empty() ? 1 : 0;
}
