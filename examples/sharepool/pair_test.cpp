// SPDX-License-Identifier: Apache-2.0
/// Producer and consumer as two processes that a broker brings together: to the end, and with the producer killed.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/broker.hpp>

namespace cohort::sharepool {
namespace {

using ::testing::HasSubstr;

/// One of the two programs, as `cohort pool exec --id 7` starts it.
class program {
public:
    program(const std::string& socket, std::vector<std::string> words) {
        int from[2];
        if (::pipe2(from, O_CLOEXEC) != 0) std::abort();
        child_ = sys::testing::start_program(std::move(words), {"COHORT_SOCKET=" + socket, "COHORT_POOL_JOIN=7"}, -1, from[1]);
        ::close(from[1]);
        out_ = ::fdopen(from[0], "r");
    }
    ~program() { std::fclose(out_); }
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    std::string line() {
        char text[512] = {};
        if (!std::fgets(text, sizeof text, out_)) return "";
        std::string s = text;
        if (s.ends_with('\n')) s.pop_back();
        return s;
    }
    void kill() const { child_.kill(); }
    int wait() { return child_.wait(); }

private:
    sys::testing::child_process child_;
    FILE* out_ = nullptr;
};

class pair : public ::testing::Test {
protected:
    pair() : client_(testing::must(broker_client::connect(broker_.socket()))) {
        testing::must(client_.create({.id = 7, .bytes = 256 << 20, .name = "words"}));
        pool_ = testing::must(share_pool::attach({.socket = broker_.socket()}));
        testing::must(pool_->group_add_task(::getpid(), 7));
    }
    testing::running_broker broker_;
    broker_client client_;
    std::unique_ptr<share_pool> pool_;
};

TEST_F(pair, passes_every_map_by_raw_pointer_and_leaves_nothing) {
    program producer(broker_.socket(), {COHORT_PRODUCER, "200", "100"});
    program consumer(broker_.socket(), {COHORT_CONSUMER, producer.line()});
    EXPECT_EQ(consumer.line(), "200 maps of 20000 words by raw pointer, 0 of them wrong");
    EXPECT_EQ(consumer.wait(), 0);
    EXPECT_EQ(producer.wait(), 0);
    (void)pool_->in(7)->recover_dead();
    EXPECT_EQ(testing::wrong_when_empty(*pool_->in(7)), "");
}

TEST_F(pair, keeps_what_a_killed_producer_had_passed_on) {
    for (int round = 0; round < 5; ++round) {
        program producer(broker_.socket(), {COHORT_PRODUCER, "0", "50"});
        program consumer(broker_.socket(), {COHORT_CONSUMER, producer.line()});
        ::usleep(static_cast<useconds_t>(3000 * round));
        producer.kill();
        EXPECT_THAT(consumer.line(), HasSubstr("0 of them wrong; the producer has died"));
        const int status = consumer.wait();
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << status;
        EXPECT_TRUE(WIFSIGNALED(producer.wait()));
    }
    // What it was building when it died is whole or half: nobody's. Everything is accounted for.
    member& m = *pool_->in(7);
    (void)m.recover_dead();
    const census n = m.count();
    EXPECT_EQ(n.lost + n.twice, 0u);
    EXPECT_EQ(n.owned, 0u);
    const auto rows = testing::must(client_.members(7));
    EXPECT_EQ(rows.size(), 1u);
}

}  // namespace
}  // namespace cohort::sharepool
