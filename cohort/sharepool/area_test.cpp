// SPDX-License-Identifier: Apache-2.0
/// Kinds of areas: sizes, windows, nodes, imports, pages mapped before they are touched.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include <cohort/percpu/testing/respawn.hpp>
#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sharepool/view.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {
namespace {

using percpu::testing::in_forked_child;
using testing::child;
using testing::join;

constexpr std::uint64_t mib = 1 << 20;

class areas : public testing::in_both_modes {
protected:
    /// 16 MiB for everything, 4 for reading, 2 for each of two devices.
    group with_windows() const {
        return group::create({.name = "test", .bytes = 24 * mib, .mode = GetParam(), .read_only_bytes = 4 * mib, .device_bytes = 2 * mib, .devices = 2}).value();
    }
};
COHORT_IN_BOTH_MODES(areas);

std::uint64_t place_of(const member& m, const void* p) { return static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - m.base()); }

TEST_P(areas, have_whole_pages_and_no_more_and_are_zeroed) {
    const group g = make();
    member m = join(g);
    for (const std::size_t bytes : {1u, 4096u, 4097u, 40'000u, 65'536u, 65'537u, 200'000u}) {
        const std::size_t pages = (bytes + 4095) / 4096 * 4096;
        for (int again = 0; again < 2; ++again) {
            auto* p = static_cast<std::byte*>(m.alloc_area(bytes, {}).value());
            EXPECT_EQ(m.usable_size(p).value(), pages);
            EXPECT_EQ(m.count().bytes, pages) << "nothing exists that nobody asked for";
            EXPECT_EQ(place_of(m, p) % 65536, 0u);
            EXPECT_TRUE(std::all_of(p, p + pages, [](std::byte b) { return b == std::byte{0}; }));
            std::memset(p, 0xff, pages);
            m.free(p);
        }
    }
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(areas, windows_are_for_what_asks_for_them) {
    const group g = with_windows();
    member m = join(g);
    void* ro = m.alloc_area(100'000, {.in = place::read_only}).value();
    void* first = m.alloc_area(100'000, {.in = place::device, .device = 0}).value();
    void* second = m.alloc_area(100'000, {.in = place::device, .device = 1}).value();
    EXPECT_EQ(place_of(m, ro), 16 * mib);
    EXPECT_EQ(place_of(m, first), 20 * mib);
    EXPECT_EQ(place_of(m, second), 22 * mib);
    // Everything else stays out of them, even when there is no other room.
    std::vector<void*> held;
    while (void* p = m.alloc(60'000)) held.push_back(p);
    EXPECT_EQ(held.size(), 16 * mib / 65536);
    EXPECT_EQ(m.alloc(64), nullptr);
    for (void* p : held) EXPECT_LT(place_of(m, p), 16 * mib);
    EXPECT_EQ(m.alloc_area(60'000, {}).error().code, EOVERFLOW);
    EXPECT_EQ(m.alloc_area(3 * mib, {.in = place::device}).error().code, EINVAL);
    EXPECT_EQ(m.alloc_area(2 * mib, {.in = place::device}).error().code, EOVERFLOW);
    EXPECT_EQ(m.alloc_area(100, {.in = place::device, .device = 2}).error().code, EINVAL);
    EXPECT_EQ(testing::audit_of(m).wrong, "");
    for (void* p : {ro, first, second}) held.push_back(p);
    for (void* p : held) m.free(p);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
    EXPECT_EQ(group::create({.bytes = 8 * mib, .read_only_bytes = 8 * mib}).error().code, EINVAL);
    EXPECT_EQ(group::create({.bytes = 8 * mib, .device_bytes = 1, .devices = 4}).error().code, EINVAL);
    EXPECT_EQ(group::create({.bytes = 80 * mib, .device_bytes = 1, .devices = 9}).error().code, EINVAL);
    EXPECT_EQ(group::create({.bytes = 8 * mib, .device_bytes = 0, .devices = 1}).error().code, EINVAL);
    const group plain = make();
    EXPECT_EQ(join(plain).alloc_area(100, {.in = place::read_only}).error().code, EINVAL) << "it has no such window";
}

TEST_P(areas, of_the_read_only_window_are_written_by_their_applier_alone) {
    const group g = with_windows();
    member m = join(g);
    auto* p = static_cast<volatile int*>(m.alloc_area(100'000, {.in = place::read_only}).value());
    *p = 41;
    EXPECT_EQ(child(g, [&](member&) { EXPECT_EQ(*p, 41); }).wait(), 0);
    EXPECT_TRUE(testing::ended_by_a_fault(child(g, [&](member&) { *p = 42; }).wait()));
    (void)m.recover_dead();
    EXPECT_EQ(*p, 41);
    auto* mine = const_cast<int*>(p);
    m.free(mine);
    // Freed, it is for reading again; nothing else was changed by that.
    EXPECT_TRUE(testing::ended_by_a_fault(child(g, [&](member& o) {
                    auto* q = static_cast<volatile int*>(o.alloc_area(100'000, {.in = place::read_only}).value());
                    *q = 1;
                    o.free(const_cast<int*>(q));
                    *q = 2;
                }).wait()));
    (void)m.recover_dead();
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(areas, of_a_dead_member_in_windows_are_recovered) {
    const group g = with_windows();
    member m = join(g);
    EXPECT_EQ(child(g, [&](member& o) {
                  (void)o.alloc_area(100'000, {.in = place::read_only});
                  (void)o.alloc_area(2 * mib, {.in = place::device, .device = 1});
                  ::_exit(0);
              }).wait(), 0);
    EXPECT_EQ(m.recover_dead().areas_freed, 2u);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(areas, of_a_device_go_where_it_was_said) {
    const group g = with_windows();
    member m = join(g);
    const auto base = reinterpret_cast<std::uint64_t>(m.base()), first = base + 20 * mib, second = base + 22 * mib;
    for (const auto& [device, start, bytes] : {std::tuple{0u, base, mib}, {0u, first, 4 * mib}, {0u, first + 4096, mib}, {0u, first, std::uint64_t{0}}, {2u, first, mib}, {1u, first, mib}, {0u, second, mib}}) {
        EXPECT_EQ(m.narrow_device(device, start, bytes).error().code, EINVAL);
    }
    ASSERT_TRUE(m.narrow_device(0, first + mib, mib / 2));
    EXPECT_EQ(m.narrow_device(0, first, mib).error().code, EEXIST);
    // For all members.
    EXPECT_EQ(child(g, [&](member& o) {
                  std::vector<void*> held;
                  while (const auto p = o.alloc_area(60'000, {.in = place::device})) held.push_back(*p);
                  EXPECT_EQ(held.size(), mib / 2 / 65536);
                  for (void* p : held) EXPECT_TRUE(place_of(o, p) >= 21 * mib && place_of(o, p) < 21 * mib + mib / 2);
                  EXPECT_EQ(place_of(o, o.alloc_area(60'000, {.in = place::device, .device = 1}).value()), 22 * mib);
              }).wait(), 0);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(areas, on_nodes) {
    const group g = make();
    member m = join(g);
    const nodemask here{0}, nowhere{1023}, both{0, 1023}, none;
    for (const bool only : {true, false}) {
        const auto p = m.alloc_area(100'000, {.nodes = &here, .only_there = only});
        ASSERT_TRUE(p) << p.error().line();
        m.free(*p);
        for (const nodemask* bad : {&nowhere, &both, &none}) EXPECT_EQ(m.alloc_area(4096, {.nodes = bad, .only_there = only}).error().code, EINVAL);
    }
    EXPECT_NE(m.alloc_area(4096, {.nodes = &nowhere}).error().line().find("nodes 1023 are not all online"), std::string::npos);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

/// A file that is nobody's pool, with a number at the start of each page.
struct foreign_file {
    int fd = ::memfd_create("foreign", MFD_CLOEXEC);
    explicit foreign_file(int pages) {
        EXPECT_EQ(::ftruncate(fd, pages * 4096), 0);
        for (int i = 0; i < pages; ++i) EXPECT_EQ(::pwrite(fd, &i, sizeof i, i * 4096), static_cast<ssize_t>(sizeof i));
    }
    ~foreign_file() { ::close(fd); }
    foreign_file(const foreign_file&) = delete;
    foreign_file& operator=(const foreign_file&) = delete;
};

TEST_P(areas, imports_stand_at_addresses_that_are_reserved_and_come_back) {
    const group g = make();
    member m = join(g);
    const foreign_file f(8);
    auto* at = static_cast<volatile int*>(m.alloc_area(100'000, {.addresses_only = true}).value());
    auto* start = const_cast<int*>(at);
    EXPECT_EQ(m.count().bytes, 0u) << "no page of the group is used";
    EXPECT_EQ(m.try_free(start).error().code, EINVAL) << "an import is taken back, not freed";
    EXPECT_EQ(m.map_import(start, 8 * 4096 + 1, f.fd, 0, access::read_write).error().code, EINVAL);
    EXPECT_EQ(m.map_import(start, 9 * 4096, f.fd, 0, access::read_write).error().code, EINVAL) << "the file ends before";
    EXPECT_EQ(m.map_import(start, 4096, f.fd, 9 * 4096, access::read_write).error().code, EINVAL);
    EXPECT_EQ(m.map_import(start, 26 * 4096, f.fd, 0, access::read_write).error().code, EINVAL) << "more than is reserved";
    EXPECT_EQ(m.map_import(start, 4096, -1, 0, access::read_write).error().code, EBADF);
    void* area = m.alloc_area(4096, {}).value();
    EXPECT_EQ(m.map_import(area, 4096, f.fd, 0, access::read_write).error().code, EINVAL) << "nothing is reserved there";
    ASSERT_TRUE(m.map_import(start, 4 * 4096, f.fd, 2 * 4096, access::read_write));
    EXPECT_EQ(at[1024], 3);
    at[1] = 77;
    // Another member and a view have it at the same place.
    EXPECT_EQ(child(g, [&](member& o) {
                  ASSERT_TRUE(o.map_import(start, 4 * 4096, f.fd, 2 * 4096, access::read_write));
                  EXPECT_EQ(at[1], 77);
                  ASSERT_TRUE(o.unmap_import(start));
                  EXPECT_EQ(at[1], 0);
              }).wait(), 0);
    EXPECT_EQ(in_forked_child([&] {
                  auto v = view::attach(g.data_fd(), g.metadata_fd());
                  if (!v->map_import(start, 4 * 4096, f.fd, 2 * 4096) || at[1] != 77) return 1;
                  if (::mprotect(start, 4096, PROT_READ) != 0 || !v->unmap_import(start)) return 2;
                  return at[1] == 0 ? 0 : 3;
              }), 0);
    ASSERT_TRUE(m.unmap_import(start));
    EXPECT_EQ(at[1024], 0);
    ASSERT_TRUE(m.give_back(start));
    EXPECT_EQ(m.give_back(start).error().code, EINVAL);
    EXPECT_EQ(m.unmap_import(start).error().code, EINVAL);
    m.free(area);
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

TEST_P(areas, reserved_addresses_outlive_who_reserved_them) {
    const group g = make();
    member m = join(g);
    testing::shared<void*> p;
    EXPECT_EQ(child(g, [&](member& o) {
                  *p = o.alloc_area(100'000, {.addresses_only = true}).value();
                  ::_exit(0);
              }).wait(), 0);
    EXPECT_EQ(m.recover_dead(at_death::keep_handed_over).areas_kept, 1u);
    EXPECT_TRUE(m.give_back(*p));
    EXPECT_EQ(testing::wrong_when_empty(m), "");
}

/// Pages of a range that this process has mapped.
std::size_t mapped_pages(const void* at, std::size_t bytes) {
    const int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    std::vector<std::uint64_t> words(bytes / 4096);
    EXPECT_EQ(::pread(fd, words.data(), words.size() * 8, static_cast<off_t>(reinterpret_cast<std::uintptr_t>(at) / 4096 * 8)), static_cast<ssize_t>(words.size() * 8));
    ::close(fd);
    return static_cast<std::size_t>(std::count_if(words.begin(), words.end(), [](std::uint64_t w) { return w >> 63; }));
}

TEST_P(areas, populate_maps_what_is_there_and_makes_nothing) {
    const group g = with_windows();
    member m = join(g);
    constexpr std::size_t bytes = 50 * 4096;
    void* plain = m.alloc_area(bytes, {}).value();
    void* ro = m.alloc_area(bytes, {.in = place::read_only}).value();
    void* reserved = m.alloc_area(bytes, {.addresses_only = true}).value();
    (void)m.alloc(64);
    const std::uint64_t before = m.count().bytes;
    EXPECT_EQ(child(g, [&](member& o) {
                  EXPECT_EQ(mapped_pages(plain, bytes), 0u);
                  const auto done = o.populate();
                  if (!done && done.error().code == ENOTSUP) return;
                  ASSERT_TRUE(done) << done.error().line();
                  EXPECT_EQ(*done, 2 * bytes + 65536);
                  EXPECT_EQ(mapped_pages(plain, bytes) + mapped_pages(ro, bytes), 100u);
                  EXPECT_EQ(mapped_pages(reserved, bytes), 0u);
              }).wait(), 0);
    EXPECT_EQ(in_forked_child([&] {
                  auto v = view::attach(g.data_fd(), g.metadata_fd());
                  const auto done = v->populate();
                  return done ? mapped_pages(plain, bytes) + mapped_pages(ro, bytes) != 100 : done.error().code != ENOTSUP;
              }), 0);
    EXPECT_EQ(m.count().bytes, before);
}

}  // namespace
}  // namespace cohort::sharepool
