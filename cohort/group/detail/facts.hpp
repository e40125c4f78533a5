// SPDX-License-Identifier: Apache-2.0
/// What a plan says of a cohort and of its jobs, as far as it makes a difference to what runs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <cohort/group/plan.hpp>

namespace cohort::group::detail {

/// What it is about ("cpus", `job "pack": command`), and what is said of it.
using facts = std::map<std::string, std::string>;

facts facts_of(const plan& p, const std::string& cohort);

/// `cpus "0-3", not "0-1"`; `job "pack" ends`; empty: they are the same.
std::vector<std::string> differing_facts(const facts& was, const facts& is);

}  // namespace cohort::group::detail
