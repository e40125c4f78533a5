// SPDX-License-Identifier: Apache-2.0
// A run that becomes another: what goes on, what begins anew, and what becomes of it when that cannot be.
#include <atomic>
#include <future>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cohort/group/difference.hpp>
#include <cohort/group/run.hpp>
#include <cohort/group/view.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::group {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A run on a thread of its own, which stays until it is told to stop.
class running_plan : public ::testing::Test {
protected:
    std::shared_ptr<const plan> plan_of(const std::string& text) {
        const auto read = read_spec("s.toml", text, [](std::string_view) { return std::optional<std::string>(); });
        EXPECT_TRUE(read.faults.empty()) << read.faults.front().line();
        return std::make_shared<const plan>(make_plan(read.value, view_machine("live", sys::real()).value(), dir_.path()));
    }
    static std::string cohort(const std::string& name, const std::string& command) {
        return "[[cohort]]\nname = \"" + name + "\"\n[[job]]\nname = \"j" + name + "\"\ncohort = \"" + name + "\"\nkind = \"exec\"\ncommand = '''" + command + "'''\nstdout = \"out\"\n";
    }
    static std::string said(const std::string& name, const std::string& word) {
        std::string text = cohort(name, "echo " + word + " >>" + name + ".said; exec sleep 1000");
        return text.erase(text.find("stdout"));
    }

    void start(const std::shared_ptr<const plan>& p) {
        first_ = p;
        options_.stay = true;
        options_.changes = &changes_;
        options_.stop = stop_.get_token();
        options_.watch = [this](const std::vector<job_report>& now) {
            const std::lock_guard guard(lock_);
            seen_ = now;
            if (!std::exchange(runs_, true)) begun_.set_value();
        };
        thread_ = std::thread([this] { report_ = run_jobs(*first_, sys::real(), options_); });
        begun_.get_future().get();
    }
    result<void> become(const std::shared_ptr<const plan>& next, std::function<result<void>()> exchange = [] { return result<void>{}; }) {
        std::promise<result<void>> done;
        changes_.ask({.next = next,
                      .kept = difference_of(stands_ ? *stands_ : *first_, *next).kept(),
                      .exchange = std::move(exchange),
                      .back = [&]() -> result<void> { ++backs_; return {}; },
                      .done = [&](const result<void>& r, const std::shared_ptr<const plan>& stands) {
                          if (stands) stands_ = stands;
                          done.set_value(r);
                      }});
        return done.get_future().get();
    }
    void until(const std::function<bool(const std::vector<job_report>&)>& so) {
        for (int i = 0; i < 6000; ++i) {
            {
                const std::lock_guard guard(lock_);
                if (so(seen_)) return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        FAIL() << "never";
    }
    run_report end() {
        stop_.request_stop();
        if (thread_.joinable()) thread_.join();
        return report_;
    }
    std::string text(const std::string& name) const { return sys::read_file(sys::real(), dir_ / name).value_or(""); }
    /// Every line of it, once it has so many.
    void until_said(const std::string& name, const std::string& what) {
        until([&](const auto&) { return text(name + ".said") == what; });
    }
    void TearDown() override { end(); }

    sys::testing::scratch_dir dir_;
    std::shared_ptr<const plan> first_, stands_;
    run_changes changes_;
    run_options options_;
    int backs_ = 0;

private:
    std::stop_source stop_;
    std::promise<void> begun_;
    std::mutex lock_;
    std::vector<job_report> seen_;
    bool runs_ = false;
    run_report report_;
    std::thread thread_;
};

std::vector<std::string> names(const std::vector<job_report>& jobs) {
    std::vector<std::string> out;
    for (const job_report& j : jobs) out.push_back(j.name + " " + state_word(j.state));
    return out;
}

TEST_F(running_plan, becomes_another) {
    std::string b = cohort("b", "trap 'echo ended >>b.said; exit 0' TERM; echo one >>b.said; while :; do sleep 0.02; done");
    start(plan_of(said("a", "one") + b.erase(b.find("stdout"))));
    until_said("a", "one\n"), until_said("b", "one\n");
    std::string at_exchange;
    ASSERT_TRUE(become(plan_of(said("c", "one") + said("a", "one") + said("b", "two")), [&]() -> result<void> {
        at_exchange = text("b.said");
        return {};
    }));
    EXPECT_EQ(at_exchange, "one\nended\n") << "sets are changed when nobody is in them";
    until_said("b", "one\nended\ntwo\n"), until_said("c", "one\n");
    EXPECT_EQ(text("a.said"), "one\n");
    ASSERT_TRUE(become(plan_of(said("b", "two"))));
    const run_report r = end();
    EXPECT_THAT(names(r.jobs), ElementsAre("jb stopped"));
    EXPECT_THAT(names(r.replaced), ElementsAre("jb stopped", "jc stopped", "ja stopped"));
    EXPECT_THAT(report_text(*stands_, r), HasSubstr("before a change \"jc\" was stopped after "));
    EXPECT_EQ(nlohmann::json::parse(report_json(*stands_, r, 5))["replaced"][2]["name"], "ja");
    EXPECT_EQ(text("a.said"), "one\n");
    for (const run_sample& s : r.samples) EXPECT_EQ(s.jobs.size(), 1u);
    EXPECT_EQ(backs_, 0);
}

TEST_F(running_plan, goes_on_with_jobs_when_all_had_ended) {
    start(plan_of(cohort("a", "true")));
    until([](const auto& jobs) { return jobs[0].state == job_state::ok; });
    ASSERT_TRUE(become(plan_of(cohort("a", "true") + said("b", "one"))));
    until_said("b", "one\n");
    EXPECT_THAT(names(end().jobs), ElementsAre("ja ok", "jb stopped"));
}

TEST_F(running_plan, whose_sets_cannot_be_changed_begins_anew_as_it_was) {
    start(plan_of(said("a", "one") + said("b", "one")));
    until_said("a", "one\n"), until_said("b", "one\n");
    const auto done = become(plan_of(said("a", "one") + said("b", "two")), []() -> result<void> { return fail(EIO, "sets", "change", "as planned"); });
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, EIO);
    EXPECT_EQ(stands_->cohorts.size(), 2u);
    until_said("b", "one\none\n");
    EXPECT_EQ(text("a.said"), "one\n");
    EXPECT_EQ(backs_, 0) << "nothing had been exchanged";
    EXPECT_THAT(names(end().jobs), ElementsAre("ja stopped", "jb stopped"));
}

TEST_F(running_plan, whose_next_cannot_begin_is_put_back) {
    int calls = 0;
    options_.prepared = [&](const auto&) -> result<void> {
        if (++calls == 2) return fail(ENOSPC, "pool", "make", "as planned");
        return {};
    };
    start(plan_of(said("a", "one") + said("b", "one")));
    until_said("a", "one\n"), until_said("b", "one\n");
    const auto done = become(plan_of(said("a", "one") + said("b", "two")));
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, ENOSPC);
    EXPECT_EQ(backs_, 1);
    until_said("b", "one\none\n");
    EXPECT_EQ(text("a.said"), "one\n");
}

