// SPDX-License-Identifier: Apache-2.0
/// What jobs are seen to use: on a recorded machine, and on this one.
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/detail/usage.hpp>
#include <cohort/group/run.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/recorded.hpp>
#include <cohort/sys/tasks.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::group {
namespace {

using detail::bytes_outside;
using detail::usage;
using sys::testing::scratch_dir;

/// A machine of which the test says who runs, where, and for how long.
class machine : public sys::recorded {
public:
    /// ticks: hundredths of a second.
    void task(const std::string& who, int parent, std::uint64_t ticks, int cpu, const std::string& start = "5", char state = 'R') {
        std::string text = "1 (x) " + std::string(1, state) + " " + std::to_string(parent) + " 1 1 0 -1 0 0 0 0 0 " + std::to_string(ticks) + " 0 0 0 20 0 1 0 " + start;
        for (int field = 23; field < 39; ++field) text += " 0";
        add_file("/proc/" + who + "/stat", text + " " + std::to_string(cpu) + " 0\n");
    }
    /// With one thread.
    void process(int pid, int parent, std::uint64_t ticks, int cpu, const std::string& start = "5", char state = 'R') {
        task(std::to_string(pid), parent, ticks, cpu, start, state);
        task(std::to_string(pid) + "/task/" + std::to_string(pid), parent, ticks, cpu, start, state);
    }
    void gone(int pid) { (void)unlink("/proc/" + std::to_string(pid) + "/stat"), (void)unlink("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/stat"); }
    void pass(std::uint64_t ns) { set_now(time_ += ns); }

private:
    std::uint64_t time_ = 0;
};

usage::own on(const cpumask& cpus, const nodemask& home = {}) { return {cpus, home}; }

TEST(usage, time_since_the_look_before_counts_where_the_thread_ran_last) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0, 1}));
    m.process(7, 1, 0, 0);
    EXPECT_FALSE(u.of(a).cpu) << "nobody has looked";
    u.take(a, 7);
    m.process(7, 1, 30, 1);
    u.look();
    m.process(7, 1, 50, 3);
    u.look();
    m.process(7, 1, 60, 0);
    u.look();
    const auto seen = *u.of(a).cpu;
    EXPECT_DOUBLE_EQ(seen.inside, 0.40);
    EXPECT_DOUBLE_EQ(seen.outside, 0.20);
    EXPECT_FALSE(u.of(a).remote_peak);
}

TEST(usage, a_process_that_has_ended_is_counted_to_its_end_with_threads_that_nobody_saw) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0}));
    m.process(7, 1, 10, 0);
    m.task("7/task/8", 1, 20, 2);
    u.take(a, 7);
    u.look();
    m.task("7", 1, 100, 0, "5", 'Z');  // 70 more, of threads that have come and gone
    u.drop(a, 7);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.80);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->outside, 0.20);
    m.task("7", 1, 900, 0);
    u.look();
    u.drop(a, 7);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.80) << "after drop() the number is somebody else's";
    m.process(9, 1, 10, 0, "5");
    u.take(a, 9);
    m.process(9, 1, 700, 0, "6");
    u.drop(a, 9);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.80) << "it is another one";
}

TEST(usage, descendants_count_and_stay_known_when_their_parent_has_ended) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0})), b = u.add(on(cpumask{1}));
    m.process(7, 1, 0, 0);
    m.process(17, 1, 0, 1);
    m.process(9, 8, 10, 0);   // listed after its parent, and found in the same look
    m.process(8, 7, 10, 0);
    m.process(20, 1, 500, 0);  // nobody's
    u.take(a, 7);
    u.take(b, 17);
    u.look();
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.20);
    EXPECT_DOUBLE_EQ(u.of(b).cpu->inside + u.of(b).cpu->outside, 0);
    m.gone(8);
    m.process(9, 1, 40, 5);
    u.look();
    EXPECT_DOUBLE_EQ(u.of(a).cpu->outside, 0.30);
    m.process(9, 1, 1000, 5, "99");  // the number is another's now
    u.look();
    EXPECT_DOUBLE_EQ(u.of(a).cpu->outside, 0.30);
}

TEST(usage, a_number_that_comes_again_is_not_the_same_thread) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0}));
    m.process(7, 1, 10, 0);
    m.task("7/task/8", 1, 50, 0);
    u.take(a, 7);
    u.look();
    m.task("7/task/8", 1, 20, 0, "6");
    u.look();
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.80);
}

TEST(usage, what_cannot_be_read_is_unknown_and_not_nothing) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0}, nodemask{0}));
    u.take(a, 7);
    u.look();
    EXPECT_FALSE(u.of(a).cpu);
    EXPECT_FALSE(u.of(a).remote_peak);
    u.drop(a, 7);
    EXPECT_FALSE(u.of(a).cpu);
    EXPECT_FALSE(u.in_flight(a));
}

