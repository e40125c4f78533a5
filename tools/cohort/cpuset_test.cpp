// SPDX-License-Identifier: Apache-2.0
// `cohort cpuset` as users run it.
#include <sstream>
#include <string>
#include <vector>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;
using testing::ran;

class cpuset_cli : public testing::command_line {
protected:
    ran simulate(const std::string& operations, const std::string& options) {
        file("operations", operations);
        return bash("$cohort cpuset simulate " + options + " <operations");
    }
    static std::vector<nlohmann::json> objects(const std::string& out) {
        std::vector<nlohmann::json> all;
        std::istringstream lines(out);
        for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line));
        return all;
    }
};

constexpr const char* eight = " --machine 'synthetic:pack:2 numa:1 core:2 pu:2'";

TEST_F(cpuset_cli, simulate_answers_each_command_with_one_object) {
    const ran r = simulate("mkdir a\nwrite a cpuset.cpus 2-3\nwrite a cpuset.cpus.partition isolated\nread a cpuset.cpus.partition\n"
                           "read . cpuset.cpus.effective\ncpu 3 offline\nread a cpuset.cpus.effective\n",
                           std::string("--kernel 6.12 --json") + eight);
    EXPECT_EQ(r.code, 0) << r.err;
    const auto all = objects(r.out);
    ASSERT_EQ(all.size(), 7u);
    for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(all[i]["line"], i + 1);
        EXPECT_EQ(all[i]["ok"], true);
        EXPECT_EQ(all[i]["schema_version"], 1);
    }
    EXPECT_FALSE(all[0].contains("value"));
    EXPECT_EQ(all[3]["value"], "isolated");
    EXPECT_EQ(all[4]["value"], "0-1,4-7");
    EXPECT_EQ(all[6]["value"], "2");
}

TEST_F(cpuset_cli, simulate_goes_on_after_a_refusal) {
    const ran r = simulate("rmdir x\n\nread . cpuset.cpus\nattach . t\ntask t\ndomains\ntasks .\nread . cpuset.cpus.effective", std::string("--json") + eight);
    EXPECT_EQ(r.code, 0) << r.err;
    const auto all = objects(r.out);
    ASSERT_EQ(all.size(), 7u);
    EXPECT_EQ(all[0]["errno"], "ENOENT");
    EXPECT_EQ(all[0]["ok"], false);
    EXPECT_THAT(all[0]["why"].get<std::string>(), HasSubstr("\"x\""));
    EXPECT_EQ(all[1]["line"], 3) << "an empty line counts and says nothing";
    EXPECT_EQ(all[3]["value"], "0-7");
    EXPECT_EQ(all[3]["mems"], "0-1");
    EXPECT_EQ(all[3]["path"], ".");
    EXPECT_EQ(all[4]["value"], nlohmann::json({"0-7"}));
    EXPECT_EQ(all[5]["value"], nlohmann::json({"t"}));
}

TEST_F(cpuset_cli, simulate_ends_at_a_line_outside_the_grammar) {
    const ran r = simulate("mkdir a\nwrite a\nmkdir b\n", std::string("--json") + eight);
    EXPECT_EQ(r.code, 2);
    EXPECT_EQ(objects(r.out).size(), 1u) << "what came before is answered, what comes after is not";
    EXPECT_EQ(r.err, "cohort: standard input:2:8: a file was expected\n");
    EXPECT_EQ(simulate(std::string("mkdir \xff/\x01/..\n", 13), std::string("--json") + eight).code, 2);
}

TEST_F(cpuset_cli, simulate_takes_profiles_and_versions) {
    EXPECT_THAT(simulate("mkdir a\nread a cpuset.cpus.exclusive", std::string("--kernel 6.1") + eight).out, HasSubstr("ENOENT"));
    EXPECT_THAT(simulate("mkdir a\nattach a t", std::string("--v1") + eight).out, HasSubstr("ENOSPC"));
    EXPECT_EQ(simulate("", "--kernel 5.4").code, 2);
    EXPECT_EQ(simulate("", "--machine synthetic:nonsense").code, 2);
    EXPECT_THAT(simulate("mkdir a\nread a cpuset.cpus.partition\n", eight).out, HasSubstr("2: read a cpuset.cpus.partition: \"member\"\n"));
}

TEST_F(cpuset_cli, simulate_takes_any_byte_in_a_value) {
    const ran r = simulate("mkdir a\nwrite a cpuset.cpus \xff\xfe\n", std::string("--json") + eight);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(objects(r.out).at(1)["errno"], "EINVAL");
}

TEST_F(cpuset_cli, simulate_traces_a_hotplug_within_its_answer) {
    const ran r = simulate("mkdir a\ncpu 3 offline\n", std::string("--trace --json") + eight);
    EXPECT_EQ(r.code, 0) << r.err;
    const auto all = objects(r.out);
    ASSERT_EQ(all.size(), 2u);
    EXPECT_TRUE(all[0]["trace"].empty());
    EXPECT_EQ(all[1]["trace"][0]["step"], "notify");
    EXPECT_EQ(all[1]["trace"].back()["step"], "domains");
    EXPECT_THAT(simulate("mkdir a\ncpu 3 offline\n", std::string("--trace") + eight).out, HasSubstr("   visit    a            CPUs \"0-7\" -> CPUs \"0-2,4-7\"\n"));
    EXPECT_THAT(simulate("cpu 3 offline\n", eight).out, ::testing::Not(HasSubstr("visit")));
}

}  // namespace
}  // namespace cohort::cli