TEST_F(running_plan, goes_on_without_what_cannot_begin_again) {
    int calls = 0;
    options_.prepared = [&](const auto&) -> result<void> {
        if (++calls >= 2) return fail(ENOSPC, "pool", "make", "as planned");
        return {};
    };
    start(plan_of(said("b", "one") + said("a", "one")));
    until_said("a", "one\n"), until_said("b", "one\n");
    const auto done = become(plan_of(said("b", "two") + said("a", "one")));
    ASSERT_FALSE(done);
    EXPECT_THAT(done.error().line(), HasSubstr("what had ended for it does not begin anew: pool: make: ENOSPC"));
    ASSERT_EQ(stands_->cohorts.size(), 1u);
    EXPECT_EQ(stands_->cohorts[0].name, "a");
    const run_report r = end();
    EXPECT_THAT(names(r.jobs), ElementsAre("ja stopped"));
    for (const run_sample& s : r.samples) EXPECT_EQ(s.jobs.size(), 1u);
    EXPECT_EQ(text("a.said"), "one\n");
}

TEST_F(running_plan, that_has_ended_or_was_never_begun_refuses) {
    first_ = plan_of(said("a", "one"));
    EXPECT_EQ(become(plan_of(said("a", "two"))).error().code, ECANCELED);
    start(first_);
    until_said("a", "one\n");
    end();
    EXPECT_EQ(become(plan_of(said("a", "two"))).error().code, ECANCELED);
    EXPECT_EQ(text("a.said"), "one\n");
}

TEST_F(running_plan, waits_for_jobs_that_do_not_listen) {
    options_.patience_ns = 100'000'000;
    std::string deaf = cohort("a", "trap '' TERM; echo one >>a.said; while :; do sleep 0.05; done");
    start(plan_of(deaf.erase(deaf.find("stdout"))));
    until_said("a", "one\n");
    ASSERT_TRUE(become(plan_of(said("b", "one"))));
    until_said("b", "one\n");
    EXPECT_THAT(names(end().replaced), ElementsAre("ja stopped"));
}

}  // namespace
}  // namespace cohort::group