TEST(usage, a_pipes_threads_are_those_of_this_process_that_work_for_it) {
    machine m;  // getpid() is 1
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0}));
    stream::pipe_look run;
    run.answer_by([] { return stream::pipe_look::figures{.blocks = 3, .threads = {12, 13}}; });
    for (const int tid : {11, 12, 13, 14}) m.task("1/task/" + std::to_string(tid), 0, 0, 0);
    u.take_pipe(a, 11, run);
    EXPECT_EQ(u.in_flight(a), 3u);
    m.task("1/task/11", 0, 10, 4);
    m.task("1/task/12", 0, 20, 0);
    m.task("1/task/14", 0, 90, 0);
    u.look();
    EXPECT_THAT(u.of(a).threads, testing::ElementsAre(11, 12, 13));
    m.task("1/task/13", 0, 30, 0);
    u.drop_pipe(a);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->inside, 0.50);
    EXPECT_DOUBLE_EQ(u.of(a).cpu->outside, 0.10);
    EXPECT_FALSE(u.in_flight(a));
    EXPECT_TRUE(u.of(a).threads.empty());
    run.answer_by({});
    EXPECT_FALSE(run.now());
}

constexpr const char* map_of_two_nodes =
    "5500 default file=/usr/bin/x mapped=9 N0=4 N1=5 kernelpagesize_kB=4\n"
    "7f00 bind:1 anon=30 dirty=30 N0=10 N1=20 kernelpagesize_kB=4\n"
    "7f10 default file=/memfd:pool mapped=2 N0=2 kernelpagesize_kB=2048\n"
    "7f20 default heap anon=1 dirty=1 N3=1 kernelpagesize_kB=4\n"
    "7f30 default stack\n";

TEST(usage, memory_outside_is_what_a_process_has_for_itself_or_shares_on_other_nodes) {
    EXPECT_EQ(bytes_outside(map_of_two_nodes, nodemask{1}), 10 * 4096u + 2 * 2048 * 1024u + 4096u);
    EXPECT_EQ(bytes_outside(map_of_two_nodes, nodemask{0, 3}), 20 * 4096u);
    EXPECT_EQ(bytes_outside(map_of_two_nodes, nodemask{0, 1, 3}), 0u);
    EXPECT_EQ(bytes_outside("", nodemask{0}), 0u);
    EXPECT_EQ(bytes_outside("7f00 default N=3 Nx=4 N5 N1=", nodemask{0}), 0u);
}

