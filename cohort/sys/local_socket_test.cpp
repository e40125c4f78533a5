// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/local_socket.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

#include <cohort/sys/fd.hpp>

namespace cohort::sys {
namespace {

std::string name_of(const char* what) { return std::string("cohort-test-") + what + "-" + std::to_string(real().getpid()); }

TEST(local_socket, carries_a_stream_and_tells_who_is_there) {
    const auto listener = listen_local(name_of("stream"));
    ASSERT_TRUE(listener) << listener.error().line();
    const owned_fd keep(real(), *listener);
    std::thread server([&] {
        const auto peer = accept_local(*listener);
        ASSERT_TRUE(peer);
        const owned_fd fd(real(), peer->fd);
        EXPECT_EQ(peer->pid, real().getpid());
        EXPECT_EQ(peer->uid, effective_uid());
        EXPECT_TRUE(send_local(fd.get(), "hello"));
    });
    const auto peer = connect_local(name_of("stream"));
    ASSERT_TRUE(peer) << peer.error().line();
    const owned_fd fd(real(), peer->fd);
    EXPECT_EQ(peer->pid, real().getpid());
    EXPECT_EQ(read_rest(real(), fd.get()).value(), "hello");
    server.join();
}

TEST(local_socket, a_name_is_taken_once_and_free_again_when_its_owner_is_gone) {
    const auto first = listen_local(name_of("once"));
    ASSERT_TRUE(first);
    const auto second = listen_local(name_of("once"));
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EADDRINUSE);
    ASSERT_TRUE(real().close(*first));
    const auto nobody = connect_local(name_of("once"));
    ASSERT_FALSE(nobody);
    EXPECT_EQ(nobody.error().code, ECONNREFUSED);
    const auto third = listen_local(name_of("once"));
    ASSERT_TRUE(third);
    ASSERT_TRUE(real().close(*third));
}

TEST(local_socket, a_name_that_is_too_long_is_einval) {
    EXPECT_EQ(listen_local(std::string(108, 'x')).error().code, EINVAL);
    EXPECT_EQ(connect_local(std::string(108, 'x')).error().code, EINVAL);
    const auto longest = listen_local(name_of("") + std::string(107 - name_of("").size(), 'x'));
    ASSERT_TRUE(longest) << longest.error().line();
    ASSERT_TRUE(real().close(*longest));
}

TEST(local_socket, end_listening_wakes_who_waits) {
    const auto listener = listen_local(name_of("end"));
    ASSERT_TRUE(listener);
    int code = 0;
    std::thread waiter([&] { code = accept_local(*listener).error().code; });
    end_listening(*listener);
    waiter.join();
    EXPECT_EQ(code, EINVAL);
    ASSERT_TRUE(real().close(*listener));
}

TEST(local_socket, sending_to_who_has_gone_is_epipe_and_no_signal) {
    const auto listener = listen_local(name_of("gone"));
    ASSERT_TRUE(listener);
    const auto client = connect_local(name_of("gone"));
    ASSERT_TRUE(client);
    const owned_fd client_fd(real(), client->fd);
    ASSERT_TRUE(real().close(accept_local(*listener).value().fd));
    ASSERT_TRUE(real().close(*listener));
    const auto r = send_local(client->fd, "anybody?");
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EPIPE);
}

TEST(local_socket, who_says_nothing_holds_nobody_for_ever) {
    const auto listener = listen_local(name_of("silent"));
    ASSERT_TRUE(listener);
    const owned_fd keep(real(), *listener);
    const auto client = connect_local(name_of("silent"));
    ASSERT_TRUE(client);
    const owned_fd client_fd(real(), client->fd);
    const auto there = accept_local(*listener);
    ASSERT_TRUE(there);
    const owned_fd there_fd(real(), there->fd);
    std::byte b;
    const auto got = real().read(there->fd, std::span(&b, 1));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, EAGAIN);
}

TEST(local_socket, names_that_are_listened_to_are_listed_once_while_they_are) {
    const auto first = listen_local(name_of("list a")), second = listen_local(name_of("list b"));
    ASSERT_TRUE(first && second);
    const auto client = connect_local(name_of("list a"));
    const auto accepted = accept_local(*first);
    ASSERT_TRUE(client && accepted);
    const auto own = local_names("cohort-test-list");
    ASSERT_TRUE(own) << own.error().line();
    std::vector<std::string> ours;
    for (const std::string& n : *own) if (n.ends_with("-" + std::to_string(real().getpid()))) ours.push_back(n);
    EXPECT_EQ(ours, (std::vector<std::string>{name_of("list a"), name_of("list b")}));
    for (int fd : {client->fd, accepted->fd, *first, *second}) (void)real().close(fd);
    EXPECT_TRUE(local_names(name_of("list a"))->empty());
}

}  // namespace
}  // namespace cohort::sys
