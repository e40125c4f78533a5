// SPDX-License-Identifier: Apache-2.0
/// Jobs of kind flow: what comes out, against a pipe's; and each of the three processes killed.
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/run.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/stream/flow.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

/// What a job's program is in its cohort's pool, as text.
static const char* membership() {
    auto* const pool = cohort::sharepool::share_pool::current();
    const char* const id = std::getenv("COHORT_POOL_JOIN");
    if (!pool || !id) return "nothing";
    if (cohort::sharepool::member* m = pool->in(std::atoi(id))) return m->alloc(64) ? "a writer" : "a writer without memory";
    return pool->group_id_by_pid(::getpid()) ? "a reader" : "nothing";
}

/// This program is its own flows' stages, and a program in a pool.
int main(int argc, char** argv) {
    if (argc > 1 && argv[1] == std::string("membership")) return std::puts(membership()) < 0;
    if (argc > 1 && argv[1] == std::string("flow-stage")) return cohort::stream::flow_stage(std::vector<std::string>(argv + 2, argv + argc), cohort::sys::real());
    ::testing::InitGoogleMock(&argc, argv);
    return RUN_ALL_TESTS();
}

namespace cohort::group {
namespace {

using ::testing::HasSubstr;

constexpr const char* cohort_with_pool = "[[cohort]]\nname = \"c\"\npool = \"256M\"\n";

class flows : public ::testing::Test {
protected:
    void SetUp() override { ::signal(SIGPIPE, SIG_IGN); }
    plan plan_of(const std::string& jobs, const std::string& cohort = cohort_with_pool) {
        auto read = read_spec("s.toml", cohort + jobs, [](std::string_view) { return std::optional<std::string>(); });
        EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
        return make_plan(read.value, view_machine("live", sys::real()).value(), dir_.path());
    }
    static std::string job(const std::string& kind, const std::string& name, const std::string& keys) { return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"" + kind + "\"\n" + keys; }
    run_report run(const plan& p, const run_options& o = {}) { return run_jobs(p, sys::real(), o); }
    std::string text(const std::string& name) {
        std::ifstream in(dir_ / name, std::ios::binary);
        std::ostringstream out;
        out << in.rdbuf();
        return out.str();
    }
    bool there(const std::string& name) { return std::filesystem::exists(dir_ / name); }
    std::size_t files() { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(dir_.path()), {})); }
    /// Lines of different lengths, so many bytes or a little more.
    void make_input(std::size_t bytes, const char* name = "in") {
        std::ofstream out(dir_ / name, std::ios::binary);
        std::uint64_t x = 88172645463325252;
        for (std::size_t n = 0; n < bytes;) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            const std::string line = std::string(x % 70, 'a' + static_cast<char>(x % 26)) + std::to_string(x) + "\n";
            out << line;
            n += line.size();
        }
    }
    static void expect_order(const run_report& r) {
        for (const pool_report& p : r.pools) {
            EXPECT_EQ(p.left, 0u) << p.cohort;
            EXPECT_EQ(p.lost, 0u) << p.cohort;
        }
    }

    sys::testing::scratch_dir dir_;
};

