// SPDX-License-Identifier: Apache-2.0
/// What a spec may say, as a JSON Schema (draft 7): editors complete keys by it and mark what is wrong while one types.
///
///     print(spec_schema());                    // docs/spec.schema.json is this text
///
/// In a spec: `#:schema URL-or-path` in the first line, as taplo and VS Code's Even Better TOML read it. read_spec() is stricter: it knows which names exist, and what belongs together.
#pragma once

#include <string>

namespace cohort::group {

/// With a line's end. A test holds its keys against those that the reader knows (spec_reading::keys).
std::string spec_schema();

}  // namespace cohort::group
