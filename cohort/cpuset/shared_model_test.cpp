// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/shared_model.hpp>

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include <cohort/cpuset/testing/script.hpp>

namespace cohort::cpuset {
namespace {

std::unique_ptr<shared_model> machine(model_options o = {}) { return shared_model::create(model(testing::eight_cpus(), o)).value(); }

void perform(shared_model& m, std::initializer_list<const char*> lines) {
    for (const char* line : lines) {
        const answer a = m.perform(*parse_operation(line));
        ASSERT_TRUE(a.ok()) << line << ": " << a.why;
    }
}

TEST(shared_model, publishes_what_a_write_has_made_of_sets_and_tasks) {
    const auto m = machine();
    EXPECT_EQ(m->set_masks(".")->cpus.list(), "0-7");
    perform(*m, {"mkdir a", "write a cpuset.cpus 2-3", "write a cpuset.mems 1", "attach a t"});
    EXPECT_EQ(m->set_masks("a")->cpus.list(), "2-3");
    EXPECT_EQ(m->task_masks("t")->mems.list(), "1");
    EXPECT_EQ(m->home("t").value(), "a");
    perform(*m, {"cpu 3 offline"});
    EXPECT_EQ(m->task_masks("t")->cpus.list(), "2");
    perform(*m, {"exit t", "rmdir a"});
    EXPECT_EQ(m->set_masks("a").error().code, ENOENT);
    EXPECT_EQ(m->task_masks("t").error().code, ESRCH);
    EXPECT_EQ(m->home("t").error().code, ESRCH);
    EXPECT_EQ(m->hardwall_mems("t").error().code, ESRCH);
    EXPECT_EQ(m->perform(*parse_operation("rmdir a")).code, ENOENT);
}

TEST(shared_model, counts_how_often_nodes_have_changed_and_nothing_else) {
    const auto m = machine();
    perform(*m, {"mkdir a", "attach a t"});
    const unsigned before = m->mems_begin("t");
    perform(*m, {"write a cpuset.cpus 1", "mkdir b"});
    EXPECT_FALSE(m->mems_changed("t", before));
    perform(*m, {"write a cpuset.mems 0"});
    EXPECT_TRUE(m->mems_changed("t", before));
    EXPECT_FALSE(m->being_rebound("t")) << "that is over when the write returns";
    EXPECT_EQ(m->mems_begin("nobody"), 0u);
}

TEST(shared_model, sets_without_a_cpuset_of_their_own_are_their_parents) {
    const auto m = machine();
    perform(*m, {"mkdir a", "write a cpuset.cpus 4-5", "mkdir a/b", "attach a/b t"});
    EXPECT_EQ(m->set_masks("a/b").error().code, ENOENT);
    EXPECT_EQ(m->home("t").value(), "a");
    EXPECT_EQ(m->task_masks("t")->cpus.list(), "4-5");
    perform(*m, {"controller a +cpuset", "write a/b cpuset.cpus 5"});
    EXPECT_EQ(m->home("t").value(), "a/b");
    EXPECT_EQ(m->task_masks("t")->cpus.list(), "5");
}

/// One writer goes to and fro between two states; readers of either lock see one of them, whole.
TEST(shared_model, readers_of_either_lock_see_whole_states) {
    const auto m = machine();
    perform(*m, {"mkdir a", "mkdir b", "write a cpuset.cpus 0-3", "write a cpuset.mems 0", "attach a t", "attach b u"});
    std::atomic<bool> over{false};
    std::atomic<int> torn{0}, looks{0};
    const auto reader = [&](bool tree) {
        // The writer ends only after every reader has looked: the last round is one more.
        for (bool last = false; !last;) {
            last = over;
            if (tree) {
                torn += !m->read([](const model& now) { return now.broken(); }).empty();
                torn += !m->perform(*parse_operation("read a cpuset.cpus")).ok();
            } else {
                const unsigned before = m->mems_begin("t");
                const auto masks = m->task_masks("t").value();
                const std::string cpus = m->set_masks("a")->cpus.list(), mems = masks.mems.list();
                torn += cpus != "0-3" && cpus != "4-7" && cpus != "0-7";
                torn += mems != "0" && mems != "1" && mems != "0-1";
                torn += m->mems_begin("t") < before;
                (void)m->being_rebound("t");
            }
            ++looks;
        }
    };
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) readers.emplace_back(reader, i % 2 == 0);
    for (int i = 0; i < 200; ++i) {
        perform(*m, {"write a cpuset.cpus 4-7", "write a cpuset.mems 1", "attach a u", "write a cpuset.cpus 0-3", "write a cpuset.mems 0", "attach b u"});
    }
    over = true;
    for (std::thread& r : readers) r.join();
    EXPECT_EQ(torn, 0) << "of " << looks;
    EXPECT_GE(looks, 4);
    EXPECT_GE(m->mems_begin("t"), 400u);
}

}  // namespace
}  // namespace cohort::cpuset
