// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cohort/coresched/keeper.hpp>
#include <cohort/coresched/testing/fake_kernel.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>

namespace cohort::coresched {
namespace {

using ::testing::HasSubstr;

/// Names of this test program only: others may run beside it.
std::string own(const std::string& name) { return name + "." + std::to_string(::getpid()); }

std::vector<std::string> names_of(const std::vector<kept>& all) {
    std::vector<std::string> out;
    for (const kept& k : all) {
        if (k.name.ends_with("." + std::to_string(::getpid()))) out.push_back(k.name);
    }
    return out;
}

TEST(keeper, holds_a_cookie_for_a_name_until_it_is_told_to_end) {
    testing::fake_kernel host;
    const std::string name = own("web");
    EXPECT_EQ(find_kept(name).error().code, ENOENT);
    auto k = keeper::create(host, name, {});
    ASSERT_TRUE(k) << k.error().line();
    EXPECT_EQ((*k)->about().id, host.self());
    EXPECT_EQ((*k)->about().value, host.of(host.self()));
    result<void> served;
    std::thread server([&] { served = (*k)->serve(-1); });
    const auto found = find_kept(name);
    ASSERT_TRUE(found) << found.error().line();
    EXPECT_EQ(found->id, host.self());
    EXPECT_EQ(found->value, host.of(host.self()));
    EXPECT_THAT(names_of(all_kept().value()), ::testing::ElementsAre(name));
    testing::fake_kernel other;
    EXPECT_EQ(keeper::create(other, name, {}).error().code, EEXIST);
    EXPECT_FALSE(other.cookies().enabled()) << "nothing was taken";
    // A cookie that is no longer the one that was named is not handed on.
    const int a = host.tasks().start({});
    EXPECT_TRUE(tag(host, {.what = origin::of, .id = found->id, .expected = found->value}, {.ids = {a}}).ok());
    EXPECT_EQ(tag(host, {.what = origin::of, .id = found->id, .expected = found->value + 1}, {.ids = {a}}).failure->code, ESTALE);
    EXPECT_TRUE(end_kept(name));
    server.join();
    EXPECT_TRUE(served);
    k->reset();
    EXPECT_EQ(end_kept(name).error().code, ENOENT);
    EXPECT_EQ(host.of(a), found->value) << "who has it keeps it";
}

TEST(keeper, ends_when_its_owner_says_so_and_takes_no_name_without_a_cookie) {
    testing::fake_kernel host;
    const auto ends = sys::real().pipe().value();
    const sys::owned_fd stop(sys::real(), ends.read), owner(sys::real(), ends.write);
    auto k = keeper::create(host, own("db"), {}).value();
    std::thread server([&] { EXPECT_TRUE(k->serve(stop.get())); });
    EXPECT_TRUE(sys::write_all(sys::real(), owner.get(), "x"));
    server.join();
    k.reset();
    host.tasks().smt = false;
    EXPECT_EQ(keeper::create(host, own("db"), {}).error().code, ENODEV);
    EXPECT_EQ(find_kept(own("db")).error().code, ENOENT);
}

TEST(keeper, names_are_plain_words) {
    for (const char* good : {"a", "web-1", "A_b.c", "0"}) EXPECT_TRUE(check_keeper_name(good)) << good;
    for (const std::string& bad : {std::string(), std::string("-a"), std::string(".a"), std::string("a b"), std::string("a/b"), std::string("ä"), std::string(65, 'x')}) {
        EXPECT_EQ(check_keeper_name(bad).error().code, EINVAL) << bad;
        EXPECT_EQ(find_kept(bad).error().code, EINVAL) << bad;
    }
    testing::fake_kernel host;
    EXPECT_THAT(keeper::create(host, "a b", {}).error().line(), HasSubstr("named cookie \"a b\": use the name: EINVAL"));
}

TEST(keeper, who_answers_otherwise_is_none_and_who_asks_oddly_ends_nothing) {
    const std::string name = own("odd"), socket = "cohort-cookie-" + std::to_string(sys::effective_uid()) + "-" + name;
    const sys::owned_fd listener(sys::real(), sys::listen_local(socket).value());
    std::thread other([&] {
        const auto peer = sys::accept_local(listener.get()).value();
        const sys::owned_fd stream(sys::real(), peer.fd);
        EXPECT_TRUE(sys::send_local(stream.get(), "hello\n"));
        std::byte rest[8];
        (void)sys::real().read(stream.get(), rest);
    });
    EXPECT_EQ(find_kept(name).error().code, EIO);
    other.join();

    testing::fake_kernel host;
    auto k = keeper::create(host, own("even"), {}).value();
    std::thread server([&] { EXPECT_TRUE(k->serve(-1)); });
    for (const char* odd : {"", "endless and without an end of its line", "END\n"}) {
        const auto peer = sys::connect_local("cohort-cookie-" + std::to_string(sys::effective_uid()) + "-" + own("even")).value();
        const sys::owned_fd stream(sys::real(), peer.fd);
        EXPECT_TRUE(sys::send_local(stream.get(), odd));
    }
    EXPECT_TRUE(find_kept(own("even"))) << "it is still there";
    EXPECT_TRUE(end_kept(own("even")));
    server.join();
}

}  // namespace
}  // namespace cohort::coresched
