// SPDX-License-Identifier: Apache-2.0
/// Peers that send anything: the broker stays up, says what was wrong, counts it, and serves the others.
#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <string>

#include <cohort/sharepool/testing/raw_peer.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::raw_peer;
using testing::running_broker;
using testing::wait_until;
using wire::packet;
using wire::verb;

std::vector<std::byte> hello() { return wire::encode({.what = verb::hello, .number = 1}); }

/// A broker, and a good process that is served from beginning to end.
class hostile_peers : public ::testing::Test {
protected:
    hostile_peers() {
        EXPECT_EQ(good_.tell("attach"), "ok");
        EXPECT_EQ(good_.tell("add 0 7"), "ok 7");
    }
    ~hostile_peers() override {
        EXPECT_EQ(good_.tell("del 0 7"), "ok") << "it is served";
        EXPECT_EQ(good_.tell("add 0 7"), "ok 7");
        broker_.stop();
        EXPECT_EQ(broker_.fault(), "");
        EXPECT_EQ(broker_.figures().malformed, malformed_);
    }
    /// Bytes that end their connection with EPROTO.
    void refused(std::span<const std::byte> bytes, const char* why) {
        raw_peer p(broker_.socket());
        p.send(bytes);
        const packet said = p.last();
        EXPECT_EQ(said.code, EPROTO) << why;
        EXPECT_NE(said.text.find(why), std::string::npos) << said.text;
        ++malformed_;
    }
    packet group(int id) {
        raw_peer p(broker_.socket(), 0);
        return p.ask({.what = verb::look, .id = id});
    }

    running_broker broker_{{.patience = std::chrono::seconds(30)}};
    process good_{broker_.socket()};
    std::uint64_t malformed_ = 0;
};

TEST_F(hostile_peers, packets_that_are_none) {
    refused(std::vector<std::byte>(3), "it has 3 bytes");
    refused(std::vector<std::byte>(200), "no message of a share pool");
    auto wrong = hello();
    wrong[4] = std::byte{99};
    refused(wrong, "it has version 99, this side has 1");
    wrong = hello();
    wrong[6] = std::byte{200};
    refused(wrong, "which is not known");
    wrong = hello();
    wrong.push_back(std::byte{1});
    refused(wrong, "its lengths do not add up");
    wrong = hello();
    std::memset(wrong.data() + 36, 0xff, 8);  // the lengths
    refused(wrong, "its lengths do not add up");
    refused(std::vector<std::byte>(wire::most_bytes + 1), "longer");
    refused(wire::encode({.what = verb::stat, .number = 1}), "hello has to be the first");
}

TEST_F(hostile_peers, what_only_a_broker_sends) {
    for (const verb v : {verb::map, verb::map_import, verb::unmap_import, verb::ask_use, verb::unmap, verb::recover, verb::group_died, verb::answer}) {
        raw_peer p(broker_.socket(), 0);
        EXPECT_EQ(p.ask({.what = v, .id = 7}).code, EPROTO);
        EXPECT_EQ(p.last().code, 0);
        ++malformed_;
    }
}

TEST_F(hostile_peers, more_descriptors_than_a_message_may_have_and_descriptors_where_none_belong) {
    raw_peer p(broker_.socket(), 0);
    const std::array four{p.fd(), p.fd(), p.fd(), p.fd()};
    EXPECT_EQ(p.ask({.what = verb::stat}, four).code, 0) << "they are closed again";
    EXPECT_EQ(p.ask({.what = verb::import, .id = 7, .at = 1, .bytes = 4096}, four).code, EINVAL) << "it takes one";
}

