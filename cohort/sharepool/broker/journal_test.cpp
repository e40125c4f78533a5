// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <cohort/sharepool/broker/detail/record_codec.hpp>
#include <cohort/sharepool/broker/journal.hpp>
#include <cohort/sharepool/broker/testing/fake_processes.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fake_clock.hpp>
#include <cohort/sys/recorded.hpp>

namespace cohort::sharepool {
namespace {

using namespace testing;
using detail::frame_header_bytes;
using detail::journal_header_bytes;
using ::testing::HasSubstr;

const std::string path = "/run/pool.journal", boot = "/proc/sys/kernel/random/boot_id";

class journal_file : public ::testing::Test {
protected:
    journal_file() {
        host.add_dir("/run");
        host.add_file(boot, "11111111-2222-3333-4444-555555555555\n");
        for (int pid = 10; pid < 14; ++pid) all.start(pid);
    }
    directory empty() { return directory({.window = test_window}, all.look()); }
    /// A bit of everything, told to `tell`.
    void live(directory& d) {
        for (int pid = 10; pid < 14; ++pid) EXPECT_TRUE(d.attach(all.who(pid)));
        EXPECT_TRUE(d.create({10, 1000, 100}, {.id = 7, .bytes = 4 * mib, .name = "orders", .mode = 0640, .limit = mib, .flags = 3}));
        EXPECT_TRUE(d.create(root, {.id = 8}));
        EXPECT_TRUE(d.set_files(7, {1, 2, 3}));
        EXPECT_TRUE(d.set_limit(root, 7, 3 * mib));
        for (int pid = 10; pid < 14; ++pid) EXPECT_TRUE(join(d, root, {.pid = pid, .id = 7, .prot = pid == 12 ? access::read : access::read_write, .populate = pid == 11}));
        EXPECT_TRUE(join(d, root, {.pid = 13}));
        EXPECT_TRUE(join(d, root, {.pid = 11, .id = 9}));
        EXPECT_TRUE(d.commit_add(d.begin_local(root, 12).value()));
        const std::uint64_t base = d.look_at(9)->range.base;
        EXPECT_TRUE(d.import(all.as(11), 9, {.at = base, .bytes = 8192, .offset = 4096, .device = 5, .inode = 6}));
        EXPECT_TRUE(d.import(all.as(11), 9, {.at = base + 8192, .bytes = 4096, .to_process = true}));
        EXPECT_TRUE(d.unshare(all.as(11), 9, base, 1));
        EXPECT_TRUE(d.remove(root, 10, 7, false));
        EXPECT_TRUE(d.destroy(root, 8, false));
        d.exit(all.who(13));
    }
    std::vector<record> told() {
        std::vector<record> records;
        directory d({.window = test_window}, all.look(), [&](const record& r) { records.push_back(r); });
        live(d);
        return records;
    }
    /// A journal into which all of told() was appended.
    std::string written() {
        directory none = empty();
        auto j = journal::open(host, path);
        EXPECT_TRUE(j && j->rewrite(none));
        for (const record& r : told()) EXPECT_TRUE(j->append(r));
        EXPECT_EQ(sys::read_file(host, path)->size(), j->bytes());
        return sys::read_file(host, path).value();
    }
    result<journal> open_with(const std::string& bytes) {
        host.add_file(path, bytes);
        return journal::open(host, path);
    }

