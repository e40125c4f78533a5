// SPDX-License-Identifier: Apache-2.0
// `cohort coresched` as users run it.
#include <string>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::HasSubstr;

class coresched_cli : public testing::command_line {
protected:
    void scenario(const std::string& text) { file("s.toml", text); }

    static constexpr const char* pair = "machine = \"pack:1 core:1 pu:2\"\nduration_ms = 100\n[[task]]\nname = \"a\"\ncookie = 1\ncpus = \"0\"\n[[task]]\nname = \"b\"\ncpus = \"1\"\n";
};

TEST_F(coresched_cli, simulate_tells_shares_and_forced_idleness) {
    scenario(pair);
    const auto j = json("$cohort coresched simulate s.toml --json");
    EXPECT_EQ(j["policy"], "kernel");
    ASSERT_EQ(j["tasks"].size(), 2u);
    double share = 0, charged = 0, forced = 0;
    for (const auto& t : j["tasks"]) {
        share += t["share"].get<double>();
        charged += t["forceidle_ms"].get<double>();
        EXPECT_TRUE(t.contains("name") && t.contains("runtime_ms"));
    }
    for (const auto& c : j["cpus"]) {
        forced += c["forced_idle_ms"].get<double>();
        EXPECT_NEAR(c["busy_ms"].get<double>() + c["idle_ms"].get<double>(), 100, 1e-6);
    }
    EXPECT_NEAR(share, 1, 0.02) << "one of the two at a time";
    EXPECT_NEAR(charged, forced, 1e-6);
    EXPECT_NEAR(j["total"]["forced_idle_ms"].get<double>(), forced, 1e-6);
    for (const char* key : {"throughput", "jain", "switches"}) EXPECT_TRUE(j["total"].contains(key)) << key;
    EXPECT_THAT(bash("$cohort coresched simulate - <s.toml").out, HasSubstr("cookie 1 kept cookie 0 waiting"));
}

TEST_F(coresched_cli, simulate_sets_all_policies_side_by_side_and_draws_them) {
    scenario(pair);
    const auto j = json("$cohort coresched simulate s.toml --policy all --json --svg out.svg --perfetto out.json");
    ASSERT_GE(j["policies"].size(), 5u);
    for (const auto& p : j["policies"]) {
        const bool apart = p["policy"] != "unprotected" && p["policy"] != "nosmt";
        EXPECT_EQ(p["total"]["forced_idle_ms"].get<double>() > 50, apart) << p["policy"];
    }
    EXPECT_THAT(text("out.svg"), HasSubstr("url(#forced)"));
    EXPECT_THAT(text("out.svg"), HasSubstr("policy unprotected"));
    expect(0, "python3 -c 'import xml.dom.minidom as m; m.parse(\"out.svg\")'");
    const auto trace = nlohmann::json::parse(text("out.json"));
    double forced = 0;
    for (const auto& e : trace["traceEvents"]) {
        if (e["pid"] == 0 && e["name"] == "forced idle") forced += e["dur"].get<double>();
    }
    EXPECT_NEAR(forced / 1000, j["policies"][0]["total"]["forced_idle_ms"].get<double>(), 1e-3);
    EXPECT_THAT(bash("$cohort coresched simulate s.toml --policy all").out, HasSubstr("of nosmt"));
}

TEST_F(coresched_cli, simulate_traces_picks_and_tells_what_yield_pays) {
    scenario(pair);
    const std::string steps = bash("$cohort coresched simulate s.toml --trace --profile 6.1").out;
    for (const char* part : {"chooses for its core (cookie 0)", "CPU 0: its own choice is a", "goes first: the core's cookie is", "idle, forced", "takes what was picked for it"}) EXPECT_THAT(steps, HasSubstr(part));
    EXPECT_THAT(bash("$cohort coresched simulate s.toml --policy all").out, HasSubstr("pays from yield"));
    for (const auto& p : json("$cohort coresched simulate s.toml --policy all --json")["policies"]) {
        const auto& yield = p["total"]["break_even_yield"];
        EXPECT_TRUE(p["policy"] == "unprotected" ? yield == 1 : yield.is_null() || yield.get<double>() < 1.01) << p["policy"] << yield;
    }
}