TEST(usage, the_report_has_the_peak_of_memory_outside_and_looks_are_not_too_many) {
    machine m;
    usage u(m);
    const std::size_t a = u.add(on(cpumask{0}, nodemask{0}));
    m.process(7, 1, 0, 0);
    m.process(8, 7, 0, 0);
    const auto has = [&](int pid, int pages) { m.add_file("/proc/" + std::to_string(pid) + "/numa_maps", "7f00 default anon=9 N0=9 N1=" + std::to_string(pages) + " kernelpagesize_kB=4\n"); };
    has(7, 3), has(8, 4);
    u.take(a, 7);
    u.look();
    EXPECT_EQ(u.of(a).remote_peak, 7 * 4096u);
    has(7, 30);
    m.pass(499'000'000);
    u.look();
    EXPECT_EQ(u.of(a).remote_peak, 7 * 4096u) << "not half a second has passed";
    m.pass(2'000'000);
    u.look();
    EXPECT_EQ(u.of(a).remote_peak, 34 * 4096u);
    has(7, 1);
    m.pass(1'000'000'000);
    u.look();
    EXPECT_EQ(u.of(a).remote_peak, 34 * 4096u);
}

plan plan_of(const std::string& jobs, const std::string& here) {
    auto read = read_spec("s.toml", "[[cohort]]\nname = \"c\"\n" + jobs, [](std::string_view) { return std::optional<std::string>(); });
    EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
    return make_plan(read.value, view_machine("live", sys::real()).value(), here);
}

TEST(usage, a_commands_time_is_seen_on_the_cpus_on_which_it_ran) {
    scratch_dir dir;
    const auto busy = [&](const std::string& name) { return "[[job]]\nname = \"" + name + "\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = '''i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'''\n"; };
    plan p = plan_of(busy("a") + busy("b"), dir.path());
    const int cpu = p.machine.usable.last();
    p.jobs[0].cpus = p.jobs[1].cpus = cpumask{cpu};
    run_options o;
    o.interval_ns = 5'000'000;
    auto r = run_jobs(p, sys::real(), o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    for (const job_report& j : r.jobs) {
        ASSERT_TRUE(j.cpu_seen);
        EXPECT_EQ(j.cpu_seen->outside, 0) << "its affinity keeps it there";
        EXPECT_NEAR(j.cpu_seen->inside, j.cpu_seconds, 0.03) << "ticks are of 10 ms";
    }
    const auto json = nlohmann::json::parse(report_json(p, r, 0));
    EXPECT_EQ(json["jobs"][0]["cpu_seen"]["outside_seconds"], 0);
    EXPECT_EQ(json["jobs"][0]["cpu_seen"]["inside_seconds"], r.jobs[0].cpu_seen->inside);
    const bool one_node = std::ranges::count_if(p.machine.possible, [&](int c) { return p.machine.node_of(c) > 0; }) == 0;
    EXPECT_TRUE(!one_node || json["jobs"][0]["remote_memory"].is_null());
    EXPECT_THAT(report_text(p, r), testing::HasSubstr("0 %"));
}

TEST(usage, a_command_that_leaves_its_cpus_is_seen_outside) {
    plan p = plan_of("[[job]]\nname = \"a\"\ncohort = \"c\"\nkind = \"exec\"\ncommand = '''taskset -pc $OTHER $$ >/dev/null; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'''\nenv = { OTHER = \"0\" }\n", "/");
    if (p.machine.usable.weight() < 2) GTEST_SKIP() << "one CPU";
    p.jobs[0].cpus = cpumask{p.machine.usable.last()};
    p.jobs[0].spec.exec.env = {{"OTHER", std::to_string(p.machine.usable.first())}};
    run_options o;
    o.interval_ns = 5'000'000;
    const auto r = run_jobs(p, sys::real(), o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    ASSERT_TRUE(r.jobs[0].cpu_seen);
    EXPECT_GT(r.jobs[0].cpu_seen->outside, r.jobs[0].cpu_seen->inside);
}

TEST(usage, a_pipes_workers_are_seen_inside_and_its_reader_counts) {
    scratch_dir dir;
    {
        std::ofstream in(dir / "in");
        for (int i = 0; i < 3'000'000; ++i) in << i * 2654435761u << '\n';
    }
    plan p = plan_of("[[job]]\nname = \"z\"\ncohort = \"c\"\nkind = \"pipe\"\ninput = \"in\"\noutput = \"out\"\ncodec = \"gzip\"\nblock = \"64K\"\n", dir.path());
    p.jobs[0].cpus = cpumask{p.machine.usable.last()};
    std::size_t threads = 0, kept = 0;
    run_options o;
    o.interval_ns = 5'000'000;
    o.watch = [&](const std::vector<job_report>& now) {
        const auto& here = now[0].threads_here;
        threads = std::max(threads, here.size());
        kept = std::max(kept, static_cast<std::size_t>(std::ranges::count_if(here, [&](int tid) { return sys::real().sched_getaffinity(tid) == p.jobs[0].cpus; })));
    };
    const auto r = run_jobs(p, sys::real(), o);
    ASSERT_TRUE(r.ok()) << r.first_error()->line();
    EXPECT_EQ(threads, 2u) << "the reader and a worker";
    EXPECT_TRUE(r.jobs[0].threads_here.empty());
    ASSERT_TRUE(r.jobs[0].cpu_seen);
    EXPECT_GT(r.jobs[0].cpu_seen->inside, 0.5 * r.jobs[0].cpu_seconds);
    EXPECT_EQ(kept, 2u) << "its reader, this process's thread, is kept there, too";
    EXPECT_LE(r.jobs[0].cpu_seen->outside, 0.1 * r.jobs[0].cpu_seconds) << "what it did before";
    EXPECT_FALSE(r.jobs[0].remote_peak);
    std::uint64_t deepest = 0;
    for (const run_sample& s : r.samples) {
        for (const std::uint64_t q : s.jobs[0].queues) deepest = std::max(deepest, q);
    }
    EXPECT_GT(deepest, 1u) << "blocks in flight";
    EXPECT_LE(deepest, r.jobs[0].window);
    EXPECT_TRUE(r.samples.back().jobs[0].queues.empty()) << "it has ended";
    const auto json = nlohmann::json::parse(report_json(p, r, 0))["samples"];
    ASSERT_EQ(json["seconds"].size(), r.samples.size());
    EXPECT_EQ(json["jobs"][0]["queues"][0]["name"], "in flight");
    EXPECT_EQ(json["jobs"][0]["queues"][0]["depth"].size(), r.samples.size());
    EXPECT_EQ(json["jobs"][0]["queues"][0]["depth"].back(), nullptr);
    EXPECT_EQ(json["jobs"][0]["bytes_in"].back(), r.jobs[0].bytes_in);
}

}  // namespace
}  // namespace cohort::group
