// SPDX-License-Identifier: Apache-2.0
// The control directory as its users meet it: through plain files, from other threads and processes, and by questions.
#include <cohort/padata/control.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include <cohort/padata/detail/control_files.hpp>
#include <cohort/padata/detail/control_place.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>
#include <cohort/sys/testing/threads.hpp>

namespace cohort::padata {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

bool soon(const std::function<bool()>& so) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!so()) {
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

/// By file name; the way in is a parameter.
class control_dir : public ::testing::TestWithParam<control_options::watch> {
protected:
    void SetUp() override {
        inst_ = instance::create({.name = "net", .usable = cpumask{0, 1, 2, 3}}).value();
        outside_ = open(*inst_);
        ASSERT_TRUE(outside_);
    }
    std::unique_ptr<control> open(instance& inst) {
        auto made = control::create(inst, {.directory = dir(), .how = GetParam()});
        EXPECT_TRUE(made) << made.error().line();
        return made ? std::move(*made) : nullptr;
    }
    std::string dir() const { return scratch_ / "ctl"; }
    std::string path(const std::string& name) const { return dir() + "/" + name; }
    std::string read(const std::string& name) const {
        std::ifstream f(path(name));
        std::ostringstream s;
        s << f.rdbuf();
        return s.str();
    }
    void write(const std::string& name, const std::string& text) const { ASSERT_TRUE(sys::write_file(sys::real(), path(name), text)) << name; }
    bool stands(const std::string& name, const std::string& text) const { return soon([&] { return read(name) == text; }); }

    sys::testing::scratch_dir scratch_;
    std::unique_ptr<instance> inst_;
    std::unique_ptr<control> outside_;
};
INSTANTIATE_TEST_SUITE_P(watching, control_dir, ::testing::Values(control_options::watch::notified, control_options::watch::polled),
                         [](const auto& p) { return std::string(p.param == control_options::watch::notified ? "notified" : "polled"); });

TEST_P(control_dir, shows_user_and_usable_masks_as_sysfs_does) {
    EXPECT_EQ(read("parallel_cpumask"), "f\n");
    EXPECT_EQ(read("serial_cpulist"), "0-3\n");
    EXPECT_EQ(read("usable_parallel_cpumask"), "f\n");
    EXPECT_EQ(read("usable_serial_cpulist"), "0-3\n");
    EXPECT_EQ(read("last_error"), "");
    EXPECT_EQ(read("state"), "running\n");
    EXPECT_EQ(sys::real().stat(dir())->mode, 0700u);
    EXPECT_EQ(sys::real().stat(path("parallel_cpumask"))->mode & 0077, 0u);
    EXPECT_EQ(sys::real().stat(path("usable_parallel_cpumask"))->mode, 0400u);
    EXPECT_EQ(outside_->directory(), dir());
    EXPECT_TRUE(sys::testing::blocks_signals("padata-control"));
}

TEST_P(control_dir, a_written_mask_is_taken_and_stands_in_every_form) {
    write("parallel_cpumask", "0000,00000003\n");
    EXPECT_TRUE(stands("parallel_cpumask", "3\n"));
    EXPECT_TRUE(stands("parallel_cpulist", "0-1\n"));
    EXPECT_TRUE(stands("usable_parallel_cpulist", "0-1\n"));
    EXPECT_EQ(inst_->user_mask(mask_kind::parallel), (cpumask{0, 1}));
    EXPECT_EQ(inst_->user_mask(mask_kind::serial), cpumask::range(0, 3));
    write("serial_cpulist", "2,3");
    EXPECT_TRUE(stands("serial_cpumask", "c\n"));
    EXPECT_EQ(inst_->usable_mask(mask_kind::serial), (cpumask{2, 3}));
    EXPECT_EQ(read("last_error"), "");
}

TEST_P(control_dir, a_bad_one_is_put_back_with_the_reason_and_a_good_one_clears_it) {
    const std::pair<const char*, const char*> bad[] = {{"zz\n", "zz"}, {"", "nothing was written"}, {"0\n", "empty"}, {"10\n", "EOVERFLOW"}, {"1,,2", "1,,2"}, {"f\nf\n", "f?f"}};
    for (const auto& [text, why] : bad) {
        write("parallel_cpumask", text);
        EXPECT_TRUE(soon([&, w = why] { return read("last_error").find(w) != std::string::npos; })) << text << " -> " << read("last_error");
        EXPECT_EQ(read("parallel_cpumask"), "f\n") << text;
        EXPECT_EQ(inst_->user_mask(mask_kind::parallel), cpumask::range(0, 3));
        write("parallel_cpumask", "f\n");  // what holds: good, too
        EXPECT_TRUE(stands("last_error", "")) << text;
    }
    write("serial_cpulist", "3-1\n");
    EXPECT_TRUE(soon([&] { return read("last_error").find("3-1") != std::string::npos; }));
    EXPECT_TRUE(stands("serial_cpulist", "0-3\n"));
    EXPECT_EQ(read("last_error").find('\n'), read("last_error").size() - 1);
    write("serial_cpulist", "1\n");
    EXPECT_TRUE(stands("last_error", ""));
    EXPECT_EQ(inst_->user_mask(mask_kind::serial), cpumask{1});
}

TEST_P(control_dir, a_request_is_taken_when_its_writer_closes_it) {
    auto fd = sys::open_file(sys::real(), path("parallel_cpulist"), sys::open_write | sys::open_truncate);
    ASSERT_TRUE(fd);
    ASSERT_TRUE(sys::write_all(sys::real(), fd->get(), "0"));
    if (GetParam() == control_options::watch::notified) {
        // Another file is handled meanwhile; the half of a request is neither taken nor overwritten.
        write("serial_cpulist", "3\n");
        EXPECT_TRUE(stands("serial_cpumask", "8\n"));
        EXPECT_TRUE(inst_->set_cpumask(mask_kind::parallel, cpumask{3}));
        EXPECT_TRUE(stands("parallel_cpumask", "8\n"));
        EXPECT_EQ(read("parallel_cpulist"), "0");
    }
    ASSERT_TRUE(sys::write_all(sys::real(), fd->get(), "-2\n"));
    ASSERT_TRUE(fd->close());
    EXPECT_TRUE(stands("parallel_cpumask", "7\n"));
    EXPECT_EQ(inst_->user_mask(mask_kind::parallel), cpumask::range(0, 2));
    EXPECT_EQ(read("last_error"), "");
}

TEST_P(control_dir, a_file_that_is_replaced_or_removed_is_taken_or_made_again) {
    ASSERT_TRUE(sys::write_file(sys::real(), path("sedXYZ"), "6\n"));  // as sed -i and editors do
    ASSERT_TRUE(sys::real().rename(path("sedXYZ"), path("parallel_cpumask")));
    EXPECT_TRUE(stands("parallel_cpulist", "1-2\n"));
    ASSERT_TRUE(sys::real().unlink(path("parallel_cpumask")));
    EXPECT_TRUE(stands("parallel_cpumask", "6\n"));
    write("parallel_cpumask", "1\n");
    EXPECT_TRUE(stands("parallel_cpulist", "0\n"));
}

TEST_P(control_dir, files_for_reading_are_put_back) {
    write("another", "1\n");  // by rename: nobody but root may open them for writing
    ASSERT_TRUE(sys::real().rename(path("another"), path("usable_parallel_cpumask")));
    EXPECT_TRUE(soon([&] { return read("last_error").find("only for reading") != std::string::npos; })) << read("last_error");
    EXPECT_TRUE(stands("usable_parallel_cpumask", "f\n"));
    EXPECT_EQ(inst_->user_mask(mask_kind::parallel), cpumask::range(0, 3));
}

TEST_P(control_dir, shows_masks_that_the_program_or_a_question_sets) {
    ASSERT_TRUE(inst_->set_cpumask(mask_kind::parallel, cpumask{2}));
    EXPECT_TRUE(stands("parallel_cpumask", "4\n"));
    const auto answer = ask_control(outside_->id(), {"mask", "parallel", "list", "1-2", "serial", "hex", "9"});
    ASSERT_TRUE(answer) << answer.error().line();
    EXPECT_EQ(inst_->user_mask(mask_kind::serial), (cpumask{0, 3}));
    EXPECT_TRUE(stands("parallel_cpulist", "1-2\n"));
    EXPECT_TRUE(stands("serial_cpulist", "0,3\n"));
}

TEST_P(control_dir, is_gone_at_the_end_with_what_was_ours) {
    ASSERT_TRUE(sys::write_file(sys::real(), scratch_ / "mine", "x"));
    outside_.reset();
    EXPECT_EQ(sys::real().stat(dir()).error().code, ENOENT);
    // One that the user made stays, and so do files that are not ours.
    ASSERT_TRUE(sys::real().mkdir(dir()));
    outside_ = open(*inst_);
    ASSERT_TRUE(outside_);
    ASSERT_TRUE(sys::write_file(sys::real(), path("notes"), "x"));
    outside_.reset();
    EXPECT_EQ(sys::real().list_dir(dir()).value(), std::vector<std::string>{"notes"});
}

TEST_P(control_dir, is_one_controls_at_a_time_and_never_a_directory_of_other_things) {
    auto second = control::create(*inst_, {.directory = dir(), .how = GetParam()});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EBUSY);
    EXPECT_EQ(read("parallel_cpumask"), "f\n");
    ASSERT_TRUE(sys::write_file(sys::real(), scratch_ / "precious", "x"));
    auto other = control::create(*inst_, {.directory = scratch_.path(), .how = GetParam()});
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().code, ENOTEMPTY);
    EXPECT_EQ(sys::read_file(sys::real(), scratch_ / "precious").value(), "x");
    EXPECT_EQ(control::create(*inst_, {.directory = scratch_ / "precious"}).error().code, EEXIST);
    EXPECT_EQ(control::create(*inst_, {.directory = scratch_ / "none/ctl"}).error().code, ENOENT);
}