    fake_processes all;
    sys::recorded host;
};

TEST_F(journal_file, what_is_written_is_read) {
    const std::vector<record> records = told();
    auto j = open_with(written());
    ASSERT_EQ(line(j), "");
    EXPECT_EQ(j->take_records(), records);
    EXPECT_EQ(j->cut(), 0u);
    EXPECT_FALSE(j->of_earlier_boot());
}

TEST_F(journal_file, one_that_is_not_there_has_no_records) {
    auto j = journal::open(host, path);
    ASSERT_EQ(line(j), "");
    EXPECT_TRUE(j->take_records().empty());
    EXPECT_TRUE(j->behind());  // until it is rewritten
    const directory none = empty();
    EXPECT_EQ(line(j->rewrite(none)), "");
    EXPECT_FALSE(j->behind());
    EXPECT_EQ(line(open_with(sys::read_file(host, path).value())), "");
}

TEST_F(journal_file, replayed_and_rewritten_it_is_the_same_directory) {
    directory d = empty();
    auto j = open_with(written());
    const std::vector<record> records = j->take_records();
    for (const record& r : records) ASSERT_EQ(line(d.apply(r)), "");
    directory other = empty();
    live(other);
    EXPECT_EQ(d.snapshot(), other.snapshot());
    ASSERT_EQ(line(j->rewrite(d)), "");
    EXPECT_EQ(journal::open(host, path)->take_records(), d.snapshot());
    EXPECT_EQ(code(host.stat(path + ".new")), ENOENT);
    // And it goes on.
    ASSERT_EQ(line(j->append(records.front())), "");
    EXPECT_EQ(journal::open(host, path)->take_records().size(), d.snapshot().size() + 1);
}

TEST_F(journal_file, cut_at_any_byte_it_is_read_up_to_the_last_whole_record) {
    const std::string whole = written();
    const std::vector<record> records = told();
    std::size_t end = journal_header_bytes, n = 0;  // of the last whole record
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        if (n < records.size() && cut == end + detail::frame_of(records[n], n + 1).size()) end = cut, ++n;
        auto j = open_with(whole.substr(0, cut));
        ASSERT_EQ(line(j), "") << "cut at " << cut;
        ASSERT_EQ(j->take_records(), std::vector(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(n))) << "cut at " << cut;
        ASSERT_EQ(j->cut(), cut < journal_header_bytes ? cut : cut - end) << "cut at " << cut;
    }
    EXPECT_EQ(n, records.size());
}

TEST_F(journal_file, a_damaged_byte_anywhere_is_an_error_that_names_the_place) {
    const std::string whole = written();
    const std::vector<record> records = told();
    std::size_t at = journal_header_bytes;
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < records.size(); ++i) starts.push_back(at), at += detail::frame_of(records[i], i + 1).size();
    for (std::size_t byte = 0; byte < whole.size(); ++byte) {
        for (const int bit : {0, 7}) {
            std::string bad = whole;
            bad[byte] = static_cast<char>(bad[byte] ^ 1 << bit);
            const auto j = open_with(bad);
            ASSERT_EQ(code(j), EINVAL) << "byte " << byte;
            if (byte < journal_header_bytes) continue;
            const auto next = std::upper_bound(starts.begin(), starts.end(), byte);
            const std::string place = "record " + std::to_string(next - starts.begin()) + " at byte " + std::to_string(*std::prev(next)) + " is damaged";
            ASSERT_THAT(line(j), HasSubstr(place)) << "byte " << byte;
        }
    }
    EXPECT_EQ(sys::read_file(host, path).value().size(), whole.size());  // and left as it is
    EXPECT_THAT(line(open_with("#!/bin/sh\n")), HasSubstr("/run/pool.journal: read the journal: EINVAL: it is no journal of a share pool's broker, and is left as it is"));
    std::string newer = whole;
    newer[8] = 9;
    EXPECT_THAT(line(open_with(newer)), HasSubstr("it is of version 9, this broker knows 1"));
}

TEST_F(journal_file, records_that_are_missing_or_twice_are_damage) {
    const std::vector<record> records = told();
    const std::string header = written().substr(0, journal_header_bytes);
    EXPECT_THAT(line(open_with(header + detail::frame_of(records[0], 1) + detail::frame_of(records[1], 3))), HasSubstr("record 2 at byte"));
    EXPECT_THAT(line(open_with(header + detail::frame_of(records[0], 1) + detail::frame_of(records[0], 1))), HasSubstr("it has number 1"));
}

TEST_F(journal_file, of_an_earlier_boot_only_groups_of_create_are_left_and_damage_ends_it) {
    const std::string whole = written();
    host.add_file(boot, "99999999-2222-3333-4444-555555555555\n");
    for (const std::string& bytes : {whole, whole + std::string(1000, '\0')}) {  // what a file system may leave
        auto j = open_with(bytes);
        ASSERT_EQ(line(j), "");
        EXPECT_TRUE(j->of_earlier_boot());
        directory d = empty();
        for (const record& r : j->take_records()) ASSERT_EQ(line(d.apply(r)), "");
        EXPECT_EQ(d.groups(), std::vector{7});
        EXPECT_EQ(d.look_at(7)->limit, 3 * mib);
        EXPECT_EQ(d.look_at(7)->files, group_inodes{});
        EXPECT_TRUE(d.processes().empty());
        EXPECT_EQ(d.fault(), "");
    }
}

