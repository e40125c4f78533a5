// SPDX-License-Identifier: Apache-2.0
// Sequences that once told the model from a kernel, with what that kernel answered (lab/diff --answers): no kernel is needed to repeat them.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

constexpr int at_least = 20;

/// The profile of a folder: "6.12", "6.12-v1".
model_options profile_of(const std::string& folder) {
    const std::size_t dash = folder.find('-');
    return {.profile = parse_kernel(folder.substr(0, dash)).value(), .v1 = dash != std::string::npos};
}

TEST(kernel_answers, are_the_models) {
    int seen = 0;
    for (const auto& file : std::filesystem::recursive_directory_iterator("lab/sequences")) {
        if (file.path().extension() != ".txt") continue;
        std::stringstream text;
        text << std::ifstream(file.path()).rdbuf();
        ASSERT_NE(text.str().find("->"), std::string::npos) << file.path() << " has no answers: lab/diff --answers";
        SCOPED_TRACE(file.path());
        testing::script m(profile_of(file.path().parent_path().filename()));
        m.run(text.str());
        ++seen;
    }
    EXPECT_GE(seen, at_least) << "run from the top of the source tree";
}

}  // namespace
}  // namespace cohort::cpuset