TEST_P(control_dir, many_writers_at_once_leave_files_that_agree_with_the_instance) {
    std::vector<std::thread> writers;
    for (int w = 0; w < 4; ++w) {
        writers.emplace_back([this, w] {
            const char* names[] = {"parallel_cpumask", "parallel_cpulist", "serial_cpumask", "serial_cpulist"};
            const char* texts[] = {"1\n", "zz\n", "3\n", "2\n"};
            for (int i = 0; i < 100; ++i) {
                std::ofstream f(path(names[(w + i) % 4]));
                f << texts[i % 4] << std::flush;
            }
        });
    }
    for (auto& t : writers) t.join();
    EXPECT_TRUE(soon([&] {
        for (const auto& [kind, name] : {std::pair{mask_kind::parallel, "parallel"}, std::pair{mask_kind::serial, "serial"}}) {
            const cpumask mask = inst_->user_mask(kind);
            if (read(name + std::string("_cpumask")) != mask.hex() + "\n" || read(name + std::string("_cpulist")) != mask.list() + "\n") return false;
        }
        return true;
    }));
}

TEST_P(control_dir, order_is_kept_while_masks_are_written) {
    auto stream = shell::create(*inst_).value();
    std::atomic<int> next = 0, wrong = 0;
    for (int i = 0; i < 20'000; ++i) {
        if (i % 500 == 0) write("parallel_cpumask", i % 1000 ? "1\n" : "f\n");
        ASSERT_TRUE(stream.submit([] {}, [&, i] { wrong += next++ != i; }));
    }
    ASSERT_TRUE(stream.drain());
    EXPECT_EQ(next, 20'000);
    EXPECT_EQ(wrong, 0);
}

TEST(control, answers_questions_and_refuses_bad_ones_leaving_both_masks) {
    sys::testing::scratch_dir dir;
    auto inst = instance::create({.name = "a \"b\"/c", .usable = cpumask{0, 1, 2, 3}}).value();
    auto outside = control::create(*inst, {.directory = dir / "ctl"}).value();
    EXPECT_EQ(outside->id(), std::to_string(::getpid()) + ".a__b__c");
    EXPECT_THAT(live_controls().value(), Contains(outside->id()));
    const auto shown = ask_control(outside->id(), {"show"}).value();
    EXPECT_THAT(shown, HasSubstr(R"("name": "a \"b\"/c")"));
    EXPECT_THAT(shown, HasSubstr(R"("parallel": {"user": {"list": "0-3", "mask": "f"}, "usable": {"list": "0-3", "mask": "f"}})"));
    EXPECT_THAT(shown, HasSubstr(R"("state": "running")"));
    const std::pair<std::vector<std::string>, int> bad[] = {
        {{"mask", "parallel", "list", "1", "serial", "list", "9"}, ERANGE}, {{"mask", "parallel", "list", "1", "serial", "hex", "0"}, EINVAL}, {{"mask", "parallel", "hex", "zz"}, EINVAL},
        {{"mask", "parallel"}, EPROTO}, {{"mask", "both", "list", "1"}, EPROTO}, {{"mask", "serial", "text", "1"}, EPROTO}, {{"dance"}, EPROTO}, {{""}, EPROTO}};
    for (const auto& [question, code] : bad) {
        const auto answer = ask_control(outside->id(), question);
        ASSERT_FALSE(answer) << question.front();
        EXPECT_EQ(answer.error().code, code) << answer.error().line();
        EXPECT_EQ(inst->user_mask(mask_kind::parallel), cpumask::range(0, 3));
        EXPECT_EQ(inst->user_mask(mask_kind::serial), cpumask::range(0, 3));
    }
    EXPECT_EQ(ask_control(outside->id(), {"mask", "parallel", "list", std::string(1 << 20, '1')}).has_value(), false);
    EXPECT_TRUE(ask_control(outside->id(), {"mask", "parallel", "list", "0\t2"}));  // blanks separate in lists
    EXPECT_EQ(inst->user_mask(mask_kind::parallel), (cpumask{0, 2}));
    const std::string id = outside->id();
    outside.reset();
    EXPECT_EQ(ask_control(id, {"show"}).error().code, ENOENT);
    EXPECT_THAT(live_controls().value(), Not(Contains(id)));
}

TEST(control, a_stranger_in_its_place_is_not_believed) {
    const std::string id = "1.init";
    const auto listener = sys::listen_local("cohort-padata-" + id);
    ASSERT_TRUE(listener);
    EXPECT_EQ(ask_control(id, {"show"}).error().code, EPROTO);
    (void)sys::real().close(*listener);
}

TEST(control, the_default_place_is_private_and_two_of_a_name_stand_side_by_side) {
    sys::testing::scratch_dir dir;
    ::setenv("COHORT_RUN_DIR", (dir / "run").c_str(), 1);
    auto inst = instance::create({.name = "twin", .usable = cpumask{0}}).value();
    auto first = control::create(*inst).value(), second = control::create(*inst).value();
    const std::string pid = std::to_string(::getpid());
    EXPECT_EQ(first->directory(), dir / "run/padata/" + pid + ".twin");
    EXPECT_EQ(second->directory(), dir / "run/padata/" + pid + ".twin.2");
    EXPECT_EQ(sys::real().stat(dir / "run/padata")->mode, 0700u);
    first.reset(), second.reset();
    EXPECT_TRUE(sys::real().list_dir(dir / "run/padata")->empty());
    ::chmod((dir / "run").c_str(), 0777);
    auto refused = control::create(*inst);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EPERM);
    ::unsetenv("COHORT_RUN_DIR");
}

TEST(control, what_a_killed_process_left_is_removed_and_what_lives_is_not) {
    sys::testing::scratch_dir dir;
    ::setenv("COHORT_RUN_DIR", dir.path().c_str(), 1);
    const std::string base = detail::control_base(sys::real()).value();
    const auto ends = sys::real().pipe().value();
    // Before there are other threads: one of them might hold a lock of a sanitizer's allocator, which would stay held in the child.
    const pid_t child = ::fork();
    if (child == 0) {
        char go;
        if (::read(ends.read, &go, 1) != 1) ::_exit(1);
        // Only what needs no thread of the parent's.
        auto place = detail::control_place::own(sys::real(), "77.dead");
        auto given = detail::control_place::given(sys::real(), dir / "given");
        for (const std::string& p : {base + "/77.dead", dir / "given"}) {
            for (const char* name : {"parallel_cpumask", "last_error", "state.a1b2"}) (void)sys::write_file(sys::real(), p + "/" + name, "1\n");
        }
        if (!place || !given) ::_exit(1);
        ::kill(::getpid(), SIGKILL);
    }
    sys::owned_fd out(sys::real(), ends.read), in(sys::real(), ends.write);
    auto inst = instance::create({.name = "live", .usable = cpumask{0}}).value();
    auto live = control::create(*inst).value();
    ASSERT_EQ(::write(in.get(), "x", 1), 1);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_THAT(sys::real().list_dir(base).value(), Contains("77.dead"));
    EXPECT_EQ(detail::remove_stale(sys::real(), base), 1);
    EXPECT_EQ(sys::real().list_dir(base).value(), std::vector<std::string>{live->id()});
    auto again = control::create(*inst, {.directory = dir / "given"});
    ASSERT_TRUE(again) << again.error().line();
    EXPECT_EQ(sys::read_file(sys::real(), dir / "given/parallel_cpumask").value(), inst->user_mask(mask_kind::parallel).hex() + "\n");
    again->reset();
    EXPECT_FALSE(sys::real().stat(dir / "given"));
    ::unsetenv("COHORT_RUN_DIR");
}

TEST(control, when_any_call_fails_there_is_an_error_and_nothing_is_left) {
    sys::testing::scratch_dir dir;
    auto inst = instance::create({.usable = cpumask{0, 1}}).value();
    int failed = 0;
    for (int nth = 1; nth < 200; ++nth) {
        sys::failing os(sys::real(), {.nth = nth, .code = EIO});
        auto made = control::create(*inst, {.directory = dir / "ctl", .system = &os});
        if (os.failures() == 0) break;
        if (!made) {
            ++failed;
            EXPECT_EQ(made.error().code, EIO) << made.error().line();
        }
        if (made) made->reset();
        const auto left = sys::real().list_dir(dir.path()).value();
        // A failed rmdir or list_dir of the end may leave the directory itself, never a file that looks alive.
        for (const std::string& name : left) {
            EXPECT_EQ(name, "ctl");
            const auto files = sys::real().list_dir(dir / name).value();
            for (const std::string& f : files) (void)sys::real().unlink(dir / name + "/" + f);
            (void)sys::real().rmdir(dir / name);
        }
    }
    EXPECT_GT(failed, 20);
}

}  // namespace
}  // namespace cohort::padata
