// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/spec.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/group/quantity.hpp>
#include <cohort/group/spell.hpp>

namespace cohort::group {
namespace {

std::optional<std::string> no_variables(std::string_view) { return std::nullopt; }
std::optional<std::string> some_variables(std::string_view name) {
    if (name == "HOME") return "/home/me";
    if (name == "EMPTY") return "";
    return std::nullopt;
}

std::vector<std::string> faults_of(std::string_view text) {
    std::vector<std::string> out;
    for (const fault& f : read_spec("s.toml", text, no_variables).faults) out.push_back(f.line());
    return out;
}

constexpr std::string_view good = R"([machine]
topology = "live"

[[cohort]]
name = "left"
cpus = "0"
[[cohort]]
name = "right"
cpus = { part = "2/2" }

[[job]]
name = "make"
cohort = "left"
kind = "exec"
command = ["tar", "-cf", "in.tar", "."]
env = { LANG = "C" }
[[job]]
name = "pack"
cohort = "right"
kind = "pipe"
after = ["make"]
input = "in.tar"
output = "out.zst"
codec = "zstd"
level = 3
block = "1M"
threads = 2
verify = 'zstd -dc < "$OUTPUT" | cmp - "$INPUT"'
)";

TEST(spec, reads_every_key_it_documents) {
    const auto read = read_spec("s.toml", good, no_variables);
    ASSERT_TRUE(read.faults.empty()) << read.faults.front().line();
    const spec& s = read.value;
    EXPECT_EQ(s.machine, "live");
    ASSERT_EQ(s.cohorts.size(), 2u);
    EXPECT_EQ(s.cohorts[0].cpus.kind, cpu_wish::form::list);
    EXPECT_EQ(s.cohorts[0].cpus.text, "0");
    EXPECT_EQ(s.cohorts[0].cpus.at, (place{6, 8}));
    EXPECT_EQ(s.cohorts[1].cpus.kind, cpu_wish::form::part);
    EXPECT_EQ(s.cohorts[1].cpus.part, 2);
    EXPECT_EQ(s.cohorts[1].cpus.of, 2);
    ASSERT_EQ(s.jobs.size(), 2u);
    EXPECT_EQ(s.jobs[0].exec.command.words, (std::vector<std::string>{"tar", "-cf", "in.tar", "."}));
    EXPECT_FALSE(s.jobs[0].exec.command.shell);
    EXPECT_EQ(s.jobs[0].exec.env.at("LANG"), "C");
    const job_spec& pack = s.jobs[1];
    EXPECT_EQ(pack.kind, job_spec::form::pipe);
    EXPECT_EQ(pack.after, std::vector<std::string>{"make"});
    EXPECT_EQ(pack.pipe.block, 1u << 20);
    EXPECT_EQ(pack.pipe.threads, 2);
    EXPECT_EQ(pack.pipe.level, 3);
    EXPECT_TRUE(pack.verify.shell);
}

TEST(spec, a_good_spec_with_one_bad_word_has_one_fault_with_its_place_and_the_right_word) {
    struct row { std::string_view was, is, expected; };
    const row rows[] = {
        {"cohort = \"left\"", "cohort = \"lefft\"", "s.toml:13:10: job \"make\": cohort \"lefft\" does not exist; did you mean \"left\"?"},
        {"kind = \"exec\"", "kind = \"exce\"", "s.toml:14:8: job \"make\": kind \"exce\" is none of pipe, exec, flow; did you mean \"exec\"?"},
        {"codec = \"zstd\"", "codec = \"ztsd\"", "s.toml:24:9: job \"pack\": codec \"ztsd\" is none of zstd, gzip, lz4; did you mean \"zstd\"?"},
        {"level = 3", "levle = 3", "s.toml:25:1: job \"pack\": key \"levle\" is unknown; did you mean \"level\"?"},
        {"level = 3", "level = 99", "s.toml:25:9: job \"pack\": key \"level\" is 99, it must be -7 to 22"},
        {"level = 3", "level = \"3\"", "s.toml:25:9: job \"pack\": key \"level\" must be a whole number, not a string"},
        {"level = 3", "level = 3.5", "s.toml:25:9: job \"pack\": key \"level\" must be a whole number, not a fraction"},
        {"block = \"1M\"", "block = 0", "s.toml:26:9: job \"pack\": key \"block\" is 0, it must be at least 1 byte"},
        {"block = \"1M\"", "block = -4096", "s.toml:26:9: job \"pack\": key \"block\" is -4096, it must be at least 1 byte"},
        {"block = \"1M\"", "block = \"0K\"", "s.toml:26:9: job \"pack\": key \"block\": \"0K\": it must be at least 1 byte"},
        {"block = \"1M\"", "block = \"99999999T\"", "s.toml:26:9: job \"pack\": key \"block\": \"99999999T\": it does not fit 64 bits"},
        {"threads = 2", "threads = 0", "s.toml:27:11: job \"pack\": key \"threads\" is 0, it must be 1 to 8192"},
        {"threads = 2", "stdout = \"x\"", "s.toml:27:1: job \"pack\": key \"stdout\" belongs to kind \"exec\", this job is a \"pipe\""},
        {"threads = 2", "records = true", "s.toml:27:11: job \"pack\": \"records\" goes with \"command\" only"},
        {"threads = 2", "decompress = true", "s.toml:25:9: job \"pack\": \"level\" has no meaning with decompress = true"},
        {"threads = 2", "command = \"cat\"", "s.toml:27:11: job \"pack\": \"codec\" and \"command\" exclude each other"},
        {"after = [\"make\"]", "after = [\"amke\"]", "s.toml:21:10: job \"pack\": job \"amke\" does not exist; did you mean \"make\"?"},
        {"after = [\"make\"]", "after = [\"pack\"]", "s.toml:21:10: job \"pack\": it waits for itself"},
        {"after = [\"make\"]", "after = [3]", "s.toml:21:10: job \"pack\": key \"after\": every entry must be a string, this one is a number"},
        {"output = \"out.zst\"", "output = \"in.tar\"", "s.toml:23:10: job \"pack\": the output is the input"},
        {"output = \"out.zst\"", "output = \"\"", "s.toml:23:10: job \"pack\": key \"output\" is an empty path"},
        {"output = \"out.zst\"", "output = \"${NOPE}/x\"", "s.toml:23:10: job \"pack\": key \"output\": the environment has no NOPE; write ${NOPE:-default} or set it"},
        {"name = \"right\"", "name = \"left\"", "s.toml:8:8: cohort \"left\": the name is used twice, first in line 5"},
        {"name = \"pack\"", "name = \"make\"", "s.toml:18:8: job \"make\": the name is used twice, first in line 12"},
        {"name = \"pack\"", "name = \"../x\"", "s.toml:18:8: job #2: name \"../x\" is not a name: 1 to 64 letters, digits, '-', '_' and '.', the first a letter, digit or '_'"},
        {"cpus = \"0\"", "cpus = 0", "s.toml:6:8: cohort \"left\": key \"cpus\" must be a list in a string, such as \"0-3,8\", { part = \"1/2\" }, or { count = 4, ... }"},
        {"cpus = \"0\"", "cpus = \"\"", "s.toml:6:8: cohort \"left\": cpus \"\": the list is empty"},
        {"part = \"2/2\"", "part = \"3/2\"", "s.toml:9:17: cohort \"right\": part \"3/2\" must be two numbers such as \"1/2\", the first 1 to the second, the second at most 8192"},
        {"part = \"2/2\"", "prat = \"2/2\"", "s.toml:9:10: cohort \"right\": key \"prat\" is unknown; did you mean \"part\"?"},
        {"topology = \"live\"", "topologie = \"live\"", "s.toml:2:1: machine: key \"topologie\" is unknown; did you mean \"topology\"?"},
        {"command = [\"tar\", \"-cf\", \"in.tar\", \".\"]", "command = []", "s.toml:15:11: job \"make\": key \"command\" is an empty command"},
        {"env = { LANG = \"C\" }", "env = { LANG = 1 }", "s.toml:16:16: job \"make\": key \"LANG\" must be a string, not a number"},
        {"env = { LANG = \"C\" }", "instances = 0", "s.toml:16:13: job \"make\": key \"instances\" is 0, it must be 1 to 1048576"},
        {"env = { LANG = \"C\" }", "codec = \"zstd\"", "s.toml:16:1: job \"make\": key \"codec\" belongs to kinds \"pipe\" and \"flow\", this job is an \"exec\""},
        {"level = 3", "level = = 3", "s.toml:25:9: not TOML: "},
    };
    for (const row& r : rows) {
        std::string text(good);
        text.replace(text.find(r.was), r.was.size(), r.is);
        const auto faults = faults_of(text);
        ASSERT_FALSE(faults.empty()) << r.is;
        const bool only_begins = r.expected.ends_with("not TOML: ");
        EXPECT_TRUE(only_begins ? faults[0].starts_with(r.expected) : std::count(faults.begin(), faults.end(), r.expected) == 1)
            << r.is << "\n  got:  " << testing::PrintToString(faults) << "\n  want: " << r.expected;
        // A name that became another's drags its own references along; every other word stands alone.
        if (r.is.find("name =") == std::string_view::npos && r.is.find("kind") == std::string_view::npos && r.is.find("prat") == std::string_view::npos) {
            EXPECT_EQ(faults.size(), 1u) << r.is << testing::PrintToString(faults);
        }
    }
}

TEST(spec, cpu_lists_that_do_not_parse_keep_the_grammars_own_reason) {
    for (const char* list : {"0-", "a", "3-1", "8192", "0,,1x", "0-7:3/2", "-1", "99999999999"}) {
        std::string text(good);
        text.replace(text.find("cpus = \"0\""), 10, std::string("cpus = \"") + list + "\"");
        const auto faults = faults_of(text);
        ASSERT_EQ(faults.size(), 1u) << list;
        EXPECT_TRUE(faults[0].starts_with("s.toml:6:8: cohort \"left\": cpus \"" + std::string(list) + "\": ")) << faults[0];
        EXPECT_FALSE(faults[0].ends_with(": ")) << faults[0];
    }
}

TEST(spec, all_faults_come_in_one_run_in_the_order_of_the_file) {
    const auto faults = faults_of("speed = 1\n[[cohort]]\nname = \"a\"\ncpus = \"x\"\n[[job]]\nname = \"j\"\ncohort = \"b\"\nkind = \"pipe\"\nblock = 0\n");
    ASSERT_EQ(faults.size(), 7u) << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::StartsWith("s.toml:1:1: key \"speed\" is unknown"));
    EXPECT_THAT(faults[1], testing::StartsWith("s.toml:4:8: cohort \"a\": cpus \"x\""));
    EXPECT_THAT(faults, testing::Contains(testing::HasSubstr("key \"input\" is missing")));
    EXPECT_THAT(faults, testing::Contains(testing::HasSubstr("key \"output\" is missing")));
    EXPECT_THAT(faults, testing::Contains(testing::HasSubstr("needs \"codec\" or \"command\"")));
    EXPECT_THAT(faults, testing::Contains(testing::HasSubstr("s.toml:7:10: job \"j\": cohort \"b\" does not exist")));
    EXPECT_THAT(faults[6], testing::StartsWith("s.toml:9:9: job \"j\": key \"block\" is 0"));
}

