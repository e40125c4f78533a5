// SPDX-License-Identifier: Apache-2.0
// Specs that contradict themselves or the machine: every fault in one run, each with its place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// What `cohort plan` tells of a spec: its own faults, and those against the machine.
std::vector<std::string> faults_of(const std::string& text, const std::string& machine = "pack:2 numa:1 core:2 pu:2", const std::function<void(cpuset_view&)>& change = {}) {
    auto read = read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
    machine_view m = view_machine("synthetic:" + machine, sys::real()).value();
    const auto sets = view_cpusets("synthetic:" + machine, "", sys::real()).value();
    if (change) change(const_cast<cpuset_view&>(*sets));
    m.cpusets = sets;
    for (fault& f : check_cpus(read.value, m)) read.faults.push_back(std::move(f));
    std::vector<std::string> out;
    for (const fault& f : read.faults) out.push_back(f.line());
    return out;
}
std::string cohort_of(const std::string& name, const std::string& cpus, const std::string& more = {}) { return "[[cohort]]\nname = \"" + name + "\"\ncpus = \"" + cpus + "\"\n" + more; }

TEST(bad_input, a_cpu_wanted_twice_where_one_wants_it_alone) {
    const std::string alone = "partition = \"root\"\n";
    EXPECT_THAT(faults_of(cohort_of("a", "0-3", alone) + cohort_of("b", "3-4") + cohort_of("c", "5")), ElementsAre("s.toml:7:8: cohort \"b\": cpus \"3-4\": CPU 3 is wanted twice: cohort \"a\" in line 3 wants it alone, as a partition"));
    EXPECT_THAT(faults_of(cohort_of("a", "0-3") + cohort_of("b", "2-N", alone)), ElementsAre(HasSubstr("s.toml:3:8: cohort \"a\": cpus \"0-3\": CPUs 2-3 are wanted twice: cohort \"b\" in line 6 wants them alone")));
    EXPECT_THAT(faults_of(cohort_of("a", "0-3", alone) + cohort_of("b", "3", alone)), ElementsAre(HasSubstr("s.toml:7:8: cohort \"b\"")));
    EXPECT_THAT(faults_of(cohort_of("a", "0-3") + cohort_of("b", "2-5")), IsEmpty()) << "to share is allowed, and the plan says so";
    EXPECT_THAT(faults_of(cohort_of("a", "0-3", alone) + cohort_of("b", "3", "inside = \"a\"\n")), IsEmpty()) << "it is of them";
}

TEST(bad_input, nodes_that_do_not_exist_or_have_no_memory) {
    EXPECT_THAT(faults_of(cohort_of("a", "0", "mems = \"1-2\"\n")), ElementsAre(HasSubstr("s.toml:4:8: cohort \"a\": mems \"1-2\": machine synthetic:pack:2 numa:1 core:2 pu:2 has nodes 0-1, not 2")));
    const auto only_first = [](cpuset_view& v) {
        v.machine.nodes[0].memory_bytes = 1 << 30;
        v.machine.nodes[1].memory_bytes = 0;
    };
    EXPECT_THAT(faults_of(cohort_of("a", "0", "mems = \"0-1\"\n") + cohort_of("b", "1", "mems = \"0\"\n"), "pack:2 numa:1 core:2 pu:2", only_first),
                ElementsAre("s.toml:4:8: cohort \"a\": mems \"0-1\": node 1 has no memory; nodes 0 have"));
    const auto none_known = [](cpuset_view& v) {
        for (auto& n : v.machine.nodes) n.memory_bytes = 0;
    };
    EXPECT_THAT(faults_of(cohort_of("a", "0", "mems = \"1\"\n"), "pack:2 numa:1 core:2 pu:2", none_known), IsEmpty()) << "nothing is known of any";
}

TEST(bad_input, everything_that_is_wrong_is_told_in_one_run) {
    const std::string text = R"([policy]
cpuset = "emulat"
[[cohort]]
name = "web"
cpus = "0-99"
cookie = { same_as = "dbx" }
[[cohort]]
name = "db"
cpus = "0-1"
partition = "rot"
mems = "7"
inside = "dbb"
[[cohort]]
name = "log"
cpus = { count = 0, apart_from = "wbe" }
inside = "log"
cookie = { same_as = "log" }
[[job]]
name = "a"
cohort = "wbe"
kind = "exec"
command = "true"
after = ["b"]
restart = "sometimes"
[[job]]
name = "b"
cohort = "web"
kind = "pipe"
after = ["a", "c"]
input = "x"
output = "x"
codec = "zst"
)";
    EXPECT_THAT(faults_of(text), testing::UnorderedElementsAre(
        HasSubstr("s.toml:2:10: policy: cpuset \"emulat\" is none of require, prefer, emulate; did you mean \"emulate\"?"),
        HasSubstr("s.toml:6:22: cohort \"web\": cohort \"dbx\" does not exist; did you mean \"db\"?"),
        HasSubstr("s.toml:10:13: cohort \"db\": partition \"rot\" is none of member, root, isolated; did you mean \"root\"?"),
        HasSubstr("s.toml:12:10: cohort \"db\": cohort \"dbb\" does not exist; did you mean \"db\"?"),
        HasSubstr("s.toml:15:18: cohort \"log\": key \"count\" is 0, it must be 1 to"),
        HasSubstr("s.toml:15:34: cohort \"log\": cohort \"wbe\" does not exist; did you mean \"web\"?"),
        HasSubstr("s.toml:16:10: cohort \"log\": it cannot be inside of itself"),
        HasSubstr("s.toml:17:22: cohort \"log\": its cookie cannot be the same as its own"),
        HasSubstr("s.toml:20:10: job \"a\": cohort \"wbe\" does not exist; did you mean \"web\"?"),
        HasSubstr("s.toml:24:11: job \"a\": restart \"sometimes\" is none of never, on-failure, always"),
        HasSubstr("s.toml:26:8: job \"b\": a cycle in after: \"a\" waits for \"b\" waits for \"a\""),
        HasSubstr("s.toml:29:15: job \"b\": job \"c\" does not exist"),
        HasSubstr("s.toml:31:10: job \"b\": the output is the input"),
        HasSubstr("s.toml:32:9: job \"b\": codec \"zst\" is none of zstd, gzip, lz4; did you mean \"zstd\"?"),
        // Against the machine.
        HasSubstr("s.toml:5:8: cohort \"web\": cpus \"0-99\": machine"),
        HasSubstr("s.toml:11:8: cohort \"db\": mems \"7\": machine")));
}

}  // namespace
}  // namespace cohort::group
