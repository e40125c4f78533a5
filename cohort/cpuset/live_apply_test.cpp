// SPDX-License-Identifier: Apache-2.0
// The cgroup backends and their transactions, on machines whose kernel is the model; every call fails once.
#include <cohort/cpuset/live_apply.hpp>

#include <gmock/gmock.h>

#include <sstream>

#include <cohort/cpuset/live_delegate.hpp>
#include <cohort/cpuset/testing/cgroup_host.hpp>
#include <cohort/sys/failing.hpp>

namespace cohort::cpuset {
namespace {

using ::testing::HasSubstr;
using testing::cgroup_host;

std::vector<operation> steps_of(const std::string& lines) {
    std::vector<operation> out;
    std::istringstream in(lines);
    for (std::string line; std::getline(in, line, ';');) {
        const auto op = parse_operation(line);
        EXPECT_TRUE(op) << line;
        if (op) out.push_back(*op);
    }
    return out;
}

/// All files of all sets, and where each thread is.
std::string state(cgroup_host& host, std::initializer_list<int> tids = {}) {
    std::string out;
    auto paths = host.kernel.paths();
    std::ranges::sort(paths);  // a set that came back is the youngest of its siblings
    for (const std::string& p : paths) {
        const std::string path = p == "." ? "" : p;
        for (const std::string& f : host.kernel.files(path)) out += p + " " + f + " " + host.reads(path, f) + "\n";
    }
    for (int tid : tids) out += std::to_string(tid) + " " + host.home(tid) + "\n";
    return out;
}

std::unique_ptr<backend> tree_of(sys::os& os) { return open_cgroup(os, find_mount(os).value()).value(); }

/// What one refused step of a new transaction says; nothing may have changed by it.
std::string refusal(cgroup_host& host, const std::string& lines) {
    const std::string before = state(host);
    const apply_report r = apply_steps(*tree_of(host), steps_of(lines));
    EXPECT_FALSE(r.ok()) << lines;
    EXPECT_TRUE(r.not_undone.empty());
    EXPECT_EQ(state(host), before) << lines;
    return r.failure ? r.failure->line() : "";
}

void perform(cgroup_host& host, const std::string& lines) {
    for (const operation& op : steps_of(lines)) ASSERT_TRUE(host.perform(op).ok()) << to_line(op);
}

TEST(live_backend, version_2_does_what_it_is_told) {
    cgroup_host host;
    host.start(100, "");
    auto tree = tree_of(host);
    EXPECT_EQ(tree->name(), "cgroup v2 at /sys/fs/cgroup");
    const apply_report r = apply_steps(*tree, steps_of("mkdir a;write a cpuset.mems 1;write a cpuset.cpus 2-3;write a cpuset.cpus.partition isolated;attach a 100"));
    ASSERT_TRUE(r.ok()) << r.failure->line();
    EXPECT_EQ(r.steps.size(), 5u);
    EXPECT_EQ(r.steps[3].reads, "isolated");
    EXPECT_EQ(host.home(100), "a");
    EXPECT_EQ(tree->tasks("a").value(), std::vector{100});
    EXPECT_EQ(tree->home(100).value(), "a");
    EXPECT_EQ(tree->read("", "cpuset.cpus.effective").value(), "0-1,4-7");
    EXPECT_THAT(tree->children("").value(), ::testing::ElementsAre("a"));
    EXPECT_TRUE(tree->may_write("a", "cpuset.cpus"));
    EXPECT_THAT(refusal(host, "rmdir a"), "cpuset \"a\": remove: EBUSY: it has 1 process");
    ASSERT_TRUE(apply_steps(*tree, steps_of("attach . 100;rmdir a")).ok());
    EXPECT_EQ(host.kernel.paths().size(), 1u);
}

TEST(live_backend, version_1_does_what_it_is_told) {
    cgroup_host host({.v1 = true});
    host.start(100, "");
    host.add_thread(100, 101);
    auto tree = tree_of(host);
    ASSERT_TRUE(apply_steps(*tree, steps_of("mkdir a;write a cpuset.mems 0-1;write a cpuset.cpus 2-3;write a cpuset.cpu_exclusive 1;attach a thread:101")).ok());
    EXPECT_EQ(host.home(100), ".");
    EXPECT_EQ(host.home(101), "a");
    EXPECT_EQ(tree->threads("a").value(), std::vector{101});
    EXPECT_TRUE(tree->hands_on("a").value());
    EXPECT_EQ(tree->controller("a", true).error().code, EOPNOTSUPP);
}

TEST(live_backend, a_refusal_names_the_write_the_errno_and_the_reason) {
    cgroup_host host;
    host.start(100, "");
    perform(host, "mkdir a;write a cpuset.cpus 2-3;mkdir bare;controller a +cpuset;mkdir a/b");
    host.start(200, "a/b");
    EXPECT_EQ(refusal(host, "mkdir x/y"), "cpuset \"x/y\": create: ENOENT: there is no set \"x\" (it was never made, or has been removed meanwhile)");
    EXPECT_EQ(refusal(host, "mkdir a"), "cpuset \"a\": create: EEXIST: it is there");
    EXPECT_THAT(refusal(host, "rmdir nothing"), HasSubstr("cpuset \"nothing\": remove: ENOENT: there is no set \"nothing\""));
    EXPECT_EQ(refusal(host, "rmdir ."), "cpuset \"/\": remove: EBUSY: it is the topmost set");
    EXPECT_EQ(refusal(host, "rmdir a"), "cpuset \"a\": remove: EBUSY: there are sets below it: b");
    EXPECT_EQ(refusal(host, "write a cpuset.cpus 1-"), "cpuset \"a\": write cpuset.cpus \"1-\": EINVAL: it is no list such as 0-3,8");
    EXPECT_EQ(refusal(host, "write a cpuset.cpus 99"), "cpuset \"a\": write cpuset.cpus \"99\": ERANGE: a number is larger than this machine can have");
    EXPECT_EQ(refusal(host, "write a cpuset.cpus.partition best"), "cpuset \"a\": write cpuset.cpus.partition \"best\": EINVAL: there are member, root and isolated");
    EXPECT_THAT(refusal(host, "write . cpuset.cpus 1"), HasSubstr("ENOENT: the topmost set has no such file"));
    EXPECT_THAT(refusal(host, "write a cpuset.nothing 1"), HasSubstr("ENOENT: this kernel has no such file"));
    EXPECT_THAT(refusal(host, "write x cpuset.cpus 1"), HasSubstr("ENOENT: there is no set \"x\""));
    EXPECT_THAT(refusal(host, "attach a 7"), HasSubstr("attach process 7: ESRCH: there is no process 7"));
    EXPECT_THAT(refusal(host, "attach x 100"), HasSubstr("ENOENT: there is no set \"x\""));
    EXPECT_THAT(refusal(host, "controller bare/x +cpuset"), HasSubstr("there is no set \"bare/x\""));
    perform(host, "mkdir bare/x");
    EXPECT_EQ(refusal(host, "write bare/x cpuset.cpus 1"),
              "cpuset \"bare/x\": write cpuset.cpus \"1\": ENOENT: set \"bare\" does not hand cpuset on (its cgroup.subtree_control has \"cpu\"; `cohort cpuset create` does so)");
    EXPECT_THAT(refusal(host, "controller bare/x +cpuset"), HasSubstr("it has no cpuset itself: set \"bare\" does not hand cpuset on"));
    host.read_only.insert("/sys/fs/cgroup/a/cpuset.cpus");
    host.owners["/sys/fs/cgroup/a/cpuset.cpus"] = 33;
    EXPECT_EQ(refusal(host, "write a cpuset.cpus 1"), "cpuset \"a\": write cpuset.cpus \"1\": EACCES: Permission denied (/sys/fs/cgroup/a/cpuset.cpus belongs to user 33; see `cohort cpuset delegate`)");
}

TEST(live_backend, version_1_refusals_name_who_is_in_the_way) {
    cgroup_host host({.v1 = true});
    perform(host, "mkdir a;write a cpuset.cpus 0-3;write a cpuset.mems 0;mkdir a/b;write a/b cpuset.cpus 2-3;mkdir c;write c cpuset.cpus 4-5;write c cpuset.mems 0;write c cpuset.cpu_exclusive 1");
    host.start(100, "");
    EXPECT_EQ(refusal(host, "write a/b cpuset.cpus 2-5"), "cpuset \"a/b\": write cpuset.cpus \"2-5\": EACCES: its parent \"a\" has \"0-3\"");
    EXPECT_EQ(refusal(host, "write a cpuset.cpus 0-2"), "cpuset \"a\": write cpuset.cpus \"0-2\": EBUSY: the set below it \"a/b\" has \"2-3\"");
    EXPECT_EQ(refusal(host, "write a cpuset.cpus 0-4"), "cpuset \"a\": write cpuset.cpus \"0-4\": EINVAL: its sibling \"c\" has \"4-5\", and one of the two is exclusive");
    EXPECT_EQ(refusal(host, "attach a/b 100"), "cpuset \"a/b\": attach process 100: ENOSPC: it has cpus \"2-3\" and mems \"\"; both are needed first");
    EXPECT_THAT(refusal(host, "write . cpuset.cpus 1"), HasSubstr("EACCES: the lists of the root cannot be written"));
    EXPECT_TRUE(apply_steps(*tree_of(host), steps_of("write a/b cpuset.cpus 2-5")).by_rules) << "EACCES by the kernel's rules is no lack of permission";
    host.read_only.insert("/sys/fs/cgroup/a/b/cpuset.cpus");
    EXPECT_FALSE(apply_steps(*tree_of(host), steps_of("write a/b cpuset.cpus 2-5")).by_rules);
}

TEST(live_apply, a_partition_that_comes_out_invalid_is_undone_unless_it_may_stay) {
    cgroup_host host;
    perform(host, "mkdir a;write a cpuset.cpus 2-3;write a cpuset.cpus.partition root;mkdir b");
    EXPECT_EQ(refusal(host, "mkdir c;write c cpuset.cpus.partition isolated"),
              "cpuset \"c\": write cpuset.cpus.partition \"isolated\": EINVAL: it reads \"isolated invalid (cpuset.cpus and cpuset.cpus.exclusive are empty)\"");
    // A partition elsewhere goes down with it: told after the last step, and both are as before.
    perform(host, "controller a +cpuset;mkdir a/x;write a/x cpuset.cpus 3;write a/x cpuset.cpus.partition root");
    EXPECT_EQ(refusal(host, "mkdir n;write a cpuset.cpus.partition member;write n cpuset.mems 1"), "cpuset \"a/x\": keep its partition: EINVAL: it reads \"root invalid (Parent is not a partition root)\"");
    EXPECT_THAT(refusal(host, "write a cpuset.cpus"), HasSubstr("its partition reads \"root invalid"));
    const apply_report kept = apply_steps(*tree_of(host), steps_of("write a cpuset.cpus.partition member;write b cpuset.cpus.partition root"), {.partitions_must_hold = false});
    EXPECT_TRUE(kept.ok());
    EXPECT_THAT(kept.steps[1].reads, HasSubstr("invalid"));
}

TEST(live_apply, partitions_come_back_on_a_kernel_that_does_not_look_again) {
    cgroup_host host({.profile = kernel::v6_1});
    perform(host, "mkdir a;write a cpuset.cpus 2-3;write a cpuset.cpus.partition root;controller a +cpuset;mkdir a/x;write a/x cpuset.cpus 3;write a/x cpuset.cpus.partition isolated");
    EXPECT_THAT(refusal(host, "write a cpuset.cpus.partition member"), HasSubstr("keep its partition"));
}

/// Steps that touch everything that can be undone.
struct scenario {
    bool v1;
    const char *before, *steps;
};
const scenario scenarios[] = {
    {false, "mkdir a;write a cpuset.cpus 2-3;write a cpuset.cpus.partition root;mkdir old;write old cpuset.cpus 6-7;write old cpuset.cpus.partition isolated;mkdir d;controller d +cpuset;mkdir d/e;write d/e cpuset.cpus 4",
     "controller d -cpuset;rmdir old;mkdir n;write n cpuset.mems 1;write n cpuset.cpus 6-7;write n cpuset.cpus.partition isolated;write a cpuset.cpus.partition member;write a cpuset.cpus 2;attach n 100;attach a 200;"
     "mkdir n/m;rmdir n/m"},
    {true, "mkdir a;write a cpuset.mems 0-1;write a cpuset.cpus 2-3;mkdir old;write old cpuset.mems 1;write old cpuset.cpus 6-7;write old cpuset.cpu_exclusive 1;write old cpuset.sched_relax_domain_level 1",
     "rmdir old;mkdir n;write n cpuset.mems 1;write n cpuset.cpus 6-7;write n cpuset.cpu_exclusive 1;write a cpuset.memory_migrate 1;attach n 100;attach a thread:201;attach n 200"}};

struct standing {
    std::string state;
    live_mount place;
};

/// The scenario's tree on the host, with a process of one thread and one of two.
standing set_up(cgroup_host& host, const scenario& s) {
    perform(host, s.before);
    host.start(100, "");
    host.start(200, "");
    host.add_thread(200, 201);
    return {state(host, {100, 200, 201}), find_mount(host).value()};
}

/// Each call of the apply fails once, in its turn; whatever fails, the tree is as before or as wanted, and the report says which.
TEST(live_apply, whatever_call_fails_all_is_done_or_all_is_undone) {
    for (const scenario& s : scenarios) {
        int failures = 0;
        for (int nth = 1;; ++nth) {
            cgroup_host host({.v1 = s.v1});
            const auto [before, place] = set_up(host, s);
            sys::failing os(host, {.call = "write", .nth = nth, .code = EIO});
            auto tree = open_cgroup(os, place).value();
            const apply_report r = apply_steps(*tree, steps_of(s.steps));
            if (os.failures() == 0) {
                EXPECT_TRUE(r.ok()) << r.failure->line();
                EXPECT_NE(state(host, {100, 200, 201}), before);
                break;
            }
            ++failures;
            ASSERT_FALSE(r.ok());
            EXPECT_EQ(r.failure->code, EIO);
            EXPECT_THAT(r.failure->act, ::testing::AnyOf(HasSubstr("write"), HasSubstr("attach")));
            EXPECT_FALSE(r.by_rules);
            EXPECT_TRUE(r.not_undone.empty()) << r.not_undone[0].line();
            EXPECT_EQ(state(host, {100, 200, 201}), before) << "after the " << nth << "th write failed";
        }
        EXPECT_GE(failures, 7) << "every write has failed once";
    }
}

TEST(live_apply, calls_that_make_remove_open_and_read_fail_too_and_leave_nothing_behind) {
    for (const scenario& s : scenarios) {
        for (const char* call : {"mkdir", "rmdir", "open", "read", "list_dir"}) {
            for (int nth = 1; nth < 400; ++nth) {
                cgroup_host host({.v1 = s.v1});
                const auto [before, place] = set_up(host, s);
                sys::failing os(host, {.call = call, .nth = nth, .code = EMFILE});
                const apply_report r = apply_steps(*open_cgroup(os, place).value(), steps_of(s.steps));
                if (os.failures() == 0) break;
                // A walk over the sets that fails at one of them does not stop the work.
                if (r.ok()) continue;
                EXPECT_TRUE(r.not_undone.empty()) << r.not_undone[0].line();
                EXPECT_EQ(state(host, {100, 200, 201}), before) << call << " number " << nth << ": " << r.failure->line();
            }
        }
    }
}

TEST(live_apply, what_cannot_be_undone_is_told) {
    cgroup_host host;
    perform(host, "mkdir a;mkdir b");
    host.on_write = [&](const std::string& path) { return path.ends_with("b/cpuset.cpus") ? EIO : path.ends_with("a/cpuset.cpus") && host.writes.size() > 1 ? EPERM : 0; };
    const apply_report r = apply_steps(*tree_of(host), steps_of("write a cpuset.cpus 1;write b cpuset.cpus 2"));
    ASSERT_EQ(r.not_undone.size(), 1u);
    EXPECT_THAT(r.not_undone[0].line(), HasSubstr("cpuset \"a\": write cpuset.cpus \"\": EPERM"));
    EXPECT_EQ(r.undone, 0u);
    EXPECT_EQ(host.reads("a", "cpuset.cpus"), "1");
}

TEST(live_apply, a_set_that_vanishes_meanwhile_is_told_as_such) {
    cgroup_host host;
    perform(host, "mkdir a;mkdir b");
    host.on_write = [&](const std::string& path) {
        if (path.ends_with("b/cpuset.cpus")) host.perform(*parse_operation("rmdir b"));
        return 0;
    };
    const apply_report r = apply_steps(*tree_of(host), steps_of("write a cpuset.cpus 1;write b cpuset.cpus 2"));
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.failure->line(), "cpuset \"b\": write cpuset.cpus \"2\": ENOENT: there is no set \"b\" (it was never made, or has been removed meanwhile)");
    EXPECT_FALSE(r.by_rules);
    EXPECT_EQ(host.reads("a", "cpuset.cpus"), "");
}

TEST(live_apply, a_list_that_reads_back_otherwise_is_a_failure) {
    cgroup_host host;
    perform(host, "mkdir a");
    host.on_open = [&](const std::string& path) {
        if (path.ends_with("a/cpuset.cpus") && !host.writes.empty() && host.reads("a", "cpuset.cpus") == "1") host.perform(*parse_operation("write a cpuset.cpus 5"));
        return 0;
    };
    const apply_report r = apply_steps(*tree_of(host), steps_of("write a cpuset.cpus 1"));
    ASSERT_FALSE(r.ok());
    EXPECT_EQ(r.failure->code, ESTALE);
    EXPECT_THAT(r.failure->reason, HasSubstr("reads \"5\""));
}

TEST(live_apply, other_operations_are_refused_before_anything_is_done) {
    cgroup_host host;
    for (const char* lines : {"mkdir a;cpu 1 offline", "mkdir a;attach a t", "mkdir a;attach a thread:", "mkdir a;attach a 0"}) {
        const apply_report r = apply_steps(*tree_of(host), steps_of(lines));
        ASSERT_FALSE(r.ok()) << lines;
        EXPECT_EQ(r.failure->code, EINVAL);
        EXPECT_TRUE(r.steps.empty());
    }
    EXPECT_TRUE(host.writes.empty());
    EXPECT_EQ(host.kernel.paths().size(), 1u);
}

TEST(live_apply, what_these_steps_made_costs_no_look_and_goes_with_what_was_written) {
    cgroup_host host;
    perform(host, "mkdir old;write old cpuset.cpus 6-7;write old cpuset.cpus.partition root");
    int looks = 0;
    host.on_open = [&](const std::string& path) { return looks += path.ends_with("a/cpuset.cpus.partition"), 0; };
    ASSERT_TRUE(apply_steps(*tree_of(host), steps_of("mkdir a;write a cpuset.cpus 2-3;write a cpuset.mems 0")).ok());
    EXPECT_EQ(looks, 0) << "it is a member: nobody has written anything else";
    ASSERT_TRUE(apply_steps(*tree_of(host), steps_of("rmdir a")).ok());

    // A partition of these steps is looked at after the last of them; one elsewhere still is.
    EXPECT_THAT(refusal(host, "mkdir a;write a cpuset.cpus 2-3;write a cpuset.cpus.partition root;mkdir b;write b cpuset.cpus 3;write b cpuset.cpus.partition root"), HasSubstr("invalid"));
    EXPECT_EQ(host.kernel.paths().size(), 2u) << "the top, and old";
    EXPECT_EQ(host.reads("old", "cpuset.cpus.partition"), "root");
}

TEST(live_apply, putting_back_is_one_call_a_step) {
    cgroup_host host;
    host.start(100, "");
    perform(host, "mkdir a;write a cpuset.cpus 2-3;write a cpuset.cpus.partition root");
    auto tree = tree_of(host);
    const auto back = [&](const char* line) { return put_back(*tree, *parse_operation(line)); };
    EXPECT_TRUE(back("write a cpuset.cpus.partition member"));
    EXPECT_TRUE(back("attach a 100"));
    EXPECT_EQ(back("rmdir a").error().code, EBUSY);
    EXPECT_TRUE(back("attach . 100"));
    EXPECT_TRUE(back("rmdir a"));
    EXPECT_TRUE(back("mkdir a"));
    EXPECT_TRUE(back("controller a +cpuset"));
    EXPECT_EQ(back("rmdir b").error().code, ENOENT);
    EXPECT_EQ(back("cpu 3 offline").error().code, EINVAL);
    EXPECT_EQ(back("attach a x").error().code, EINVAL);
}

TEST(live_apply, all_sets_above_hand_cpuset_on) {
    cgroup_host host;
    perform(host, "controller . -cpuset;mkdir a;mkdir a/b");
    auto tree = tree_of(host);
    auto steps = hand_on_above(*tree, "a/b/c").value();
    ASSERT_EQ(steps.size(), 3u);
    steps.push_back(*parse_operation("mkdir a/b/c"));
    steps.push_back(*parse_operation("write a/b/c cpuset.cpus 1"));
    EXPECT_TRUE(apply_steps(*tree, steps).ok());
    EXPECT_TRUE(hand_on_above(*tree, "a/b/c").value().empty());
    EXPECT_EQ(hand_on_above(*tree, "x/y").error().code, ENOENT);
    cgroup_host old({.v1 = true});
    EXPECT_TRUE(hand_on_above(*tree_of(old), "a/b").value().empty());
}

TEST(live_delegate, hands_over_the_set_and_its_process_files_or_nothing) {
    cgroup_host host;
    perform(host, "mkdir a");
    const live_mount place = find_mount(host).value();
    EXPECT_EQ(delegate(host, place, "a", 1000, -1)->size(), 4u);
    EXPECT_EQ(host.owners["/sys/fs/cgroup/a"], 1000u);
    EXPECT_EQ(host.owners["/sys/fs/cgroup/a/cgroup.procs"], 1000u);
    EXPECT_FALSE(host.owners.contains("/sys/fs/cgroup/a/cpuset.cpus"));
    host.read_only.insert("/sys/fs/cgroup/a/cgroup.threads");
    const auto r = delegate(host, place, "a", 1001, -1);
    ASSERT_FALSE(r);
    EXPECT_THAT(r.error().line(), HasSubstr("cpuset \"a\": delegate to user 1001: EPERM: /sys/fs/cgroup/a/cgroup.threads"));
    EXPECT_EQ(host.owners["/sys/fs/cgroup/a"], 1000u);
    EXPECT_EQ(delegate(host, place, "x", 1, -1).error().code, ENOENT);
    EXPECT_EQ(delegate(host, place, "", 1, -1).error().code, EINVAL);
    cgroup_host old({.v1 = true});
    perform(old, "mkdir a");
    EXPECT_EQ(delegate(old, find_mount(old).value(), "a", 1000, -1)->size(), 3u);
}

TEST(live_backend, memory_pressure_is_the_kernels_meter_or_says_what_stands_in_for_it) {
    cgroup_host v1({.v1 = true});
    v1.start(100, "");
    EXPECT_EQ(tree_of(v1)->memory_pressure("").error().line(), "cpuset \"/\": read cpuset.memory_pressure: ENODATA: the meter is off: write 1 to cpuset.memory_pressure_enabled of the root");
    perform(v1, "write . cpuset.memory_pressure_enabled 1;mkdir a;write a cpuset.cpus 0;write a cpuset.mems 0;attach a 100;pressure 100 10;advance 1");
    const auto own = tree_of(v1)->memory_pressure("a");
    ASSERT_TRUE(own) << own.error().line();
    EXPECT_EQ(own->value, 670);
    EXPECT_EQ(own->substitute, "");

    cgroup_host v2;
    perform(v2, "mkdir a");
    EXPECT_EQ(tree_of(v2)->memory_pressure("a").error().code, EOPNOTSUPP);
    EXPECT_EQ(tree_of(v2)->memory_pressure("").error().code, EOPNOTSUPP);
    v2.extra["/sys/fs/cgroup/a/memory.pressure"] = "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=1\n";
    v2.extra["/proc/pressure/memory"] = "some avg10=0.25 avg60=0.00 avg300=0.00 total=12\n";
    const auto psi = tree_of(v2)->memory_pressure("a"), whole = tree_of(v2)->memory_pressure("");
    ASSERT_TRUE(psi && whole);
    EXPECT_EQ(psi->value, 15'000);
    EXPECT_EQ(psi->substitute, "stalls of /sys/fs/cgroup/a/memory.pressure over 10 seconds; 1000 is a millisecond a second");
    EXPECT_EQ(whole->value, 2'500);
    v2.extra["/sys/fs/cgroup/a/memory.pressure"] = "rubbish\n";
    EXPECT_EQ(tree_of(v2)->memory_pressure("a").error().code, EOPNOTSUPP);
}

}  // namespace
}  // namespace cohort::cpuset