TEST(spec, a_cycle_of_waiting_jobs_is_named_once) {
    const auto job = [](std::string name, std::string after) {
        return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"true\"\nafter = [" + after + "]\n";
    };
    const auto faults = faults_of("[[cohort]]\nname = \"c\"\n" + job("a", "\"b\"") + job("b", "\"d\"") + job("d", "\"a\"") + job("e", "\"a\""));
    ASSERT_EQ(faults.size(), 1u) << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::HasSubstr("\"a\" waits for \"b\" waits for \"d\" waits for \"a\""));
}

TEST(spec, two_jobs_must_not_write_the_same_file_whatever_its_spelling) {
    const auto job = [](std::string name, std::string file) {
        return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"true\"\nstdout = \"" + file + "\"\n";
    };
    const auto faults = faults_of("[[cohort]]\nname = \"c\"\n" + job("a", "x/y") + job("b", "x/./y") + job("n", "/dev/null") + job("m", "/dev/null"));
    ASSERT_EQ(faults.size(), 1u) << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::HasSubstr("job \"b\": it writes \"x/./y\", so does job \"a\""));
}

TEST(spec, many_instances_need_a_name_each_for_their_outputs) {
    const std::string head = "[[cohort]]\nname = \"c\"\n[[job]]\nname = \"j\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"true\"\ninstances = 3\n";
    EXPECT_THAT(faults_of(head + "stdout = \"log\"\n"), testing::ElementsAre(testing::HasSubstr("3 instances cannot share \"log\"")));
    EXPECT_TRUE(faults_of(head + "stdout = \"log.{instance}\"\n").empty());
}

