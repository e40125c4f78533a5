// SPDX-License-Identifier: Apache-2.0
/// The nearest right word for a wrong one, so that an error can end with `did you mean "ingest"?`.
///
///     nearest("ingset", {"ingest", "web"});            // "ingest"
///     did_you_mean("ingset", {"ingest", "web"});       // "; did you mean \"ingest\"?"
///     did_you_mean("zzz", {"ingest", "web"});          // ""
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cohort::group {

/// The number of letters to insert, remove, replace or swap with a neighbour to turn one word into the other.
/// Cost: product of the lengths.
int edit_distance(std::string_view a, std::string_view b);

/// The closest of `words`, the first of equals; empty when none is close: more than a third of the letters (at least 1, at most 3) differ
/// and neither begins with the other.
std::string nearest(std::string_view word, const std::vector<std::string>& words);

/// `; did you mean "X"?` or nothing.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& words);

}  // namespace cohort::group
