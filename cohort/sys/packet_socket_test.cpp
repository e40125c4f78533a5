// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/packet_socket.hpp>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/process_state.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::sys {
namespace {

std::span<const std::byte> bytes_of(const std::string& s) { return std::as_bytes(std::span(s)); }

/// Both ends of a connection.
struct pair {
    testing::scratch_dir dir;
    packet_listener listener = std::move(*listen_packets(dir / "deep/s", 0600));
    owned_fd client = std::move(*connect_packets(dir / "deep/s"));
    owned_fd server = std::move(*accept_packets(listener.socket.get()));
};

TEST(packet_socket, carries_packets_and_descriptors_and_tells_who_is_there) {
    pair p;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const owned_fd in(real(), ends[0]), out(real(), ends[1]);
    EXPECT_EQ(send_packet(p.client.get(), bytes_of("one"), std::array{ends[1]}), 0);
    EXPECT_EQ(send_packet(p.client.get(), bytes_of("two"), {}), 0);
    std::array<std::byte, 16> into;
    auto got = receive_packet(p.server.get(), into);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->bytes, 3u) << "packets stay apart";
    EXPECT_TRUE(got->whole);
    ASSERT_EQ(got->descriptors.size(), 1u);
    EXPECT_EQ(::write(got->descriptors[0].get(), "x", 1), 1);
    char c = 0;
    EXPECT_EQ(::read(ends[0], &c, 1), 1);
    EXPECT_EQ(receive_packet(p.server.get(), into)->bytes, 3u);
    EXPECT_EQ(receive_packet(p.server.get(), into).error().code, EAGAIN);
    const auto who = peer_of(p.server.get());
    ASSERT_TRUE(who);
    EXPECT_EQ(who->process, this_process());
    EXPECT_EQ(who->uid, ::geteuid());
    EXPECT_TRUE(who->ends);
}

TEST(packet_socket, what_is_too_long_is_not_whole_and_leaves_no_descriptors_open) {
    pair p;
    EXPECT_EQ(send_packet(p.client.get(), bytes_of("too long"), {}), 0);
    std::array<std::byte, 4> into;
    EXPECT_FALSE(receive_packet(p.server.get(), into)->whole);
    p.client = {};
    EXPECT_EQ(receive_packet(p.server.get(), into)->bytes, 0u) << "the end";
    EXPECT_EQ(send_packet(p.server.get(), bytes_of("x"), {}), EPIPE);
}

TEST(packet_socket, who_does_not_read_is_eagain) {
    pair p;
    const std::string big(16'000, 'x');
    int e = 0;
    for (int i = 0; i < 10'000 && e == 0; ++i) e = send_packet(p.client.get(), bytes_of(big), {});
    EXPECT_EQ(e, EAGAIN);
}

TEST(packet_socket, a_path_is_taken_once_and_over_from_the_dead_and_no_file_is_removed) {
    testing::scratch_dir dir;
    auto first = listen_packets(dir / "s", 0640);
    ASSERT_TRUE(first) << first.error().line();
    EXPECT_EQ(real().stat(dir / "s")->mode, 0640u);
    EXPECT_EQ(listen_packets(dir / "s", 0600).error().code, EADDRINUSE);
    first->socket = {}, first->hold = {};
    EXPECT_EQ(connect_packets(dir / "s").error().code, ECONNREFUSED);
    EXPECT_TRUE(listen_packets(dir / "s", 0600)) << "what is left there is of nobody";
    ASSERT_TRUE(write_file(real(), dir / "f", "mine"));
    EXPECT_EQ(listen_packets(dir / "f", 0600).error().code, EADDRINUSE);
    EXPECT_EQ(read_file(real(), dir / "f").value(), "mine");
    EXPECT_EQ(connect_packets(dir / "none").error().code, ENOENT);
    EXPECT_EQ(listen_packets(std::string(108, 'x'), 0600).error().code, EINVAL);
    EXPECT_EQ(connect_packets("@").error().code, EINVAL);
    const std::string abstract = "@cohort-test-" + std::to_string(::getpid());
    const auto l = listen_packets(abstract, 0);
    ASSERT_TRUE(l);
    EXPECT_TRUE(connect_packets(abstract));
    EXPECT_EQ(listen_packets(abstract, 0).error().code, EADDRINUSE);
}

TEST(event_poll, tells_what_is_ready_by_its_key_and_times_and_bells_too) {
    auto poll = event_poll::create();
    auto bell = poll_bell::create();
    auto timer = poll_timer::create();
    ASSERT_TRUE(poll && bell && timer);
    ASSERT_TRUE(poll->add(bell->fd(), 7, true, false));
    ASSERT_TRUE(poll->add(timer->fd(), 8, true, false));
    EXPECT_EQ(poll->wait(std::chrono::nanoseconds(0))->size(), 0u);
    bell->ring();
    auto ready = poll->wait(std::nullopt);
    ASSERT_EQ(ready->size(), 1u);
    EXPECT_EQ((*ready)[0].key, 7u);
    EXPECT_TRUE((*ready)[0].can_read);
    bell->answer();
    timer->set(real().now() + 1'000'000);
    ready = poll->wait(std::nullopt);
    ASSERT_EQ(ready->size(), 1u);
    EXPECT_EQ((*ready)[0].key, 8u);
    timer->set(0);
    EXPECT_EQ(poll->wait(std::chrono::nanoseconds(0))->size(), 0u);
    bell->ring();
    poll->change(bell->fd(), 9, true, false);
    EXPECT_EQ((*poll->wait(std::nullopt))[0].key, 9u);
    poll->remove(bell->fd());
    EXPECT_EQ(poll->wait(std::chrono::nanoseconds(0))->size(), 0u);
}

TEST(process_state, of_oneself_a_zombie_a_kernel_thread_and_nobody) {
    const process_state me = state_of_process(::getpid());
    EXPECT_TRUE(me.exists && !me.exiting && !me.dumping && !me.kernel_thread && !me.shares_memory);
    EXPECT_EQ(me.leader, ::getpid());
    EXPECT_EQ(me.parent, ::getppid());
    EXPECT_EQ(me.uid, ::getuid());
    EXPECT_FALSE(state_of_process(999'999'999).exists);
    EXPECT_FALSE(state_of_process(0).exists);
    EXPECT_FALSE(state_of_process(-1).exists);
    if (const auto kernel = real().readlink("/proc/2/exe"); !kernel && state_of_process(2).exists) {
        EXPECT_TRUE(state_of_process(2).kernel_thread);
    }
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    siginfo_t ended;
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
    EXPECT_TRUE(state_of_process(child).exiting);
    EXPECT_FALSE(state_of_process(child).kernel_thread);
    ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace cohort::sys