TEST_F(hostile_peers, groups_that_they_are_not_in) {
    raw_peer p(broker_.socket(), wire::attach);
    ASSERT_EQ(p.greeting.code, 0);
    const int file = must(sys::create_shared_memory("mine", 2 << 20));
    const std::array two{file, file}, one{file, -1};
    EXPECT_EQ(p.ask({.what = verb::holds, .id = 7}, two).code, EPERM) << "other files";
    EXPECT_EQ(p.ask({.what = verb::holds, .id = 7}).code, EINVAL) << "none";
    EXPECT_EQ(p.ask({.what = verb::holds, .id = 99}, two).code, ENODEV);
    EXPECT_EQ(p.ask({.what = verb::holds, .id = 7, .at = 4096}, std::span(one).first(1)).code, EPERM);
    const auto looked = wire::rows_of<wire::group_row>(group(7));
    ASSERT_EQ(looked.size(), 1u);
    EXPECT_EQ(p.ask({.what = verb::import, .id = 7, .at = looked[0].base, .bytes = 4096}, std::span(one).first(1)).code, EPERM);
    EXPECT_EQ(p.ask({.what = verb::unshare, .id = 7, .at = looked[0].base}).code, EPERM);
    EXPECT_EQ(p.ask({.what = verb::remove, .pid = good_.pid(), .id = 99}).code, EINVAL);
    // In it, with offsets that are forged.
    p.send(packet{.what = verb::add, .number = 50, .pid = ::getpid(), .id = 7});
    const packet map = p.receive();
    ASSERT_EQ(map.what, verb::map);
    p.send(packet{.what = verb::done, .number = map.number});
    ASSERT_EQ(p.answer().id, 7);
    for (const std::uint64_t at : {std::uint64_t{0}, looked[0].base - 4096, looked[0].base + looked[0].bytes, ~std::uint64_t{4095}, looked[0].base + 1}) {
        EXPECT_EQ(p.ask({.what = verb::import, .id = 7, .at = at, .bytes = 4096}, std::span(one).first(1)).code, EINVAL) << at;
    }
    EXPECT_EQ(p.ask({.what = verb::import, .id = 7, .at = looked[0].base, .bytes = 8 << 20}, std::span(one).first(1)).code, EINVAL) << "beyond the file's end";
    EXPECT_EQ(p.ask({.what = verb::import, .id = 7, .at = looked[0].base, .bytes = 4096, .offset = ~std::uint64_t{4095}}, std::span(one).first(1)).code, EINVAL);
    ::close(file);
}

TEST_F(hostile_peers, answers_to_what_others_were_asked_count_for_nothing) {
    raw_peer p(broker_.socket(), wire::attach);
    good_.kill(SIGSTOP);
    raw_peer asker(broker_.socket(), 0);
    asker.send(packet{.what = verb::add, .number = 9, .pid = good_.pid(), .id = 8});
    for (std::uint64_t n = 0; n < 1000; ++n) p.send(packet{.what = verb::done, .number = n});
    ASSERT_EQ(p.ask({.what = verb::stat}).code, 0);
    const packet ids = p.ask({.what = verb::ids, .pid = good_.pid()});
    EXPECT_EQ(wire::rows_of<int>(ids), std::vector<int>{7}) << "it did not say so itself";
    good_.kill(SIGCONT);
    EXPECT_EQ(asker.answer().id, 8);
    EXPECT_EQ(good_.tell("del 0 8"), "ok");
}

TEST_F(hostile_peers, who_never_answers_and_who_never_reads) {
    raw_peer deaf(broker_.socket(), wire::attach);
    for (std::uint64_t n = 0; n < 5000; ++n) {
        if (deaf.send(wire::encode({.what = verb::stat, .number = n})) != 0) break;
    }
    // Its questions are not read any more, once so many answers wait; others' are.
    EXPECT_EQ(good_.tell("ids 0"), "ok 7");
}

TEST_F(hostile_peers, a_follower_that_does_not_read_is_disconnected) {
    raw_peer deaf(broker_.socket(), 0);
    ASSERT_EQ(deaf.ask({.what = verb::follow}).code, 0);
    raw_peer c(broker_.socket(), 0);
    const auto connections = [&] { return wire::rows_of<wire::totals_row>(c.ask({.what = verb::stat}))[0].connections; };
    const auto before = connections();
    for (int i = 0; i < 20'000 && connections() == before; i += 100) {
        for (int k = 0; k < 100; ++k) {
            const packet made = c.ask({.what = verb::create, .id = spg_id_auto, .mode = 0600, .bytes = 2 << 20});
            ASSERT_EQ(made.code, 0) << made.text;
            ASSERT_EQ(c.ask({.what = verb::destroy, .id = made.id}).code, 0);
        }
    }
    EXPECT_EQ(connections(), before - 1);
    ++malformed_;
}

TEST_F(hostile_peers, thousands_of_connections_and_of_questions) {
    (void)sys::allow_descriptors(8192);
    std::vector<raw_peer> many;
    for (int i = 0; i < 2000; ++i) many.emplace_back(broker_.socket());
    std::uint64_t n = 0;
    for (const raw_peer& p : many) {
        p.send(hello());
        for (int i = 0; i < 5; ++i) p.send(packet{.what = verb::add, .number = ++n, .pid = 1, .id = 5});
    }
    const std::uint64_t begin = sys::real().now();
    EXPECT_EQ(good_.tell("ids 0"), "ok 7");
    RecordProperty("answer_us_during_a_flood", std::to_string((sys::real().now() - begin) / 1000));
    EXPECT_EQ(good_.tell("add 0 9"), "ok 9");
    EXPECT_EQ(good_.tell("del 0 9"), "ok");
}

