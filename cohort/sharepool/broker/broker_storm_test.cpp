// SPDX-License-Identifier: Apache-2.0
/// Brokers and members are killed at random, under load; in each quiet moment what the broker says, what the members say and what is in the memory agree.
/// COHORT_SEED repeats one; COHORT_LONG=1 lets it go on for ten minutes, COHORT_STORM_SECONDS for as long as one likes.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <cohort/sharepool/testing/broker.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::wait_until;

class broker_storm : public ::testing::Test {
protected:
    broker_storm() {
        const char* given = std::getenv("COHORT_SEED");
        seed_ = given ? std::strtoull(given, nullptr, 0) : std::random_device{}();
        random_.seed(seed_);
        std::printf("COHORT_SEED=%llu\n", static_cast<unsigned long long>(seed_));
        start_broker();
        auto c = must(broker_client::connect(socket(), std::chrono::minutes(1)));
        must(c.create({.id = 1, .bytes = 64 << 20, .name = "created"}));
        for (int i = 0; i < 5; ++i) members_.push_back(start_member());
    }
    std::string socket() const { return dir_ / "pool.sock"; }
    void start_broker() {
        broker_ = std::make_unique<process>("");
        ASSERT_EQ(broker_->tell("serve " + socket() + " 2000 " + (dir_ / "pool.journal")), "ok");
    }
    std::unique_ptr<process> start_member() {
        auto p = std::make_unique<process>(socket());
        EXPECT_EQ(p->tell("attach"), "ok");
        EXPECT_EQ(p->tell("churn " + std::to_string(random_() % 1000)), "ok");
        return p;
    }
    process& any() { return *members_[random_() % members_.size()]; }

    void step() {
        const std::string id = std::to_string(1 + random_() % 3);
        switch (random_() % 16) {
            case 0:
                broker_->kill();
                broker_->wait();
                start_broker();
                ++brokers_killed_;
                break;
            case 1: case 2: {
                auto& p = members_[random_() % members_.size()];
                p->kill();
                p = start_member();
                ++members_killed_;
                break;
            }
            case 3: {  // in the middle of a join
                process& p = any();
                p.say("add 0 " + id);
                broker_->kill();
                broker_->wait();
                start_broker();
                (void)p.hear();
                ++brokers_killed_;
                break;
            }
            case 4: case 5: (void)any().tell("del 0 " + id); break;
            case 6: (void)any().tell("add " + std::to_string(any().pid()) + ' ' + id); break;
            default: (void)any().tell("add 0 " + id); break;
        }
    }

    /// What disagrees; "": nothing.
    std::string disagreement() {
        auto c = broker_client::connect(socket(), std::chrono::minutes(1));
        if (!c) return c.error().line();
        std::size_t known = 0;
        for (auto& p : members_) {
            std::istringstream ids(p->tell("ids 0"));
            std::string word;
            ids >> word;
            const bool in_none = word == "process";  // "process 4711: ...: ENODEV"
            if (word != "ok" && !in_none) return word;
            if (in_none) continue;
            for (int id; ids >> id; ++known) {
                const auto members = c->members(id);
                if (!members) return members.error().line();
                const std::string says = p->tell("count " + std::to_string(id)), expected = "ok owned 0 kept 0 lost 0 twice 0 members " + std::to_string(members->size());
                if (says != expected) return "process " + std::to_string(p->pid()) + ", group " + std::to_string(id) + ": " + says + ", not " + expected;
            }
        }
        const auto totals = c->totals();
        if (!totals) return totals.error().line();
        if (totals->members != known) return "the broker has " + std::to_string(totals->members) + " members, the processes say " + std::to_string(known);
        return "";
    }
    void look() {
        for (auto& p : members_) ASSERT_EQ(p->tell("rest"), "ok");
        std::string last;
        for (int i = 0; i < 6000 && (i == 0 || !last.empty()); ++i) {
            if (i != 0) ::usleep(10'000);
            last = disagreement();
        }
        ASSERT_EQ(last, "") << "after " << brokers_killed_ << " brokers and " << members_killed_ << " members";
        for (auto& p : members_) ASSERT_EQ(p->tell("churn " + std::to_string(random_() % 1000)), "ok");
    }

    sys::testing::scratch_dir dir_;
    std::uint64_t seed_ = 0;
    std::mt19937_64 random_;
    std::unique_ptr<process> broker_;
    std::vector<std::unique_ptr<process>> members_;
    int brokers_killed_ = 0, members_killed_ = 0;
};

TEST_F(broker_storm, groups_members_and_blocks_add_up) {
    const char* seconds = std::getenv("COHORT_STORM_SECONDS");
    const std::uint64_t long_run = seconds ? std::strtoull(seconds, nullptr, 0) : std::getenv("COHORT_LONG") ? 600 : 0;
    const std::uint64_t end = sys::real().now() + long_run * 1'000'000'000;
    // A number of rounds, so that a slow machine does the same, or a time.
    for (int round = 0; round < 6 || sys::real().now() < end; ++round) {
        for (int i = 0; i < 25; ++i) {
            step();
            if (HasFatalFailure()) return;
        }
        look();
        if (HasFatalFailure()) return;
    }
    std::printf("%d brokers and %d members killed\n", brokers_killed_, members_killed_);
    EXPECT_GT(brokers_killed_, 0);
    EXPECT_GT(members_killed_, 0);
}

}  // namespace
}  // namespace cohort::sharepool