TEST_F(journal_file, without_space_it_says_so_once_and_catches_up) {
    sys::fake_clock clock(host);
    sys::failing os(clock, {.call = "write", .nth = 4, .code = ENOSPC, .times = 3});
    directory d = empty();
    auto j = journal::open(os, path);
    ASSERT_EQ(line(j->rewrite(d)), "");
    int errors = 0;
    directory told_of({.window = test_window}, all.look(), [&](const record& r) {
        if (const auto e = j->append(r); !e) {
            ++errors;
            EXPECT_THAT(line(e), HasSubstr("/run/pool.journal: write a record: ENOSPC: "));
            EXPECT_THAT(line(e), HasSubstr("the broker goes on"));
        }
    });
    live(told_of);
    EXPECT_EQ(errors, 1);
    EXPECT_TRUE(j->behind());
    EXPECT_EQ(j->missed(), told().size() - 2);
    EXPECT_EQ(journal::open(host, path)->take_records().size(), 2u);  // whole as far as it goes
    EXPECT_EQ(line(j->tend(told_of)), "");                            // not yet
    EXPECT_TRUE(j->behind());
    clock.advance(1'000'000'000);
    EXPECT_THAT(line(j->tend(told_of)), HasSubstr("write the journal anew: ENOSPC"));
    clock.advance(1'999'999'999);
    EXPECT_EQ(line(j->tend(told_of)), "");  // waits for two seconds now
    EXPECT_TRUE(j->behind());
    clock.advance(1);
    EXPECT_THAT(line(j->tend(told_of)), HasSubstr("ENOSPC"));
    clock.advance(4'000'000'000);
    EXPECT_EQ(line(j->tend(told_of)), "");
    EXPECT_FALSE(j->behind());
    EXPECT_EQ(j->missed(), 0u);
    EXPECT_EQ(journal::open(host, path)->take_records(), told_of.snapshot());
}

TEST_F(journal_file, a_record_cut_by_a_full_disk_does_not_stand_in_the_way) {
    sys::failing os(host, {.call = "write", .nth = 4, .code = ENOSPC});
    directory d = empty();
    auto j = journal::open(os, path);
    ASSERT_EQ(line(j->rewrite(d)), "");
    os.limit_io(10);  // the first record takes several writes, and the third of them fails
    EXPECT_FALSE(j->append(told()[4]));
    os.limit_io(0);
    auto read = journal::open(host, path);
    ASSERT_EQ(line(read), "");
    EXPECT_EQ(read->cut(), 20u);
    ASSERT_EQ(line(j->rewrite(d)), "");
    EXPECT_EQ(journal::open(host, path)->cut(), 0u);
}

TEST_F(journal_file, a_rewrite_that_fails_anywhere_leaves_the_file_and_nothing_beside_it) {
    const std::string before = written();
    directory d = empty();
    for (const record& r : told()) ASSERT_TRUE(d.apply(r));
    // Opening the journal reads two files.
    for (const sys::failure& f : {sys::failure{.call = "open", .nth = 3}, {.call = "write", .nth = 1}, {.call = "write", .nth = 2}, {.call = "rename", .nth = 1}}) {
        sys::failing os(host, f);
        os.limit_io(300);
        auto j = journal::open(os, path);
        ASSERT_EQ(line(j), "");
        const auto done = j->rewrite(d);
        EXPECT_EQ(os.failures(), 1);
        EXPECT_THAT(line(done), HasSubstr("/run/pool.journal: write the journal anew: EIO: ")) << f.call;
        EXPECT_TRUE(j->behind());
        EXPECT_EQ(sys::read_file(host, path).value(), before);
        EXPECT_EQ(code(host.stat(path + ".new")), ENOENT);
        EXPECT_EQ(line(j->append(told()[0])), "");  // goes nowhere
        EXPECT_EQ(sys::read_file(host, path).value(), before);
        EXPECT_EQ(line(j->rewrite(d)), "");
        EXPECT_EQ(journal::open(host, path)->take_records(), d.snapshot());
        host.add_file(path, before);
    }
    for (const sys::failure& f : {sys::failure{.call = "open", .nth = 1}, {.call = "open", .nth = 2}, {.call = "read", .nth = 1}, {.call = "read", .nth = 3}}) {
        sys::failing os(host, f);
        EXPECT_EQ(code(journal::open(os, path)), EIO) << f.call << f.nth;
    }
}

TEST_F(journal_file, grows_to_four_times_and_is_short_again) {
    directory none = empty();
    auto j = journal::open(host, path);
    ASSERT_TRUE(j && j->rewrite(none));
    const std::uint64_t shortest = j->bytes();
    std::uint64_t longest = 0, rewritten = 0;
    directory d({.window = test_window}, all.look(), [&](const record& r) { ASSERT_EQ(line(j->append(r)), ""); });
    for (int i = 0; i < 20'000; ++i) {
        ASSERT_TRUE(d.attach(all.who(10)));
        d.exit(all.who(10));
        longest = std::max(longest, j->bytes());
        const std::uint64_t before = j->bytes();
        ASSERT_EQ(line(j->tend(d)), "");
        rewritten += j->bytes() < before;
    }
    EXPECT_LE(longest, (256u << 10) + 200);
    EXPECT_GE(rewritten, 4u);
    EXPECT_LT(j->bytes(), (256u << 10) + shortest);
}

TEST_F(journal_file, records_that_contradict_one_another_are_refused) {
    using kind = record::kind;
    const spg seven{.id = 7, .range = {window_base, 2 * mib}, .kept = true};
    const auto changed = [&](auto change) {
        spg g = seven;
        change(g);
        return g;
    };
    const member_facts ten{all.who(10)}, eleven{all.who(11)};
    struct {
        record r;
        const char* why;
    } const cases[] = {
        {{.what = kind::created, .group = seven}, "the group is there"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8; })}, "another group's"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.range.base = 4096; })}, "outside of the window"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 0; })}, "no group has this id"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 200'001; })}, "no group has this id"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.local = true; })}, "no group has this id"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.kept = false; })}, "no group begins like this"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.dead = true; })}, "no group begins like this"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.references = 1; })}, "no group begins like this"},
        {{.what = kind::created, .group = changed([](spg& g) { g.id = 8, g.kept = false; }), .member = eleven}, "its first member is not attached"},
        {{.what = kind::destroyed, .group = {.id = 8}}, "there is no such group"},
        {{.what = kind::joined, .group = {.id = 8}, .member = ten}, "there is no such group"},
        {{.what = kind::joined, .group = {.id = 7}, .member = eleven}, "the process is not attached"},
        {{.what = kind::joined, .group = {.id = 7}, .member = ten}, "the process is in it"},
        {{.what = kind::left, .group = {.id = 7}, .member = eleven}, "the process is not in it"},
        {{.what = kind::imported, .group = {.id = 7}, .import = {.at = 4096, .bytes = 4096}}, "does not fit"},
        {{.what = kind::unshared, .group = {.id = 7}, .import = {.at = window_base}}, "nothing is imported there"},
        {{.what = kind::attached, .member = ten}, "the process is attached"},
        {{.what = kind::attached}, "that is no process"},
        {{.what = kind::detached, .member = eleven}, "the process is not attached"},
        {{.what = static_cast<kind>(99)}, "it is of no known kind"},
    };
    directory d = empty();
    ASSERT_TRUE(d.apply({.what = kind::attached, .member = ten}) && d.apply({.what = kind::created, .group = seven}) && d.apply({.what = kind::joined, .group = {.id = 7}, .member = ten}));
    const auto before = d.snapshot();
    for (const auto& c : cases) {
        const auto r = d.apply(c.r);
        EXPECT_EQ(code(r), EINVAL) << c.why;
        EXPECT_THAT(line(r), HasSubstr(c.why));
    }
    EXPECT_EQ(d.snapshot(), before);
    EXPECT_EQ(d.fault(), "");
}

}  // namespace
}  // namespace cohort::sharepool
