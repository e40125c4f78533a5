// SPDX-License-Identifier: Apache-2.0
/// What is refused, and what is said: a window that is taken, limits, files that are no group's, a machine without memory, garbage in the metadata, uses after free.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cctype>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <cohort/percpu/testing/respawn.hpp>
#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {
namespace {

using percpu::testing::in_forked_child;
using testing::child;
using testing::join;

class refusals : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(refusals);

std::string line_of(const result<member>& r) { return r ? "joined" : r.error().line(); }
std::string line_of(const result<group>& r) { return r ? "created" : r.error().line(); }

/// Before the window's constructor, in a program that is run for it: something stands where the window should begin.
__attribute__((constructor(101))) void take_the_window_if_asked() {
    if (std::getenv("COHORT_TEST_TAKEN")) (void)sys::reserve_addresses(reinterpret_cast<void*>(window_base), 4096);
}

TEST(window_refusals, a_taken_window_is_said) {
    if (!percpu::testing::in_program_with("COHORT_TEST_TAKEN", "1")) return;
    EXPECT_EQ(window().error().line(), "addresses 0x550000000000+1 GiB: reserve them: EEXIST: something is mapped there already");
    EXPECT_EQ(group::create({}).error().code, EEXIST);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/// Limits that hold from the program's start.
bool in_program_with_limit(const char* name, int resource, rlim_t limit) {
    rlimit before{};
    ::getrlimit(static_cast<__rlimit_resource_t>(resource), &before);
    if (std::getenv(name)) return true;
    const rlimit lower{limit, before.rlim_max};
    ::setrlimit(static_cast<__rlimit_resource_t>(resource), &lower);
    (void)percpu::testing::in_program_with(name, "1");
    ::setrlimit(static_cast<__rlimit_resource_t>(resource), &before);
    return false;
}

TEST(window_refusals, a_smaller_window_is_tried_under_rlimit_as) {
    if (!in_program_with_limit("COHORT_TEST_AS_GIB_100", RLIMIT_AS, rlim_t{100} << 30)) return;
    EXPECT_EQ(window().value().bytes, std::uint64_t{64} << 30);
    EXPECT_NE(line_of(group::create({.bytes = std::uint64_t{90} << 30})).find("ENOMEM: this process could reserve 64 GiB of the window"), std::string::npos);
    const group g = group::create({.bytes = 64 << 20}).value();
    member m = join(g);
    EXPECT_NE(m.alloc(100), nullptr);
}
TEST(window_refusals, no_window_at_all_is_said) {
    if (!in_program_with_limit("COHORT_TEST_AS_MIB_500", RLIMIT_AS, rlim_t{500} << 20)) return;
    EXPECT_NE(line_of(group::create({})).find("ENOMEM: RLIMIT_AS or the machine's address space is too small"), std::string::npos) << line_of(group::create({}));
}
#endif

TEST(group_refusals, sizes_and_places) {
    EXPECT_EQ(group::create({.bytes = 0}).error().code, EINVAL);
    EXPECT_EQ(group::create({.bytes = std::uint64_t{129} << 30}).error().code, EINVAL);
    EXPECT_EQ(group::create({.at = window_base + 4096}).error().code, EINVAL);
    EXPECT_EQ(group::create({.at = 4096}).error().code, EINVAL);
    EXPECT_EQ(group::create({.at = window_base + window_bytes - (2 << 20)}).error().code, EINVAL) << "it reaches beyond";
    const group g = group::create({.bytes = 8 << 20, .at = window_base + (std::uint64_t{1} << 30)}).value();
    EXPECT_EQ(group::create({.bytes = 8 << 20, .at = g.base() + (4 << 20)}).error().code, EADDRINUSE);
}

TEST(group_refusals, groups_of_one_process_do_not_overlap) {
    std::vector<group> all;
    for (int i = 0; i < 20; ++i) all.push_back(group::create({.bytes = static_cast<std::uint64_t>(2 + i) << 20}).value());
    all.erase(all.begin() + 5);
    all.push_back(group::create({.bytes = 2 << 20}).value());
    for (const group& a : all) {
        for (const group& b : all) EXPECT_TRUE(&a == &b || a.base() + a.bytes() <= b.base() || b.base() + b.bytes() <= a.base());
    }
}

TEST(group_refusals, rlimit_fsize) {
    EXPECT_EQ(in_forked_child([] {
                  const rlimit low{1 << 20, 1 << 20};
                  ::setrlimit(RLIMIT_FSIZE, &low);
                  const auto g = group::create({.bytes = 8 << 20});
                  return g || g.error().code != EFBIG || g.error().reason.find("RLIMIT_FSIZE allows files of 1048576 bytes") == std::string::npos;
              }), 0);
}

TEST(group_refusals, a_process_without_sequences_is_no_member_of_a_group_with_them) {
    if (!sys::sequences_work()) {
        EXPECT_EQ(group::create({.mode = testing::mode::sequences}).error().code, ENOTSUP);
        return;
    }
    const group g = group::create({.bytes = 8 << 20, .mode = testing::mode::sequences}).value();
    // What happens in a process that has none: this thread takes leave of them.
    EXPECT_EQ(in_forked_child([&] {
#if defined(RSEQ_SIG)
                  auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
                  const unsigned size = __rseq_size < 32 ? 32 : __rseq_size;
                  if (::syscall(SYS_rseq, area, size, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG) != 0) return 2;
#endif
                  const auto m = member::join(g.data_fd(), g.metadata_fd());
                  return m || m.error().code != ENOTSUP || m.error().reason.find("restartable sequences") == std::string::npos ? 1 : 0;
              }), 0);
}

TEST_P(refusals, files_that_are_no_groups) {
    const group g = make(8 << 20);
    const int plain = ::memfd_create("plain", MFD_CLOEXEC), small = sys::create_shared_memory("small", 4096).value();
    const int zeroes = sys::create_shared_memory("zeroes", 1 << 20).value();
    EXPECT_NE(line_of(member::join(plain, g.metadata_fd())).find("its size is not sealed"), std::string::npos);
    EXPECT_NE(line_of(member::join(g.data_fd(), small)).find("too small for a group's metadata"), std::string::npos);
    EXPECT_NE(line_of(member::join(g.data_fd(), zeroes)).find("no metadata of a group"), std::string::npos);
    EXPECT_NE(line_of(member::join(zeroes, g.metadata_fd())).find("contradicts the files' sizes"), std::string::npos);
    EXPECT_EQ(member::join(-1, g.metadata_fd()).error().code, EBADF);
    EXPECT_TRUE(member::join(g.data_fd(), g.metadata_fd())) << "nothing was changed by all that";
    for (const int fd : {plain, small, zeroes}) ::close(fd);
}

TEST_P(refusals, a_forged_header_is_found_out) {
    const group g = make(8 << 20);
    const auto at = static_cast<detail::group_facts*>(sys::map_shared(g.metadata_fd(), 4096).value());
    const detail::group_facts good = *at;
    const auto joined_with = [&](auto change) {
        *at = good;
        change(*at);
        return line_of(member::join(g.data_fd(), g.metadata_fd()));
    };
    EXPECT_NE(joined_with([](auto& f) { f.version = 9; }).find("version 9"), std::string::npos);
    EXPECT_NE(joined_with([](auto& f) { f.units += 32; }).find("contradicts"), std::string::npos);
    EXPECT_NE(joined_with([](auto& f) { f.units = ~std::uint64_t{0}; }).find("contradicts"), std::string::npos);
    EXPECT_NE(joined_with([](auto& f) { f.cpus = 1u << 30; }).find("contradicts"), std::string::npos);
    EXPECT_NE(joined_with([](auto& f) { f.base = 0x7f0000000000; }).find("contradicts"), std::string::npos);
    EXPECT_NE(joined_with([](auto& f) { f.base += 4096; }).find("contradicts"), std::string::npos);
    EXPECT_EQ(joined_with([](auto&) {}), "joined");
    sys::unmap_shared(at, 4096);
}

TEST_P(refusals, a_process_is_a_member_once) {
    const group g = make(8 << 20);
    const member m = join(g);
    EXPECT_EQ(member::join(g.data_fd(), g.metadata_fd()).error().code, EEXIST);
}

TEST_P(refusals, the_1025th_member_finds_no_row) {
    const group g = make(8 << 20);
    member m = join(g);
    for (std::uint32_t slot = 2; slot < detail::most_members; ++slot) {
        m.internals().member_at(slot).word.store(detail::member_word::of(0, detail::phase::joining, static_cast<std::uint32_t>(::getpid())).word);
    }
    EXPECT_EQ(in_forked_child([&] {
                  const auto other = member::join(g.data_fd(), g.metadata_fd());
                  return other || other.error().code != ENOSPC || window().value().bytes == 0;
              }), 0);
}

TEST_P(refusals, a_child_of_fork_has_nothing_there) {
    const group g = make(8 << 20);
    member m = join(g);
    auto* p = static_cast<volatile int*>(m.alloc(100));
    *p = 1;
    EXPECT_EXIT(*p = 2, testing::ended_by_a_fault, "") << "the parent's memory is not the child's";
    EXPECT_EQ(*p, 1);
    EXPECT_EQ(in_forked_child([&] { return detail::heap_at(m.base()) != nullptr; }), 0);
}

TEST_P(refusals, a_freed_object_is_not_to_be_touched_in_debug_mode) {
    const group g = group::create({.bytes = 64 << 20, .mode = GetParam(), .unmap_freed = true}).value();
    testing::shared<std::atomic<int*>> box;
    testing::shared<std::atomic<int>> step;
    child other(g, [&](member& m) {
        while (!box->load()) ::usleep(100);
        int* theirs = box->load();
        EXPECT_EQ(*theirs, 7);
        step->store(1);
        while (step->load() != 2) ::usleep(100);
        m.free(m.alloc(1));  // the next call after it was freed
        *static_cast<volatile int*>(theirs) = 8;
    });
    {
        member m = join(g);
        int* p = static_cast<int*>(m.alloc(4, lifetime::group));
        *p = 7;
        box->store(p);
        while (step->load() != 1) ::usleep(100);
        m.free(p);
        EXPECT_EQ(m.try_free(p).error().code, EALREADY);
        EXPECT_NE(m.alloc(4), p) << "its addresses are never used again";
        step->store(2);
        const int status = other.wait();
        EXPECT_TRUE(testing::ended_by_a_fault(status)) << "the other process touched it: status " << status;
        EXPECT_NE(m.alloc(0), nullptr);
        EXPECT_EQ(m.recover_dead().garbage, 0u);
        EXPECT_EQ(m.count().lost, 0u);
    }
    EXPECT_EXIT(
        {
            member m = join(g);
            auto* p = static_cast<volatile char*>(m.alloc(100'000));
            m.free(const_cast<char*>(p));
            *p = 1;
        },
        testing::ended_by_a_fault, "");
}

TEST_P(refusals, garbage_in_magazines_is_stepped_over) {
    const group g = make(32 << 20);
    member m = join(g);
    std::vector<void*> held;
    for (int i = 0; i < 100; ++i) held.push_back(m.alloc(64));
    for (void* p : held) m.free(p);
    for (std::uint64_t cpu = 0; cpu < m.internals().where.cpus; ++cpu) {
        std::byte* at = m.internals().magazines_of(cpu);
        for (unsigned c = 0; at && c < detail::classes; ++c, at += sizeof(detail::magazine)) {
            if (m.by_sequences()) {
                auto& mag = *reinterpret_cast<detail::magazine*>(at);
                if (c % 2) mag.count = 4'000'000'000u;
                else if (mag.count) mag.items[mag.count - 1] = 0xfffffff0u;
            } else {
                reinterpret_cast<detail::slots*>(at)->at[1].store(0x8000'0000'ffff'fff0u);
            }
        }
    }
    held.clear();
    for (int i = 0; i < 3000; ++i) {
        void* p = m.alloc(static_cast<std::size_t>(i % 500));
        ASSERT_NE(p, nullptr);
        std::memset(p, i, static_cast<std::size_t>(i % 500));
        held.push_back(p);
    }
    std::sort(held.begin(), held.end());
    EXPECT_EQ(std::adjacent_find(held.begin(), held.end()), held.end());
    for (void* p : held) EXPECT_TRUE(m.try_free(p));
    child dead(g, [](member& d) { (void)d.alloc(64), ::pause(); });
    while (m.processes().size() < 2) ::usleep(100);
    dead.kill();
    dead.wait();
    (void)m.recover_dead();
    EXPECT_EQ(m.processes().size(), 1u);
}

TEST_P(refusals, huge_pages_or_why_not) {
    const group g = make(64 << 20);
    member m = join(g);
    const auto p = m.alloc_area(3 << 20, {.pages = page_kind::huge_only});
    if (p) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*p) % (2 << 20), 0u);
        EXPECT_EQ(m.usable_size(*p).value(), 4u << 20);
        m.free(*p);
    } else {
        EXPECT_EQ(p.error().code, ENOTSUP);
        EXPECT_NE(p.error().line().find("MADV_COLLAPSE"), std::string::npos);
    }
    const auto q = m.alloc_area(3 << 20, {.pages = page_kind::huge_if_possible});
    ASSERT_TRUE(q) << q.error().line();
    std::memset(*q, 1, 3 << 20);
    m.free(*q);
    EXPECT_EQ(m.alloc_area(1 << 30, {}).error().code, EINVAL);
    EXPECT_EQ(m.count().areas, 0u);
}

/// KiB, as /proc/self/smaps has it for the mapping that begins there.
long huge_pages_mapped_at(const void* base) {
    std::ifstream all("/proc/self/smaps");
    char begin[32];
    std::snprintf(begin, sizeof begin, "%llx-", static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(base)));
    bool here = false;
    for (std::string line; std::getline(all, line);) {
        if (std::isxdigit(static_cast<unsigned char>(line[0])) && line.find('-') < line.find(' ')) here = line.starts_with(begin);
        if (here && line.starts_with("ShmemPmdMapped:")) return std::atol(line.c_str() + sizeof "ShmemPmdMapped:");
    }
    return -1;
}

TEST_P(refusals, a_group_of_huge_pages_or_why_not) {
    const auto only = group::create({.name = "huge", .bytes = 64 << 20, .mode = GetParam(), .pages = page_kind::huge_only});
    if (!only) {
        EXPECT_NE(line_of(only).find("shared memory \"huge\" of huge pages: create it"), std::string::npos) << line_of(only);
        std::cout << "no huge pages here: " << line_of(only) << '\n';
    }
    const group g = group::create({.bytes = 64 << 20, .mode = GetParam(), .pages = page_kind::huge_if_possible}).value();
    EXPECT_EQ(g.why_not_huge().empty(), only.has_value()) << g.why_not_huge();
    member m = join(g);
    std::vector<void*> held;
    for (int i = 0; i < 1000; ++i) held.push_back(std::memset(m.alloc(3000), i, 3000));
    void* area = m.alloc(5 << 20);
    std::memset(area, 1, 5 << 20);
    if (only) {
        EXPECT_GT(huge_pages_mapped_at(m.base()), 0);
    }
    child other(g, [&](member& o) {
        EXPECT_EQ(static_cast<unsigned char*>(held[7])[2999], 7);
        o.free(held[7]);
    });
    EXPECT_EQ(other.wait(), 0);
    held.erase(held.begin() + 7);
    for (void* p : held) m.free(p);
    m.free(area);
    EXPECT_EQ(m.trim(), 0u);
    EXPECT_EQ(m.count().bytes, 0u);
    EXPECT_EQ(m.count().superblocks, 0u);
}

TEST_P(refusals, a_process_without_the_right_gets_small_pages_and_the_reason) {
    EXPECT_EQ(in_forked_child([&] {
                  if (::setresuid(65534, 65534, 65534) != 0) return 0;  // this process has no right to give up
                  const auto only = group::create({.bytes = 8 << 20, .pages = page_kind::huge_only});
                  const auto g = group::create({.bytes = 8 << 20, .pages = page_kind::huge_if_possible});
                  return int{only || only.error().code != EPERM || !g || g->why_not_huge().find("CAP_SYS_ADMIN") == std::string::npos};
              }), 0);
}

TEST_P(refusals, a_machine_without_memory_gives_null_and_no_signal) {
    // The limit of a file's size is met where pages are made of it, in mid-allocation: the group was made with a larger one.
    const group g = make(64 << 20);
    EXPECT_EQ(in_forked_child([&] {
                  member m = join(g);
                  void* before = m.alloc(64);
                  const rlimit low{16 << 20, 16 << 20};
                  ::setrlimit(RLIMIT_FSIZE, &low);
                  std::vector<void*> held;
                  while (void* p = m.alloc(4000)) {
                      std::memset(p, 1, 4000);
                      held.push_back(p);
                      if (held.size() > 100'000) return 2;
                  }
                  if (m.alloc(1 << 20)) return 3;
                  for (void* p : held) m.free(p);
                  m.free(before);
                  return m.count().lost != 0 ? 4 : 0;
              }), 0);
}

}  // namespace
}  // namespace cohort::sharepool
