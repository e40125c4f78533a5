// SPDX-License-Identifier: Apache-2.0
/// For tests of the program: scripts that run `$cohort` as a user would, in an empty directory of the test's own.
///
///     class pipe_cli : public cli::testing::command_line {};
///     TEST_F(pipe_cli, round_trips) {
///         expect(0, "seq 9 | $cohort pipe --codec zstd | zstd -dc | cmp - <(seq 9)");
///         expect(5, "$cohort pipe --codec zstd nowhere", "nowhere: open: ENOENT");     // and what standard error says
///         EXPECT_EQ(json("$cohort doctor --json")["schema_version"], 1);
///     }
///
/// Scripts are bash's, with LC_ALL=C and COHORT_RUN_DIR=run_dir(), and find `until_so CONDITION`, which waits until it holds, a minute at most.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::cli::testing {

struct ran {
    int code = -1;  ///< of the script; 124: it took too long; 128 + a signal's number
    std::string out, err;
};

inline std::string text_of(const std::string& path) {
    std::ifstream f(path, std::ios::binary);
    std::ostringstream s;
    s << f.rdbuf();
    return s.str();
}

class command_line : public ::testing::Test {
protected:
    /// Commands that stand before each script.
    virtual std::string before_scripts() const { return ""; }

    ran bash(const std::string& script) {
        std::ofstream(talk_ / "script") << "cd '" << dir_.path() << "'\nexport LC_ALL=C COHORT_RUN_DIR='" << run_dir() << "'\ncohort='" << COHORT_PROGRAM << "'\n" << R"sh(
            until_so() { for i in $(seq 3000); do eval "$1" && return 0; sleep 0.02; done; echo "never: $1" >&2; return 1; }
            )sh" << before_scripts() << "\n" << script;
        const std::string command = "timeout -k 2 180 bash '" + talk_ / "script" + "' >'" + talk_ / "out" + "' 2>'" + talk_ / "err" + "'";
        const int status = std::system(command.c_str());
        return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text_of(talk_ / "out"), text_of(talk_ / "err")};
    }
    void expect(int code, const std::string& script, const std::string& in_err = "") {
        const ran r = bash(script);
        EXPECT_EQ(r.code, code) << script << "\nstdout: " << r.out.substr(0, 2000) << "\nstderr: " << r.err.substr(0, 2000);
        EXPECT_THAT(r.err, ::testing::HasSubstr(in_err)) << script;
    }
    nlohmann::json json(const std::string& script, int code = 0) {
        const ran r = bash(script);
        EXPECT_EQ(r.code, code) << script << "\n" << r.err;
        auto j = nlohmann::json::parse(r.out, nullptr, false);
        EXPECT_FALSE(j.is_discarded()) << script << "\n" << r.out.substr(0, 2000);
        EXPECT_EQ(j.is_object() ? j.value("schema_version", 0) : 0, 1) << script;
        return j;
    }

    void file(const std::string& name, const std::string& text) { std::ofstream(dir_ / name, std::ios::binary) << text; }
    std::string text(const std::string& name) const { return text_of(dir_ / name); }
    std::string run_dir() const { return talk_ / "run"; }

    sys::testing::scratch_dir dir_;   ///< where scripts start

private:
    sys::testing::scratch_dir talk_;  ///< the scripts, and what they print
};

}  // namespace cohort::cli::testing