TEST_F(coresched_cli, simulate_refuses_what_it_does_not_understand_with_its_place) {
    struct row {
        const char *text, *says;
    };
    for (const row& r : {row{"[[task]]\nname = \"a\"\ncokie = 1\n", "s.toml:3:1: task \"a\": "},
                         row{"[[task]]\nname = \"a\"\nweight = 0\n", "s.toml:3:10: task \"a\": key \"weight\" is 0, it must be 1 to 88761"},
                         row{"[[task]]\nname = \"a\"\ncpus = \"x\"\n", "s.toml:3:8: task \"a\": cpus \"x\""},
                         row{"[[task]]\nname = \"a\"\ncpus = \"9\"\n", "s.toml: task \"a\": place on CPUs 9: EINVAL: the machine has 0-1"},
                         row{"[[task]]\nname = \"a\"\nkind = \"hogg\"\n", "did you mean \"hog\"?"},
                         row{"[[task]]\nname = \"a\"\nkind = \"periodic\"\n", "run_us"},
                         row{"[[task]]\nname = \"a\"\ngroup = \"g\"\n", "put into group \"g\": EINVAL: there is none of this name"},
                         row{"[[group]]\nname = \"g/h\"\n[[task]]\nname = \"a\"\n", "group \"g/h\": add: EINVAL: there is no group \"g\" before it"},
                         row{"[[group]]\nname = \"g\"\n[[group]]\nname = \"g\"\n[[task]]\nname = \"a\"\n", "there are two of this name"},
                         row{"[[group]]\nname = \"g\"\nweight = 1\n[[task]]\nname = \"a\"\n", "s.toml:3:10: group 1: key \"weight\" is 1, it must be 2 to 262144"},
                         row{"[[task]]\nname = \"a\"\nclass = \"deadline\"\ndeadline_us = 5\n", "runtime_us"},
                         row{"[[task]]\nname = \"a\"\nclass = \"deadline\"\nruntime_us = 9\ndeadline_us = 5\n", "runtime_us <= deadline_us <= period_us"},
                         row{"[[task]]\nname = \"a\"\n[[event]]\nat_ms = -1\nop = \"exit\"\ntask = \"a\"\n", "s.toml:4:9: event 1: key \"at_ms\" is -1"},
                         row{"[[task]]\nname = \"a\"\n[[event]]\nat_ms = 1\nop = \"create\"\ntask = \"z\"\n", "act on task \"z\": EINVAL: there is none of this name"},
                         row{"[[task]]\nname = \"a\"\n[[event]]\nat_ms = 1\nop = \"create\"\ntask = \"a\"\nscope = \"process\"\n", "scope \"process\""},
                         row{"smt_yield = \"x\"\n[[task]]\nname = \"a\"\n", "key \"smt_yield\" must be a number"},
                         row{"smt_yield = 9\n[[task]]\nname = \"a\"\n", "it must be 1 to 8"},
                         row{"duration_ms = 0\n[[task]]\nname = \"a\"\n", "duration_ms"}, row{"duration_ms = 5\n", "there is no [[task]]"}, row{"= 5\n", "not TOML"}}) {
        scenario(r.text);
        expect(2, "$cohort coresched simulate s.toml", r.says);
    }
    scenario(pair);
    expect(2, "$cohort coresched simulate s.toml --policy best", "there are kernel, unprotected");
    expect(2, "$cohort coresched simulate s.toml --profile 5.4", "there are 6.12, 6.1");
    expect(2, "$cohort coresched simulate s.toml --trace --json", "--trace is text of one policy");
    expect(5, "$cohort coresched simulate nowhere.toml", "nowhere.toml");
    expect(5, "$cohort coresched simulate s.toml --svg nowhere/out.svg", "nowhere/out.svg");
}

}  // namespace
}  // namespace cohort::cli
