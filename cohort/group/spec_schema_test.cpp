// SPDX-License-Identifier: Apache-2.0
// The schema for editors against the reader: neither knows a key that the other does not.
#include <cohort/group/spec_schema.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/spec.hpp>

namespace cohort::group {
namespace {

using keys = std::map<std::string, std::set<std::string>>;

/// Tables of a schema by kind, as the reader calls them: "", "cohort", "cohort.pool", ...
void collect(const nlohmann::json& schema, const std::string& kind, keys& into) {
    if (schema.contains("anyOf")) {
        for (const auto& form : schema["anyOf"]) collect(form, kind, into);
    }
    if (schema.contains("items")) collect(schema["items"], kind, into);
    if (!schema.contains("properties")) return;
    for (const auto& [key, value] : schema["properties"].items()) {
        into[kind].insert(key);
        collect(value, kind.empty() ? key : kind + "." + key, into);
    }
}

/// A table of every kind; what is in it does not matter.
constexpr std::string_view one_of_each = R"(
[machine]
[cpuset]
[policy]
[[cohort]]
name = "a"
cpus = { part = "1/2" }
cookie = { same_as = "b" }
pool = { size = "1G" }
[[cohort]]
name = "b"
cpus = { count = 1 }
cookie = ["x"]
pool = { of = "a" }
[[job]]
kind = "exec"
restart = { when = "never" }
[[job]]
kind = "pipe"
input = { command = "true" }
[[job]]
kind = "flow"
output = { command = "true" }
)";

std::string text_of(const std::filesystem::path& path) {
    std::ifstream in(path);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

TEST(spec_schema, has_every_key_that_the_reader_knows_and_no_other) {
    keys schema;
    collect(nlohmann::json::parse(spec_schema()), "", schema);
    const auto read = read_spec("s.toml", one_of_each, [](std::string_view) { return std::nullopt; });
    EXPECT_EQ(read.keys.size(), 12u) << "the text has a table of each kind";
    EXPECT_EQ(schema, read.keys);
}

TEST(spec_schema, is_the_one_that_stands_in_docs) {
    const std::filesystem::path root = ".";  // ctest runs tests there
    EXPECT_EQ(text_of(root / "docs/spec.schema.json"), spec_schema()) << "write it anew: build/cohort plan --schema > docs/spec.schema.json";
}

TEST(spec_schema, is_named_by_the_examples) {
    const std::filesystem::path root = ".";  // ctest runs tests there
    for (const char* name : {"two-tenants.toml", "two-tenants-apart.toml", "two-tenants-handover.toml", "noisy-neighbour.toml", "log-pipeline.toml", "key-value-numa.toml", "partition.toml", "flow.toml"}) {
        EXPECT_TRUE(text_of(root / "examples" / name).starts_with("#:schema ../docs/spec.schema.json\n")) << name;
    }
}

}  // namespace
}  // namespace cohort::group