TEST(hostile, connections_over_the_caps_are_turned_away_with_the_reason) {
    running_broker b({.patience = std::chrono::seconds(30), .most_connections = 4, .most_of_uid = 3});
    std::vector<raw_peer> some;
    for (int i = 0; i < 3; ++i) some.emplace_back(b.socket(), 0u);
    raw_peer fourth(b.socket());
    const packet said = fourth.last();
    EXPECT_EQ(said.code, EUSERS);
    EXPECT_NE(said.text.find("has 3 connections"), std::string::npos) << said.text;
    const auto r = broker_client::connect(b.socket(), std::chrono::minutes(1));
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EUSERS);
    some.pop_back();
    wait_until("a free place", [&] { return broker_client::connect(b.socket()).has_value(); });
}

TEST(hostile, who_says_nothing_is_disconnected) {
    running_broker b({.patience = std::chrono::milliseconds(50)});
    raw_peer silent(b.socket());
    EXPECT_EQ(silent.last().code, EPROTO);
}

/// Random packets, most of them nearly good, over several connections.
TEST(hostile, any_packets) {
    const char* given = std::getenv("COHORT_SEED");
    const std::uint64_t seed = given ? std::strtoull(given, nullptr, 0) : std::random_device{}();
    std::printf("COHORT_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::mt19937_64 random(seed);
    running_broker b({.patience = std::chrono::milliseconds(200)});
    process good(b.socket());
    wait_until("its hello in time", [&] { return good.tell("attach") == "ok"; });
    wait_until("its answer in time", [&] { return good.tell("add 0 7") == "ok 7"; });
    const int file = must(sys::create_shared_memory("any", 4 << 20));
    std::vector<std::unique_ptr<raw_peer>> peers(4);
    const std::vector<std::uint64_t> words{0, 1, 2, 4095, 4096, 2 << 20, 1ull << 30, 1ull << 37, 1ull << 63, ~0ull, 0x550000000000, 0x550000000000 + (2 << 20)};
    const auto word = [&] { return random() % 8 == 0 ? random() : words[random() % words.size()]; };
    const auto small = [&] { return static_cast<std::int32_t>(random() % 4 == 0 ? static_cast<std::int64_t>(word()) : random() % 2 == 0 ? static_cast<std::int64_t>(random() % 12) : std::array{::getpid(), good.pid(), 1, 100'000, 200'000, 900'000}[random() % 6]); };
    for (int i = 0; i < 20'000; ++i) {
        auto& p = peers[random() % peers.size()];
        if (!p || random() % 500 == 0) {
            p.reset();
            p = std::make_unique<raw_peer>(b.socket());
            if (random() % 16 != 0) p->send(packet{.what = verb::hello, .number = 1, .flags = static_cast<std::uint32_t>(random() % 2)});
        }
        const auto what = static_cast<verb>(random() % (static_cast<unsigned>(verb::done) + 1));
        // The good one's group is not theirs to end; as root they may.
        packet q{.what = what, .number = random() % 64, .pid = small(), .id = small(), .code = small() % 3, .flags = static_cast<std::uint32_t>(random() % 1024), .mode = static_cast<std::uint32_t>(word()),
                 .at = word(), .bytes = word(), .offset = word(), .mark = word(), .text = std::string(random() % 64, 'x'), .rows = std::string(random() % 32, 'y')};
        if (q.id == 7 && (what == verb::destroy || what == verb::remove)) continue;
        auto bytes = wire::encode(q);
        if (random() % 32 == 0) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        if (random() % 64 == 0) bytes.resize(random() % bytes.size());
        const std::array fds{file, p->fd()};
        const int e = p->send(bytes, std::span(fds).first(random() % 3));
        if (e == EAGAIN) {
            std::array<std::byte, wire::most_bytes> into;
            while (sys::receive_packet(p->fd(), into)) {
            }
        } else if (e != 0) {
            p.reset();
        }
    }
    peers.clear();
    EXPECT_EQ(good.tell("ids 0").substr(0, 4), "ok 7");
    b.stop();
    EXPECT_EQ(b.fault(), "");
    ::close(file);
}

}  // namespace
}  // namespace cohort::sharepool
