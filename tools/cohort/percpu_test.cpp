// SPDX-License-Identifier: Apache-2.0
// `cohort percpu` as users run it.
#include <string>
#include <vector>

#include <cohort/sys/usdt.hpp>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ran;

class percpu_cli : public testing::command_line {};

TEST_F(percpu_cli, bench_measures_each_figure_beside_its_peers) {
    const auto j = json("$cohort percpu bench --json --rounds 1");
    std::vector<std::string> names;
    for (const auto& f : j["figures"]) {
        names.push_back(f["name"]);
        EXPECT_GT(f["ours"], 0) << f["name"];
        for (const auto& p : f["peers"]) EXPECT_TRUE(p["peer"] > 0 && p["ratio"] > 0) << f["name"] << p["name"];
    }
    EXPECT_THAT(names, ::testing::IsSupersetOf({"add/1t", "counter_add/1t", "alloc_free/64B/1t", "rwsem_read/1t", "rwsem_write", "sum"}));
    EXPECT_GT(j["memory"]["resident_bytes"], 0);
    EXPECT_GE(j["present_cpus"], 1);
}

TEST_F(percpu_cli, bench_works_without_restartable_sequences) {
    const auto j = json("export GLIBC_TUNABLES=glibc.pthread.rseq=0\n$cohort percpu bench --json --rounds 1");
    EXPECT_EQ(j["sequences"], false);
}

TEST_F(percpu_cli, bench_refuses_rounds_that_are_none) {
    for (const char* n : {"0", "x", "1001"}) EXPECT_EQ(bash(std::string("$cohort percpu bench --rounds ") + n).code, 2) << n;
}

TEST_F(percpu_cli, demo_tells_the_steps_of_an_allocation_in_their_order) {
    const ran r = bash("$cohort percpu demo --trace");
    EXPECT_EQ(r.code, 0) << r.err;
    std::size_t at = 0;
    for (const char* step : {"1. 96 bytes", "size check: 96 bytes aligned to 8", "charge: ", "slot search: a run of 96 bytes", "new chunk at 0x", "block fit: ", "area: bits ", "populate: ",
                             "done: 96 bytes", "2. the same", "refused: the group, or one above it, is at its limit", "ENOMEM", "3. 40000 bytes", "refused: illegal size or align",
                             "4. 64 bytes", "areas more in the same way", "refill: ", "5. 64 bytes again", "magazine: ", "6. 8192 bytes", "brought in on ", "7. the object of 1.",
                             "free: handle 0x", "clear: 96 bytes", "8. and freed once more", "EINVAL", "9. the rest", "destroyed"}) {
        const std::size_t found = r.out.find(step, at);
        ASSERT_NE(found, std::string::npos) << "\"" << step << "\" does not come after:\n" << r.out.substr(0, at);
        at = found;
    }
    EXPECT_THAT(r.out, Not(HasSubstr("values")));
    const ran quiet = bash("$cohort percpu demo");
    EXPECT_EQ(quiet.code, 0);
    EXPECT_THAT(quiet.out, Not(HasSubstr("percpu:")));
    EXPECT_THAT(quiet.out, HasSubstr("-> handle 0x"));
}

TEST_F(percpu_cli, stat_demo_shows_the_kernels_figures_and_its_own) {
    const auto j = json("$cohort percpu stat --demo --json");
    const auto& a = j["allocators"][0];
    EXPECT_EQ(a["name"], "demo");
    EXPECT_EQ(a["nr_alloc"], 3000);
    EXPECT_EQ(a["nr_cur_alloc"], 2000);
    EXPECT_GE(a["populated_bytes"], a["live_bytes"]);
    const ran text = bash("$cohort percpu stat --demo");
    EXPECT_EQ(text.code, 0);
    EXPECT_THAT(text.out, ContainsRegex("nr_cur_alloc +: +2000"));
    EXPECT_THAT(text.out, HasSubstr("<- First Chunk"));
    EXPECT_EQ(text.err, "");
}

TEST_F(percpu_cli, stat_shows_another_process_that_was_started_so) {
    const auto j = json(R"(
        COHORT_PERCPU_STAT=1 $cohort percpu bench --rounds 200 >/dev/null & p=$!
        trap "kill $p" EXIT
        until_so '$cohort percpu stat $p --json >j 2>e && grep -q "\"nr_cur_alloc\": [1-9]" j' || { cat e >&2; exit 1; }
        cat j
        $cohort percpu stat $p >text && grep -q 'Percpu Memory Statistics, allocator "percpu"' text)");
    ASSERT_FALSE(j["allocators"].empty());
    EXPECT_EQ(j["allocators"][0]["name"], "percpu");
    EXPECT_GT(j["allocators"][0]["nr_alloc"], 0);
}

TEST_F(percpu_cli, stat_says_what_to_do_where_there_is_no_answer) {
    const ran silent = bash("$cohort percpu stat $$");
    EXPECT_EQ(silent.code, 3);
    EXPECT_THAT(silent.err, HasSubstr("COHORT_PERCPU_STAT=1"));
    const ran gone = bash("bash -c 'echo $$' >p; $cohort percpu stat $(cat p)");
    EXPECT_EQ(gone.code, 5);
    EXPECT_THAT(gone.err, HasSubstr("there is no such process"));
    for (const char* bad : {"", "0", "-5", "x", "12x", "99999999999", "1 --demo", "1 2"}) {
        const ran r = bash(std::string("$cohort percpu stat ") + bad);
        EXPECT_EQ(r.code, 2) << bad;
        EXPECT_NE(r.err, "") << bad;
    }
}

TEST_F(percpu_cli, stat_of_another_users_process_is_4) {
    if (bash("test $(id -u) = 0 && setpriv --reuid 65534 --regid 65534 --clear-groups $cohort --version").code != 0) GTEST_SKIP() << "needs root, and a program that everybody may run";
    const ran r = bash(R"(
        COHORT_PERCPU_STAT=1 $cohort percpu bench --rounds 200 >/dev/null & p=$!
        trap "kill $p" EXIT
        until_so '$cohort percpu stat $p >/dev/null 2>&1' || exit
        setpriv --reuid 65534 --regid 65534 --clear-groups $cohort percpu stat $p)");
    EXPECT_EQ(r.code, 4);
    EXPECT_THAT(r.err, HasSubstr("another user's"));
    EXPECT_EQ(r.out, "");
}

TEST_F(percpu_cli, static_probes_are_in_the_program) {
#if !COHORT_HAS_USDT
    GTEST_SKIP() << "built without <sys/sdt.h>";
#else
    const ran r = bash("readelf -n $cohort");
    ASSERT_EQ(r.code, 0) << r.err;
    for (const char* probe : {"percpu_alloc_percpu", "percpu_free_percpu", "percpu_alloc_percpu_fail", "percpu_create_chunk", "percpu_destroy_chunk"}) {
        EXPECT_THAT(r.out, ContainsRegex(std::string("Provider: cohort\n +Name: ") + probe + "\n")) << probe;
    }
#endif
}

}  // namespace
}  // namespace cohort::cli
