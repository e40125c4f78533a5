// SPDX-License-Identifier: Apache-2.0
/// Who has descriptors for reading reads, and cannot write, whatever it tries.
#include <fcntl.h>
#include <sys/mman.h>

#include <atomic>
#include <string>

#include <cohort/percpu/testing/respawn.hpp>
#include <cohort/sharepool/allocator.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sharepool/view.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {
namespace {

using percpu::testing::in_forked_child;
using testing::join;

class views : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(views);

/// A group's descriptors, open for reading.
struct for_reading {
    int data, metadata;
    explicit for_reading(const group& g) : data(again(g.data_fd())), metadata(again(g.metadata_fd())) {}
    ~for_reading() {
        ::close(data);
        ::close(metadata);
    }
    for_reading(const for_reading&) = delete;
    for_reading& operator=(const for_reading&) = delete;
    static int again(int fd) { return ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC); }
};

/// What f, which gets a view, answers in a process of its own.
int in_viewer(const group& g, const std::function<int(view&)>& f) {
    return in_forked_child([&] {
        const for_reading fds(g);
        auto v = view::attach(fds.data, fds.metadata);
        return v ? f(*v) : 100;
    });
}

TEST_P(views, see_what_members_see) {
    const group g = make();
    member m = join(g);
    auto* block = static_cast<std::atomic<int>*>(m.alloc(64));
    auto* area = static_cast<std::atomic<int>*>(m.alloc(100'000));
    block->store(7);
    area->store(8);
    const std::string of_block = m.describe(block), of_area = m.describe(area);
    const census counted = m.count();
    EXPECT_EQ(in_viewer(g, [&](view& v) {
                  if (v.base() != m.base() || v.bytes() != m.bytes()) return 1;
                  if (block->load() != 7 || area->load() != 8) return 2;
                  if (v.describe(block) != of_block || v.describe(area) != of_area || v.describe(&v).find("outside") == std::string::npos) return 3;
                  if (v.count() != counted) return 4;
                  if (v.usable_size(block).value() != 64 || v.usable_size(reinterpret_cast<char*>(block) + 1).error().code != EINVAL) return 5;
                  return v.processes() == std::vector<int>{::getppid()} ? 0 : 6;
              }), 0);
    EXPECT_EQ(m.processes(), std::vector<int>{::getpid()}) << "a view is nobody's row";
}

TEST_P(views, cannot_write_whatever_they_try) {
    const group g = make();
    member m = join(g);
    auto* p = static_cast<volatile int*>(m.alloc(100'000));
    *p = 1;
    EXPECT_EQ(in_viewer(g, [&](view& v) {
                  auto* at = const_cast<std::byte*>(v.base());
                  if (::mprotect(at, v.bytes(), PROT_READ | PROT_WRITE) == 0 || errno != EACCES) return 1;
                  const for_reading own(g);
                  for (const int fd : {own.data, own.metadata}) {
                      if (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED || errno != EACCES) return 2;
                      if (sys::punch_hole(fd, 0, 4096) != EBADF || ::ftruncate(fd, 0) == 0 || ::pwrite(fd, "x", 1, 0) == 1) return 3;
                  }
                  return ::madvise(at, v.bytes(), MADV_REMOVE) != 0 && *p == 1 ? 0 : 4;
              }), 0);
    EXPECT_EXIT({
                    const for_reading fds(g);
                    const auto v = view::attach(fds.data, fds.metadata);
                    if (v) *p = 2;
                },
                testing::ended_by_a_fault, "");
    EXPECT_EQ(*p, 1);
}

TEST_P(views, and_membership_are_one_of_the_two) {
    const group g = make();
    {
        const view v = view::attach(g.data_fd(), g.metadata_fd()).value();
        EXPECT_EQ(member::join(g.data_fd(), g.metadata_fd()).error().code, EEXIST);
        EXPECT_EQ(view::attach(g.data_fd(), g.metadata_fd()).error().code, EEXIST);
        EXPECT_EQ(detail::heap_at(v.base()), nullptr) << "nothing is allocated through a view";
        EXPECT_EXIT(::_exit(static_cast<int>(*static_cast<const volatile std::byte*>(v.base()))), testing::ended_by_a_fault, "") << "a child of fork() has nothing there";
    }
    const member m = join(g);
    EXPECT_EQ(view::attach(g.data_fd(), g.metadata_fd()).error().code, EEXIST);
    EXPECT_EQ(view::attach(g.metadata_fd(), g.data_fd()).error().code, EINVAL);
    EXPECT_EQ(view::attach(-1, g.metadata_fd()).error().code, EBADF);
}

}  // namespace
}  // namespace cohort::sharepool