TEST(spec, restart_rules_are_a_word_or_a_table) {
    const std::string head = "[[cohort]]\nname = \"c\"\n[[job]]\nname = \"j\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = \"true\"\n";
    const auto rule = [&](const std::string& text) {
        const auto r = read_spec("s.toml", head + "restart = " + text + "\n", no_variables);
        EXPECT_TRUE(r.faults.empty()) << r.faults.front().line();
        return r.value.jobs[0].exec.restart;
    };
    EXPECT_EQ(rule("\"never\"").text(), "never");
    EXPECT_EQ(rule("\"on-failure\"").text(), "on failure, after 100 ms to 10.0 s");
    EXPECT_EQ(rule("{ when = \"always\", max = 3, backoff = \"2s\", longest = \"1min\" }").text(), "always, at most 3 times, after 2.00 s to 60.0 s");
    EXPECT_EQ(rule("{ when = \"on-failure\", max = 1, backoff = \"20s\" }").text(), "on failure, at most 1 time, after 20.0 s");
    const auto fault = [&](const std::string& text) { return faults_of(head + "restart = " + text + "\n"); };
    EXPECT_THAT(fault("\"on-fail\""), testing::ElementsAre("s.toml:8:11: job \"j\": restart \"on-fail\" is none of never, on-failure, always; did you mean \"on-failure\"?"));
    EXPECT_THAT(fault("true"), testing::ElementsAre(testing::HasSubstr("s.toml:8:11: job \"j\": key \"restart\" must be \"never\"")));
    EXPECT_THAT(fault("{ max = 3 }"), testing::ElementsAre(testing::HasSubstr("key \"when\" is missing")));
    EXPECT_THAT(fault("{ when = \"never\", max = 3 }"), testing::ElementsAre(testing::HasSubstr("\"max\" has no meaning where nothing is started again")));
    EXPECT_THAT(fault("{ when = \"always\", max = 0 }"), testing::ElementsAre(testing::HasSubstr("key \"max\" is 0, it must be 1 to 1000000")));
    EXPECT_THAT(fault("{ when = \"always\", backoff = \"soon\" }"), testing::ElementsAre(testing::HasSubstr("key \"backoff\": \"soon\": a time is a whole number and ns, us, ms, s, min or h")));
    EXPECT_THAT(fault("{ when = \"always\", backoff = \"5s\", longest = \"1s\" }"), testing::ElementsAre(testing::HasSubstr("the longest back-off is shorter than the first")));
}

