// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/run.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/view.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::group {
namespace {

using sys::testing::scratch_dir;
using testing::HasSubstr;

plan plan_of(const std::string& jobs, const std::string& here) {
    auto read = read_spec("s.toml", "[[cohort]]\nname = \"c\"\n" + jobs, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    return make_plan(read.value, view_machine("live", sys::real()).value(), here);
}

/// on_failure belongs to the top of the spec.
plan stopping(plan p) {
    p.stop_on_failure = true;
    return p;
}

std::string exec(const std::string& name, const std::string& line, const std::string& more = {}) {
    return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = '''" + line + "'''\n" + more;
}

std::string text_of(const std::string& path) {
    std::ifstream in(path);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

std::vector<std::string> files_in(const std::string& dir) { return sys::real().list_dir(dir).value(); }

run_report run(const plan& p, run_options o = {}, sys::os& os = sys::real()) { return run_jobs(p, os, o); }

/// In the place of the pipe engine: copies the input through, as one block.
result<stream::pipe_report> copying(const stream::pipe_options& o, sys::os& os) {
    auto text = o.input_path.empty() ? sys::read_rest(os, o.input_fd) : sys::read_file(os, o.input_path);
    if (!text) return std::unexpected(text.error());
    if (auto w = sys::write_all(os, o.output_fd, *text); !w) return std::unexpected(w.error());
    stream::pipe_report r;
    r.bytes_in = r.bytes_out = text->size();
    r.blocks = r.ordered = 1;
    r.workers = 1;
    if (o.progress) o.progress({r.bytes_in, r.bytes_out, r.bytes_in});
    return r;
}

TEST(run, a_job_sees_its_cpus_its_names_and_its_variables) {
    scratch_dir dir;
    plan p = plan_of(exec("j", "echo $COHORT_NAME $COHORT_JOB $COHORT_CPUS $COHORT_INSTANCE $X; grep Cpus_allowed_list /proc/self/status; pwd",
                          "env = { X = \"y\" }\nstdout = \"out\"\n"), dir.path());
    p.jobs[0].cpus = cpumask{p.machine.usable.last()};
    const auto r = run(p);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    const std::string cpu = std::to_string(p.machine.usable.last());
    EXPECT_EQ(text_of(dir / "out"), "c j " + cpu + " 0 y\nCpus_allowed_list:\t" + cpu + "\n" + dir.path() + "\n");
    EXPECT_GT(r.jobs[0].bytes_out, 0u);
    EXPECT_TRUE(r.jobs[0].cpu_known);
}

TEST(run, jobs_that_do_not_wait_for_each_other_run_at_the_same_time) {
    scratch_dir dir;
    // Opening a fifo waits for the other side: one after the other they would never end.
    ASSERT_EQ(std::system(("mkfifo " + (dir / "fifo")).c_str()), 0);
    const auto r = run(plan_of(exec("w", "echo hi > fifo") + exec("r", "cat fifo", "stdout = \"out\"\n"), dir.path()));
    EXPECT_TRUE(r.ok());
    EXPECT_EQ(text_of(dir / "out"), "hi\n");
}

TEST(run, a_job_starts_after_what_it_waits_for_has_its_output) {
    scratch_dir dir;
    const auto r = run(plan_of(exec("second", "cat", "stdin = \"first\"\nstdout = \"second\"\nafter = [\"first\"]\n") +
                                exec("first", "sleep 0.1; echo 1", "stdout = \"first\"\n"), dir.path()));
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(text_of(dir / "second"), "1\n");
    EXPECT_GE(r.jobs[0].started, r.jobs[1].seconds);
}

TEST(run, when_a_job_fails_its_output_is_gone_those_that_wait_are_skipped_and_others_go_on) {
    scratch_dir dir;
    const auto r = run(plan_of(exec("bad", "echo half; exit 7", "stdout = \"half\"\n") + exec("next", "true", "after = [\"bad\"]\n") +
                                exec("last", "true", "after = [\"next\"]\n") + exec("good", "echo all", "stdout = \"all\"\n"), dir.path()));
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_EQ(r.jobs[1].state, job_state::skipped);
    EXPECT_EQ(r.jobs[2].state, job_state::skipped);
    EXPECT_EQ(r.jobs[3].state, job_state::ok);
    EXPECT_THAT(files_in(dir.path()), testing::ElementsAre("all"));
    EXPECT_EQ(r.jobs[0].exits, std::vector<std::string>{"exit 7"});
    EXPECT_EQ(r.first_error()->line(), "job \"bad\": command \"echo half; exit 7\": run: ECHILD: exit 7");
    EXPECT_FALSE(r.only_refused());
}

TEST(run, with_on_failure_stop_the_others_are_ended) {
    scratch_dir dir;
    const auto start = sys::real().now();
    const auto r = run(stopping(plan_of(exec("bad", "exit 1") + exec("long", "sleep 1000", "stdout = \"x\"\n") + exec("later", "true", "after = [\"long\"]\n"), dir.path())));
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_EQ(r.jobs[1].state, job_state::stopped);
    EXPECT_EQ(r.jobs[2].state, job_state::stopped);
    EXPECT_TRUE(files_in(dir.path()).empty());
    EXPECT_LT(sys::real().now() - start, 100'000'000'000u);
}

TEST(run, a_stop_ends_children_and_grandchildren_even_those_that_ignore_sigterm) {
    scratch_dir dir;
    std::stop_source stop;
    run_options o;
    o.stop = stop.get_token();
    o.patience_ns = 50'000'000;
    o.watch = [&](const std::vector<job_report>&) {
        if (std::filesystem::exists(dir / "ready")) stop.request_stop();
    };
    o.interval_ns = 5'000'000;
    // The grandchild holds the fifo's other end: its death is seen as the end of that file.
    ASSERT_EQ(std::system(("mkfifo " + (dir / "fifo")).c_str()), 0);
    std::thread reader([&] { (void)text_of(dir / "fifo"); });
    const auto r = run(plan_of(exec("stubborn", "trap '' TERM; (trap '' TERM; exec 3>fifo; touch ready; while :; do sleep 1; done) & wait; wait; sleep 1000"), dir.path()), o);
    reader.join();
    EXPECT_EQ(r.jobs[0].state, job_state::stopped);
    EXPECT_EQ(r.jobs[0].why->code, ECANCELED);
}

TEST(run, an_old_output_stays_when_the_check_of_the_new_one_says_no) {
    scratch_dir dir;
    std::ofstream(dir / "out") << "old";
    auto r = run(plan_of(exec("j", "echo new", "stdout = \"out\"\nverify = 'grep -q old \"$OUTPUT\"'\n"), dir.path()));
    EXPECT_EQ(r.jobs[0].state, job_state::refused);
    EXPECT_EQ(r.jobs[0].verified, false);
    EXPECT_TRUE(r.only_refused());
    EXPECT_EQ(text_of(dir / "out"), "old");
    EXPECT_THAT(files_in(dir.path()), testing::ElementsAre("out"));
    r = run(plan_of(exec("j", "echo new", "stdout = \"out\"\nverify = 'grep -q new \"$OUTPUT\"'\n"), dir.path()));
    EXPECT_EQ(r.jobs[0].verified, true);
    EXPECT_EQ(text_of(dir / "out"), "new\n");
}

TEST(run, each_instance_has_its_number_and_its_files_and_one_failure_fails_the_job) {
    scratch_dir dir;
    const auto r = run(plan_of(exec("j", "echo $COHORT_INSTANCE; test $COHORT_INSTANCE != 1", "instances = 3\nstdout = \"out.{instance}\"\n"), dir.path()));
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_EQ(r.jobs[0].exits, (std::vector<std::string>{"exit 0", "exit 1", "exit 0"}));
    EXPECT_THAT(r.jobs[0].why->object, HasSubstr("(instance 1)"));
    EXPECT_TRUE(files_in(dir.path()).empty());
    EXPECT_TRUE(run(plan_of(exec("j", "echo $COHORT_INSTANCE", "instances = 2\nstdout = \"out.{instance}\"\n"), dir.path())).ok());
    EXPECT_EQ(text_of(dir / "out.0") + text_of(dir / "out.1"), "0\n1\n");
}

std::string pipe(const std::string& name, const std::string& input, const std::string& more = {}) {
    return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"pipe\"\ninput = " + input + "\noutput = \"out\"\ncodec = \"zstd\"\n" + more;
}

TEST(run, a_pipe_gets_the_cohorts_cpus_and_the_specs_options) {
    scratch_dir dir;
    std::ofstream(dir / "in") << "text";
    run_options o;
    stream::pipe_options seen;
    o.pipe_engine = [&](const stream::pipe_options& p, sys::os& os) {
        seen = p;
        return copying(p, os);
    };
    plan p = plan_of(pipe("j", "\"in\"", "level = 5\nblock = \"64K\"\nthreads = 3\n"), dir.path());
    const auto r = run(p, o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(seen.input_path, dir / "in");
    EXPECT_EQ(seen.cpus, p.jobs[0].cpus);
    EXPECT_EQ(seen.kind, stream::codec::zstd);
    EXPECT_EQ(seen.level, 5);
    EXPECT_EQ(seen.block_bytes, 65536u);
    EXPECT_EQ(seen.workers, 3);
    EXPECT_EQ(text_of(dir / "out"), "text");
    EXPECT_EQ(r.jobs[0].bytes_in, 4u);
    EXPECT_EQ(r.jobs[0].ordered, 1u);
}

TEST(run, pipes_of_a_cohort_share_its_memory_and_the_report_says_what_they_took) {
    scratch_dir dir;
    std::ofstream(dir / "in") << std::string(3'000'000, 'x');
    const std::string two = pipe("j", "\"in\"", "block = \"64K\"\n") + "[[job]]\nname = \"k\"\ncohort = \"c\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"out2\"\ncodec = \"lz4\"\nblock = \"64K\"\n";
    plan p = plan_of(two, dir.path());
    p.cohorts[0].memory = 64 << 20;
    for (job_plan& j : p.jobs) j.memory = 32 << 20;
    auto r = run(p);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    ASSERT_EQ(r.memory.size(), 1u);
    EXPECT_EQ(r.memory[0].cohort, "c");
    EXPECT_EQ(r.memory[0].limit, 64u << 20);
    EXPECT_GT(r.memory[0].peak, 64u << 10);
    EXPECT_LE(r.memory[0].peak, 64u << 20);
    EXPECT_THAT(report_text(p, r), testing::HasSubstr("its limit is 64.0 MiB"));

    p.cohorts[0].memory = 10'000;  // not even a block
    r = run(p);
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.first_error()->code, ENOMEM);
    EXPECT_THAT(r.first_error()->line(), testing::HasSubstr("group \"/c\" is at its limit"));
}

TEST(run, a_command_can_make_the_input_and_its_failure_is_the_jobs) {
    scratch_dir dir;
    run_options o;
    o.pipe_engine = copying;
    EXPECT_TRUE(run(plan_of(pipe("j", "{ command = \"echo made\" }"), dir.path()), o).ok());
    EXPECT_EQ(text_of(dir / "out"), "made\n");
    std::filesystem::remove(dir / "out");
    const auto r = run(plan_of(pipe("j", "{ command = \"echo half; exit 3\" }"), dir.path()), o);
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_THAT(r.jobs[0].why->line(), HasSubstr("exit 3"));
    EXPECT_TRUE(files_in(dir.path()).empty());
}

TEST(run, an_engine_that_fails_ends_the_input_command_and_leaves_no_output) {
    scratch_dir dir;
    run_options o;
    o.pipe_engine = [](const stream::pipe_options&, sys::os&) -> result<stream::pipe_report> { return fail(EBADMSG, "in", "read", "it is damaged"); };
    const auto r = run(plan_of(pipe("j", "{ command = \"sleep 1000\" }"), dir.path()), o);
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_EQ(r.jobs[0].why->code, EBADMSG);
    EXPECT_TRUE(files_in(dir.path()).empty());
}

TEST(run, blocks_out_of_order_fail_the_job) {
    scratch_dir dir;
    std::ofstream(dir / "in") << "text";
    run_options o;
    o.pipe_engine = [](const stream::pipe_options& p, sys::os& os) {
        auto r = copying(p, os);
        r->blocks = 5;
        r->ordered = 4;
        return r;
    };
    const auto r = run(plan_of(pipe("j", "\"in\""), dir.path()), o);
    EXPECT_EQ(r.jobs[0].state, job_state::failed);
    EXPECT_THAT(r.jobs[0].why->line(), HasSubstr("4 of 5 blocks came in order"));
}

TEST(run, a_device_is_written_directly_and_a_full_one_fails_the_job) {
    scratch_dir dir;
    std::ofstream(dir / "in") << "text";
    run_options o;
    o.pipe_engine = copying;
    plan p = plan_of(pipe("j", "\"in\""), dir.path());
    p.jobs[0].spec.pipe.output = "/dev/null";
    EXPECT_TRUE(run(p, o).ok());
    p.jobs[0].spec.pipe.output = "/dev/full";
    const auto r = run(p, o);
    EXPECT_EQ(r.jobs[0].why->code, ENOSPC);
    EXPECT_THAT(files_in(dir.path()), testing::ElementsAre("in"));
}

TEST(run, whichever_call_fails_it_ends_and_no_half_output_has_the_name) {
    int runs = 0;
    for (int nth = 1; nth < 300; ++nth) {
        scratch_dir dir;
        std::ofstream(dir / "in") << "whole text";
        sys::failing os(sys::real(), {.nth = nth, .code = EIO});
        run_options o;
        o.pipe_engine = copying;
        o.patience_ns = 20'000'000;
        const auto r = run(plan_of(exec("e", "cat in", "stdout = \"e.out\"\n") + pipe("p", "{ command = \"cat in\" }", "verify = 'cmp in \"$OUTPUT\"'\n"), dir.path()), o, os);
        for (const char* name : {"out", "e.out"}) {
            if (!std::filesystem::exists(dir / name)) continue;
            EXPECT_EQ(text_of(dir / name), "whole text") << "nth " << nth;
        }
        for (const job_report& j : r.jobs) EXPECT_TRUE(ended(j.state)) << "nth " << nth;
        ++runs;
        if (os.failures() == 0) {
            EXPECT_TRUE(r.ok());
            break;
        }
    }
    EXPECT_GT(runs, 20);
    EXPECT_LT(runs, 299);
}

TEST(run, the_watcher_sees_jobs_run_and_the_report_says_the_same_as_text_and_json) {
    scratch_dir dir;
    std::set<job_state> seen;
    run_options o;
    o.interval_ns = 1'000'000;
    o.watch = [&](const std::vector<job_report>& jobs) {
        seen.insert(jobs[0].state);
        if (jobs[0].state == job_state::running) std::ofstream(dir / "seen");
    };
    const plan p = plan_of(exec("j", "until [ -e seen ]; do sleep 0.01; done; echo x", "stdout = \"o\"\nverify = \"true\"\n") + exec("k", "exit 2"), dir.path());
    const auto r = run(p, o);
    EXPECT_TRUE(seen.contains(job_state::running));
    EXPECT_TRUE(seen.contains(job_state::ok));
    EXPECT_THAT(report_text(p, r), testing::AllOf(HasSubstr("1 of 2 jobs ok, 1 re-checked"), HasSubstr("FAILED \"k\"")));
    const auto j = nlohmann::json::parse(report_json(p, r, 5));
    EXPECT_EQ(j["schema_version"], 1);
    EXPECT_EQ(j["ok"], false);
    EXPECT_EQ(j["jobs"][0]["state"], "ok");
    EXPECT_EQ(j["jobs"][0]["verified"], true);
    EXPECT_EQ(j["jobs"][1]["state"], "failed");
    EXPECT_EQ(j["jobs"][1]["error"]["code"], "ECHILD");
    EXPECT_EQ(j["jobs"][1]["verified"], nullptr);
}

}  // namespace
}  // namespace cohort::group