TEST_F(flows, give_what_a_pipe_gives_byte_for_byte) {
    struct form {
        const char* keys;
        std::size_t bytes;
    };
    const std::vector<form> forms = {
        {"codec = \"zstd\"\n", 6'000'000},
        {"codec = \"zstd\"\nblock = \"64K\"\nthreads = 3\n", 1'000'000},
        {"codec = \"gzip\"\nblock = \"100000\"\n", 1'000'000},
        {"codec = \"lz4\"\nblock = \"64K\"\n", 0},
        {"codec = \"lz4\"\nblock = \"64K\"\n", 131072},
        {"codec = \"zstd\"\nlevel = 9\nblock = \"8K\"\n", 3'000'000},
        {"command = [\"tr\", \"a-z\", \"A-Z\"]\nrecords = true\nblock = \"30000\"\n", 300'000},
        {"command = \"sort -r; seq 100000\"\nrecords = true\nblock = \"64K\"\n", 300'000},  // more than goes in
        {"command = [\"true\"]\nblock = \"100K\"\n", 300'000},
    };
    for (const form& f : forms) {
        make_input(f.bytes);
        const std::string keys = std::string("input = \"in\"\n") + f.keys;
        const auto r = run(plan_of(job("pipe", "a", keys + "output = \"by-pipe\"\n") + job("flow", "b", keys + "output = \"by-flow\"\n")));
        ASSERT_TRUE(r.ok()) << r.first_error()->line();
        EXPECT_TRUE(text("by-flow") == text("by-pipe")) << f.keys << text("by-flow").size() << " bytes, by a pipe " << text("by-pipe").size();
        EXPECT_EQ(r.jobs[1].bytes_in, text("in").size());
        EXPECT_EQ(r.jobs[1].bytes_out, text("by-flow").size());
        EXPECT_EQ(r.jobs[1].blocks, r.jobs[0].blocks) << f.keys;
        ASSERT_EQ(r.pools.size(), 1u);
        expect_order(r);
    }
}

TEST_F(flows, have_exec_jobs_beside_them_that_are_members_of_the_pool) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    const std::string exec = job("exec", "e", "command = [\"" + self + "\", \"membership\"]\nstdout = \"who\"\n");
    for (const auto& [pool, says] : std::vector<std::pair<const char*, const char*>>{
             {"pool = \"4M\"\n", "a writer\n"}, {"pool = { size = \"4M\", members = \"ro\" }\n", "a reader\n"}, {"", "nothing\n"}}) {
        const auto r = run(plan_of(exec, std::string("[[cohort]]\nname = \"c\"\n") + pool));
        ASSERT_TRUE(r.ok()) << r.first_error()->line();
        EXPECT_EQ(text("who"), says) << pool;
        EXPECT_EQ(r.pools.size(), *pool ? 1u : 0u);
        expect_order(r);
    }
}

TEST_F(flows, have_exec_jobs_of_other_cohorts_in_their_pool) {
    const std::string self = std::filesystem::read_symlink("/proc/self/exe");
    const std::string exec = job("exec", "e", "command = [\"" + self + "\", \"membership\"]\nstdout = \"who\"\n");
    for (const auto& [members, says] : {std::pair{"", "a writer\n"}, {", members = \"ro\"", "a reader\n"}}) {
        const auto r = run(plan_of(exec, std::string("[[cohort]]\nname = \"whose\"\npool = \"4M\"\n[[cohort]]\nname = \"c\"\npool = { of = \"whose\"") + members + " }\n"));
        ASSERT_TRUE(r.ok()) << r.first_error()->line();
        EXPECT_EQ(text("who"), says);
        EXPECT_EQ(r.pools.size(), 1u);
    }
}

TEST_F(flows, read_from_commands_and_write_to_commands) {
    const auto r = run(plan_of(job("flow", "f", "input = { command = \"seq 200000\" }\ncommand = [\"sed\", \"s/$/x/\"]\nrecords = true\nblock = \"100K\"\noutput = { command = \"tail -n 1 > last\" }\n")));
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(text("last"), "200000x\n");
    expect_order(r);
}

/// A user's function gets the record where it lies.
TEST_F(flows, call_a_function_of_a_library_for_each_record) {
    const auto with = [&](const std::string& content, const std::string& more = "") {
        std::ofstream(dir_ / "in", std::ios::binary) << content;
        return run(plan_of(job("flow", "f", "input = \"in\"\nrecords = true\nblock = \"1K\"\nplugin = \"" COHORT_TEST_words_plugin "\"\noutput = \"out\"\n" + more)));
    };
    std::string in, out;
    for (int record = 0; record < 50; ++record) {
        std::string block;
        while (block.size() + 20 < 1024) block += "word " + std::to_string(record) + "\n";
        in += block;
    }
    auto r = with(in);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(text("out").size(), 2 * in.size());
    EXPECT_EQ(text("out").find_first_of(" a"), std::string::npos);
    r = with("a fault\n");
    EXPECT_THAT(r.first_error()->line(), HasSubstr("plugin: work on bytes 0-7: EBADMSG"));
    r = with("to kill\n");
    EXPECT_THAT(r.first_error()->line(), HasSubstr("workers: run as process"));
    expect_order(r);
}

TEST_F(flows, say_in_plan_and_report_what_they_are) {
    make_input(1'000'000);
    const plan p = plan_of(job("flow", "f", "input = \"in\"\ncodec = \"zstd\"\nblock = \"64K\"\noutput = \"out\"\nverify = 'zstd -dc <\"$OUTPUT\" | cmp - \"$INPUT\"'\n"));
    EXPECT_THAT(plan_text(p), HasSubstr("joined by the pool"));
    EXPECT_THAT(plan_text(p), HasSubstr("make its pool, 256 MiB"));
    const auto planned = nlohmann::json::parse(plan_json(p));
    EXPECT_EQ(planned["jobs"][0]["kind"], "flow");
    EXPECT_EQ(planned["cohorts"][0]["pool"]["bytes"], 256 << 20);
    const auto r = run(p);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    const auto told = nlohmann::json::parse(report_json(p, r, 0));
    EXPECT_EQ(told["jobs"][0]["kind"], "flow");
    EXPECT_EQ(told["jobs"][0]["verified"], true);
    EXPECT_GT(told["jobs"][0]["flow"]["records"], 10);
    EXPECT_GT(told["pools"][0]["peak"], 64 << 10);
    EXPECT_EQ(told["pools"][0]["left"], 0);
    EXPECT_THAT(report_text(p, r), HasSubstr("the pool of cohort \"c\""));
}

TEST_F(flows, and_their_pool_are_sampled_while_they_run) {
    make_input(400'000);
    run_options o;
    o.interval_ns = 10'000'000;
    const plan p = plan_of(job("flow", "slow", "input = \"in\"\ncommand = \"cat; sleep 0.02\"\nblock = \"4K\"\nthreads = 1\noutput = \"out\"\n"));
    const auto r = run(p, o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    std::uint64_t waiting = 0, memory = 0;
    for (const run_sample& s : r.samples) {
        ASSERT_EQ(s.pools.size(), 1u);
        memory = std::max(memory, s.pools.at("c"));
        if (s.jobs[0].queues.empty()) continue;
        ASSERT_EQ(s.jobs[0].queues.size(), 3u);
        waiting = std::max(waiting, s.jobs[0].queues[0] + s.jobs[0].queues[1]);
    }
    EXPECT_GT(waiting, 1u) << "its producer is faster than its worker";
    EXPECT_GT(memory, 0u);
    EXPECT_LE(memory, r.pools[0].peak);
    ASSERT_TRUE(r.jobs[0].cpu_seen) << "of its processes";
    const auto json = nlohmann::json::parse(report_json(p, r, 0))["samples"];
    EXPECT_EQ(json["jobs"][0]["queues"][2]["name"], "for the consumer");
    EXPECT_EQ(json["pools"][0]["cohort"], "c");
    EXPECT_EQ(json["pools"][0]["bytes"].size(), r.samples.size());
}

TEST_F(flows, fail_with_the_reason_of_what_failed_first) {
    struct form {
        const char* keys;
        const char* says;
    };
    const std::vector<form> forms = {
        {"input = \"missing\"\ncodec = \"zstd\"\noutput = \"out\"\n", "missing"},
        {"input = { command = \"seq 100000; exit 3\" }\ncodec = \"zstd\"\nblock = \"64K\"\noutput = \"out\"\n", "exit 3"},
        {"input = \"in\"\ncommand = [\"sh\", \"-c\", \"exit 4\"]\nblock = \"64K\"\noutput = \"out\"\n", "exit 4"},
        {"input = \"in\"\ncodec = \"zstd\"\nblock = \"64K\"\noutput = { command = \"exit 5\" }\n", "exit 5"},
        {"input = \"in\"\nplugin = \"missing.so\"\noutput = \"out\"\n", "missing.so"},
        {"input = \"in\"\ncodec = \"zstd\"\nblock = \"128M\"\noutput = \"out\"\n", "a larger pool"},
        {"input = \"in\"\ncodec = \"zstd\"\nblock = \"64K\"\noutput = \"/dev/full\"\n", "ENOSPC"},
    };
    make_input(4'000'000);
    for (const form& f : forms) {
        const auto r = run(plan_of(job("flow", "f", f.keys)));
        ASSERT_FALSE(r.ok()) << f.keys;
        EXPECT_THAT(r.first_error()->line(), HasSubstr(f.says)) << f.keys;
        EXPECT_EQ(r.jobs[0].state, job_state::failed);
        EXPECT_EQ(files(), 1u) << f.keys;  // the input
        expect_order(r);
    }
}

/// Children of this process whose command line has the word.
std::vector<int> stages_named(const std::string& word) {
    std::vector<int> out;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != name.npos) continue;
        std::ifstream in(entry.path() / "cmdline", std::ios::binary), stat(entry.path() / "stat");
        std::ostringstream line, facts;
        line << in.rdbuf(), facts << stat.rdbuf();
        const auto end = facts.str().rfind(") ");
        const bool mine = end != std::string::npos && std::atoi(facts.str().c_str() + end + 4) == ::getpid();
        if (mine && line.str().find(std::string("flow-stage") + '\0' + word + '\0') != std::string::npos) out.push_back(std::stoi(name));
    }
    return out;
}

/// The input never ends: only a death ends the job.
TEST_F(flows, fail_clearly_and_leave_the_pool_in_order_whichever_process_is_killed) {
    for (const std::string role : {"producer", "workers", "consumer"}) {
        const plan p = plan_of(job("flow", "f", "input = { command = \"yes\" }\ncodec = \"lz4\"\nblock = \"64K\"\noutput = \"/dev/null\"\n"));
        run_options o;
        bool killed = false;
        o.watch = [&](const std::vector<job_report>& now) {
            if (killed || now[0].bytes_out == 0) return;
            const auto pids = stages_named(role);
            ASSERT_EQ(pids.size(), 1u) << role;
            killed = ::kill(pids[0], SIGKILL) == 0;
        };
        const auto r = run(p, o);
        ASSERT_TRUE(killed);
        ASSERT_EQ(r.jobs[0].state, job_state::failed);
        EXPECT_THAT(r.jobs[0].why->line(), HasSubstr(role + ": run as process"));
        EXPECT_THAT(r.jobs[0].why->line(), HasSubstr("SIGKILL"));
        expect_order(r);
        for (const char* one : {"producer", "workers", "consumer"}) EXPECT_TRUE(stages_named(one).empty());
    }
}

TEST_F(flows, end_when_they_are_stopped) {
    std::stop_source stop;
    run_options o;
    o.stop = stop.get_token();
    o.patience_ns = 1'000'000'000;
    o.watch = [&](const std::vector<job_report>& now) {
        if (now[0].bytes_out > 0) stop.request_stop();
    };
    const auto r = run(plan_of(job("flow", "f", "input = { command = \"yes\" }\ncodec = \"lz4\"\nblock = \"64K\"\noutput = \"out\"\n")), o);
    EXPECT_EQ(r.jobs[0].state, job_state::stopped);
    EXPECT_FALSE(there("out"));
    expect_order(r);
}

TEST_F(flows, are_refused_where_the_spec_is_wrong) {
    const auto faults = [](const std::string& text) {
        std::string out;
        for (const fault& f : read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); }).faults) out += f.line() + "\n";
        return out;
    };
    const std::string no_pool = "[[cohort]]\nname = \"c\"\n", flow = job("flow", "f", "input = \"a\"\ncodec = \"zstd\"\noutput = \"b\"\n");
    EXPECT_THAT(faults(no_pool + flow), HasSubstr("s.toml:5:10: job \"f\": a flow's processes are joined by the pool of their cohort, and cohort \"c\" has none"));
    EXPECT_EQ(faults(cohort_with_pool + flow), "");
    for (const auto& [pool, says] : std::vector<std::pair<const char*, const char*>>{
             {"pool = \"1M\"", "a pool has 2 MiB to 128 GiB"},
             {"pool = true", "must be a size such as"},
             {"pool = { huge = \"prefer\" }", "\"size\""},
             {"pool = { size = \"1G\", huge = \"perfer\" }", "did you mean \"prefer\"?"},
             {"pool = { size = \"1G\", members = \"wo\" }", "is none of"},
             {"pool = { size = \"1G\", limit = \"2G\" }", "larger than the pool"},
             {"pool = { of = \"c\" }", "cohort \"c\" has no pool of its own"},
             {"pool = { of = \"cc\" }", "cohort \"cc\" does not exist; did you mean \"c\"?"},
             {"pool = { of = \"c\", size = \"1G\" }", "is said where the pool is made"},
             {"pool = { of = \"c\", limit = \"1G\" }", "is said where the pool is made"},
             {"pool = { size = \"1G\", limt = \"1M\" }", "did you mean \"limit\"?"}}) {
        EXPECT_THAT(faults(no_pool + pool + "\n"), HasSubstr(says)) << pool;
        EXPECT_THAT(faults(no_pool + pool + "\n"), HasSubstr("s.toml:3:")) << pool;
    }
    for (const auto& [keys, says] : std::vector<std::pair<const char*, const char*>>{
             {"input = \"a\"\noutput = \"b\"\n", "needs \"codec\", \"command\" or \"plugin\""},
             {"input = \"a\"\noutput = \"b\"\nplugin = \"x.so\"\ncodec = \"zstd\"\n", "exclude each other"},
             {"input = \"a\"\noutput = \"b\"\ncodec = \"zstd\"\ndecompress = true\n", "belongs to kind \"pipe\""},
             {"input = \"a\"\noutput = \"b\"\ncodec = \"zstd\"\nrecords = true\n", "goes with \"command\" and \"plugin\" only"},
             {"input = \"a\"\noutput = { comand = \"x\" }\ncodec = \"zstd\"\n", "did you mean \"command\"?"},
             {"input = \"a\"\noutput = \"b\"\ncodec = \"zstd\"\ninstances = 2\n", "belongs to kind \"exec\""}}) {
        EXPECT_THAT(faults(cohort_with_pool + job("flow", "f", keys)), HasSubstr(says)) << keys;
    }
}

}  // namespace
}  // namespace cohort::group