TEST(spec, an_empty_file_says_that_a_cohort_is_missing) {
    EXPECT_THAT(faults_of(""), testing::ElementsAre("s.toml:1:1: no [[cohort]]: a spec has at least one"));
    EXPECT_THAT(faults_of("cohort = 3"), testing::Contains(testing::HasSubstr("must be written [[cohort]]")));
    EXPECT_THAT(faults_of("[cohort]\nname = \"a\""), testing::Contains(testing::HasSubstr("must be written [[cohort]]")));
}

TEST(spec, hostile_bytes_give_faults_and_no_crash) {
    const std::string bad[] = {std::string("\xff\xfe\0\0", 4), std::string(100000, '['), "a = \"\\u0000\"", "[[job]]", "[[job]]\n[[job]]", "\"\" = 1"};
    for (const std::string& text : bad) EXPECT_FALSE(faults_of(text).empty());
}

TEST(expand, puts_variables_in_and_defaults_may_nest) {
    const auto value = [](std::string_view t) { return expand(t, some_variables); };
    EXPECT_EQ(value("${HOME}/x").value(), "/home/me/x");
    EXPECT_EQ(value("${A:-${B:-/tmp}/demo}").value(), "/tmp/demo");
    EXPECT_EQ(value("${EMPTY:-d}").value(), "d");
    EXPECT_EQ(value("a$$b $c").value(), "a$b $c");
    EXPECT_EQ(value("${HOME").error().code, EINVAL);
    EXPECT_EQ(value("${NOPE}").error().code, EINVAL);
    EXPECT_EQ(value("${}").error().code, EINVAL);
}

TEST(command_line, is_shown_as_a_person_would_type_it) {
    EXPECT_EQ((command_line{{"/bin/sh", "-c", "a | b"}, true}.text()), "a | b");
    EXPECT_EQ((command_line{{"tr", "0-9", "a b"}, false}.text()), "tr 0-9 'a b'");
}

TEST(spell, finds_the_nearest_word_and_stays_silent_when_none_is_near) {
    EXPECT_EQ(edit_distance("ingset", "ingest"), 1);
    EXPECT_EQ(edit_distance("", "abc"), 3);
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
    EXPECT_EQ(nearest("topo", {"up", "topology"}), "topology");
    EXPECT_EQ(nearest("dowm", {"doctor", "down"}), "down");
    EXPECT_EQ(did_you_mean("zzzz", {"up", "down"}), "");
    EXPECT_EQ(nearest("x", {}), "");
}

TEST(quantity, sizes_are_read_as_people_write_them) {
    EXPECT_EQ(parse_bytes("4096").value(), 4096u);
    EXPECT_EQ(parse_bytes("64k").value(), 65536u);
    EXPECT_EQ(parse_bytes("1 MiB").value(), 1u << 20);
    EXPECT_EQ(parse_bytes("2GB").value(), 2ull << 30);
    EXPECT_EQ(parse_bytes("18446744073709551615").value(), ~0ull);
    for (const char* bad : {"", "0", "0M", "-1", "1X", "1.5M", "M", "1MM", "1 M "}) EXPECT_EQ(parse_bytes(bad).error().code, EINVAL) << bad;
    for (const char* big : {"18446744073709551616", "16777216T"}) EXPECT_EQ(parse_bytes(big).error().code, ERANGE) << big;
}

TEST(quantity, times_are_read_as_people_write_them) {
    EXPECT_EQ(parse_duration("250us").value(), 250'000u);
    EXPECT_EQ(parse_duration("100 ms").value(), 100'000'000u);
    EXPECT_EQ(parse_duration("2h").value(), 7'200'000'000'000u);
    for (const char* bad : {"", "5", "0s", "-1s", "1.5s", "s", "1sec", "1 s "}) EXPECT_EQ(parse_duration(bad).error().code, EINVAL) << bad;
    for (const char* big : {"8761h", "99999999999999999999s"}) EXPECT_EQ(parse_duration(big).error().code, ERANGE) << big;
}

TEST(quantity, is_shown_with_three_digits) {
    EXPECT_EQ(human_bytes(0), "0 B");
    EXPECT_EQ(human_bytes(999), "999 B");
    EXPECT_EQ(human_bytes(1023), "1.00 KiB");
    EXPECT_EQ(human_bytes(1536), "1.50 KiB");
    EXPECT_EQ(human_bytes(312.4 * 1024 * 1024), "312 MiB");
    EXPECT_EQ(human_seconds(0.0123), "12.3 ms");
    EXPECT_EQ(human_seconds(4.56), "4.56 s");
    EXPECT_EQ(human_seconds(125), "2 min 05 s");
    EXPECT_EQ(human_seconds(85e-9), "85 ns");
}

}  // namespace
}  // namespace cohort::group
