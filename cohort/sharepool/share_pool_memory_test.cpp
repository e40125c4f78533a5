// SPDX-License-Identifier: Apache-2.0
/// openEuler's calls on memory, against a broker in this process: every errno of theirs that can be provoked, and what is better than theirs.
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include <cohort/sharepool/testing/broker.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;
using testing::process;
using testing::running_broker;

constexpr std::uint64_t mib = 1 << 20, page = 4096;

unsigned long device(unsigned d) { return static_cast<unsigned long>(d) << device_id_shift; }
unsigned long node(unsigned n) { return sp_spec_node_id | static_cast<unsigned long>(n) << node_id_shift; }

/// A broker, this process in group 7, another that is in group 8.
struct scene {
    running_broker b;
    std::unique_ptr<share_pool> pool = must(share_pool::attach({.socket = b.socket(), .patience = std::chrono::minutes(1)}));
    process other{b.socket()};
    scene() {
        EXPECT_EQ(must(pool->group_add_task(::getpid(), 7)), 7);
        EXPECT_EQ(other.tell("attach"), "ok");
        EXPECT_EQ(other.tell("add 0 8"), "ok 8");
    }
};

int code(const auto& r) { return r ? 0 : r.error().code; }

TEST(share_pool_memory, alloc_refuses_as_the_kernel_does) {
    scene s;
    const struct {
        std::size_t size;
        unsigned long flags;
        int id;
        int expected;
        const char* why;
    } rows[] = {
        {0, 0, 7, EINVAL, "no size"},
        {sys::machine_memory() + 1, 0, 7, EINVAL, "more than the machine has"},
        {page, 0, -1, EINVAL, "no id"},
        {page, 0, -5, EINVAL, "no id"},
        {page, 1ul << 4, 7, EINVAL, "a bit that means nothing"},
        {page, 1ul << 60, 7, EINVAL, "a bit that means nothing"},
        {page, sp_prot_focus, 7, EINVAL, "focus without read-only"},
        {page, sp_prot_focus | sp_prot_ro | sp_dvpp, 7, EINVAL, "focus with a device"},
        {page, sp_prot_focus | sp_dvpp, 7, EINVAL, "focus with a device"},
        {page, node(1023), 7, EINVAL, "a node that is not online"},
        {page, device(15), 7, EINVAL, "no node of the device's number"},
        {page, 0, 9, ENODEV, "no such group"},
        {page, 0, 8, ENODEV, "not a member of it"},
        {0, 0, 9, EINVAL, "the size is looked at before the group"},
        {page, 1ul << 4, 9, EINVAL, "so are the flags"},
        {page, node(1023), 9, EINVAL, "so is the node"},
        {60 * mib, 0, 7, EOVERFLOW, "no addresses"},
        {5 * mib, sp_prot_ro | sp_prot_focus, 7, EOVERFLOW, "no addresses in the window"},
    };
    for (const auto& r : rows) {
        const auto p = s.pool->alloc(r.size, r.flags, r.id);
        EXPECT_EQ(code(p), r.expected) << r.why << ": " << (p ? "" : p.error().line());
    }
    EXPECT_EQ(code(s.pool->alloc_nodemask(page, 0, 7, nodemask{})), EINVAL);
    EXPECT_EQ(code(s.pool->alloc_nodemask(page, 0, 7, nodemask{0, 1000})), EINVAL);
    EXPECT_EQ(code(s.pool->alloc_nodemask(page, 0, 9, nodemask{0})), ENODEV);
}

TEST(share_pool_memory, alloc_gives_whole_zeroed_pages_of_every_kind) {
    scene s;
    member& m = *s.pool->in(7);
    for (const unsigned long flags : {0ul, sp_hugepage, sp_dvpp, sp_dvpp | sp_hugepage, sp_prot_ro, sp_prot_ro | sp_prot_focus, node(0), device(0) | sp_dvpp}) {
        for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{10'000}, std::size_t{32'768}, std::size_t{100'000}}) {
            for (int again = 0; again < 2; ++again) {
                const auto p = s.pool->alloc(size, flags, 7);
                ASSERT_TRUE(p) << p.error().line();
                auto* at = static_cast<unsigned char*>(*p);
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(at) % page, 0u);
                const std::size_t usable = m.usable_size(at).value();
                EXPECT_GE(usable, size);
                EXPECT_EQ(usable % page, 0u);
                EXPECT_TRUE(at[0] == 0 && std::memcmp(at, at + 1, usable - 1) == 0) << "zeroed";
                std::memset(at, 0xff, usable);
                EXPECT_TRUE(s.pool->is_sharepool_addr(at));
                EXPECT_GE(s.pool->node_id(at), -1);
                EXPECT_EQ(code(s.pool->free(at, again ? 7 : spg_id_default)), 0);
            }
        }
    }
    const auto huge = s.pool->alloc(page, sp_hugepage_only, 7);
    if (huge) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(*huge) % (2 * mib), 0u);
    } else {
        EXPECT_EQ(code(huge), ENOMEM);
    }
    // Local memory: the default id.
    void* local = must(s.pool->alloc(page, 0, spg_id_default));
    EXPECT_EQ(s.pool->in(must(s.pool->id_of_current()))->usable_size(local).value(), page);
    EXPECT_EQ(must(s.pool->group_id_by_pid(::getpid())), std::vector<int>{7}) << "the local group is hidden";
    EXPECT_EQ(code(s.pool->free(local)), 0);
}

TEST(share_pool_memory, who_is_in_a_group_for_reading_reads) {
    scene s;
    process first(s.b.socket());
    ASSERT_EQ(first.tell("attach"), "ok");
    ASSERT_EQ(first.tell("add 0 11"), "ok 11");
    const std::string address = first.tell("alloc 11 100000").substr(3);
    ASSERT_EQ(first.tell("put " + address + " seen"), "ok");
    EXPECT_EQ(must(s.pool->group_add_task(::getpid(), 11, {.prot = access::read})), 11);
    void* p = reinterpret_cast<void*>(std::strtoull(address.c_str(), nullptr, 10));
    EXPECT_STREQ(static_cast<const char*>(p), "seen");
    EXPECT_EQ(code(s.pool->alloc(page, 0, 11)), EPERM);
    EXPECT_EQ(code(s.pool->free(p)), EPERM);
    EXPECT_EQ(code(s.pool->unshare(p, page, 11)), EPERM);
    EXPECT_EQ(code(s.pool->config_dvpp_range(0, page, 0, 11)), EPERM);
    EXPECT_EQ(s.pool->in(11), nullptr);
}

TEST(share_pool_memory, free_refuses_as_the_kernel_does) {
    scene s;
    auto* p = static_cast<std::byte*>(must(s.pool->alloc(100'000, 0, 7)));
    auto* small = static_cast<std::byte*>(must(s.pool->alloc(10'000, 0, 7)));
    int mine = 0;
    const std::string others = s.other.tell("alloc 8 100").substr(3);
    void* theirs = reinterpret_cast<void*>(std::strtoull(others.c_str(), nullptr, 10));
    EXPECT_EQ(code(s.pool->free(p + page)), EINVAL) << "not the start";
    EXPECT_EQ(code(s.pool->free(small + page)), EINVAL) << "not the start";
    EXPECT_EQ(code(s.pool->free(p + 1)), EINVAL);
    EXPECT_EQ(code(s.pool->free(&mine)), EINVAL) << "not of the pool";
    EXPECT_EQ(code(s.pool->free(nullptr)), EINVAL);
    EXPECT_EQ(code(s.pool->free(p, 8)), EINVAL) << "of another group";
    EXPECT_EQ(code(s.pool->free(theirs)), EPERM) << "not a member";
    for (void* once : {p, small}) {
        EXPECT_EQ(code(s.pool->free(once)), 0);
        EXPECT_EQ(code(s.pool->free(once)), EINVAL) << "freed already";
    }
}

/// A file of `pages`, each with its number.
foreign numbered(int pages) {
    const int fd = ::memfd_create("foreign", MFD_CLOEXEC);
    EXPECT_EQ(::ftruncate(fd, pages * 4096), 0);
    for (int i = 0; i < pages; ++i) EXPECT_EQ(::pwrite(fd, &i, sizeof i, i * 4096), static_cast<ssize_t>(sizeof i));
    return {.fd = fd, .offset = 0, .bytes = static_cast<std::uint64_t>(pages) * page};
}

TEST(share_pool_memory, imports_come_to_every_member_and_go) {
    scene s;
    const foreign f = numbered(4);
    EXPECT_EQ(s.pool->group_add_task(s.other.pid(), 7).value_or(0), 7);
    auto* p = static_cast<int*>(must(s.pool->make_share_k2u({.fd = f.fd, .offset = page + 8, .bytes = page}, 0, 0, 7)));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % page, 8u) << "the distance in a page stays";
    EXPECT_EQ(p[-2], 1);
    EXPECT_EQ(p[1022], 2);
    std::memcpy(p, "shared", 7);
    EXPECT_EQ(s.other.tell("get " + std::to_string(reinterpret_cast<std::uintptr_t>(p))), "ok shared");
    EXPECT_EQ(code(s.pool->free(p - 2)), EINVAL) << "an import is unshared, not freed";
    EXPECT_EQ(code(s.pool->unshare(p, 3 * page, 7)), EINVAL) << "larger than it is";
    EXPECT_EQ(code(s.pool->unshare(p, page, 8)), EINVAL) << "of another group";
    EXPECT_EQ(code(s.pool->unshare(p, page, 7)), 0);
    EXPECT_EQ(code(s.pool->unshare(p, page, 7)), EINVAL) << "it is gone";
    // For one process.
    auto* own = static_cast<int*>(must(s.pool->make_share_k2u(f, 0, 0, spg_id_default)));
    EXPECT_EQ(own[1024], 1);
    EXPECT_EQ(code(s.pool->unshare(own, 4 * page, spg_id_default)), 0);
    auto* plain = must(s.pool->alloc(100'000, 0, 7));
    EXPECT_EQ(code(s.pool->unshare(plain, page, 7)), EINVAL) << "no import";
    int mine = 0;
    EXPECT_EQ(code(s.pool->unshare(&mine, 4, 7)), EFAULT) << "neither";
    const struct {
        foreign f;
        unsigned long flags;
        int pid, id, expected;
        const char* why;
    } rows[] = {
        {{f.fd, 0, 0}, 0, 0, 7, EINVAL, "no size"},
        {{f.fd, 0, ~std::uint64_t{0}}, 0, 0, 7, EINVAL, "it runs over"},
        {f, sp_hugepage, 0, 7, EINVAL, "flags"},
        {{f.fd, page, 4 * page}, 0, 0, 7, EINVAL, "beyond its end"},
        {f, 0, 0, -7, EINVAL, "id"},
        {f, 0, 0, 9, ENODEV, "no such group"},
        {f, 0, 0, 8, ENODEV, "not in it"},
        {f, 0, 1, 7, EPERM, "pid is not in it"},
        {f, 0, 1, spg_id_default, EPERM, "another process's own"},
    };
    for (const auto& r : rows) {
        const auto got = s.pool->make_share_k2u(r.f, r.flags, r.pid, r.id);
        EXPECT_EQ(code(got), r.expected) << r.why << ": " << (got ? "" : got.error().line());
    }
    EXPECT_EQ(code(s.pool->free(plain)), 0);
    EXPECT_EQ(s.pool->in(7)->count().areas, 0u) << "what failed left nothing";
    ::close(f.fd);
}

TEST(share_pool_memory, exports_are_pieces_of_files_that_can_be_imported) {
    scene s;
    auto* p = static_cast<int*>(must(s.pool->alloc(100'000, 0, 7)));
    p[3] = 33;
    const foreign f = must(s.pool->make_share_u2k(p + 3, 4));
    int seen = 0;
    ASSERT_TRUE(sys::read_shared(f.fd, f.offset, &seen, sizeof seen));
    EXPECT_EQ(seen, 33);
    ::close(f.fd);
    // Private memory stays where it is, and is shared from then on.
    auto* own = static_cast<int*>(::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    own[1024] = 44;
    const foreign e = must(s.pool->make_share_u2k(own + 1024, page));
    EXPECT_EQ(own[1024], 44);
    auto* there = static_cast<int*>(must(s.pool->make_share_k2u(e, 0, 0, 7)));
    own[1024] = 45;
    EXPECT_EQ(there[0], 45);
    ::close(e.fd);
    const foreign none = must(s.pool->make_share_u2k(own + 2048, 0));
    EXPECT_EQ(none.bytes, page) << "no size is a page";
    ::close(none.fd);
    void* hole = own + 2048;
    ::munmap(hole, page);
    EXPECT_EQ(code(s.pool->make_share_u2k(hole, page)), EFAULT);
    EXPECT_EQ(code(s.pool->make_share_u2k(own, ~std::size_t{0} - page)), EINVAL) << "it runs over";
    auto* locked = ::mmap(nullptr, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_EQ(code(s.pool->make_share_u2k(locked, page)), EPERM);
    // A variable may stand elsewhere, under AddressSanitizer; a frame stands in the stack.
    EXPECT_EQ(code(s.pool->make_share_u2k(__builtin_frame_address(0), 4)), EOPNOTSUPP);
    EXPECT_EQ(code(s.pool->make_share_u2k(p, 100 * mib)), EFAULT) << "beyond its group";
}

TEST(share_pool_memory, device_ranges_are_said_once) {
    scene s;
    auto* probe = static_cast<std::byte*>(must(s.pool->alloc(page, sp_dvpp, 7)));
    const auto start = reinterpret_cast<std::uint64_t>(probe) + 65536;
    for (const auto& [from, size, d] : {std::tuple{start, std::uint64_t{0}, 0}, {start, std::uint64_t{17} << 30, 0}, {start, 65536ul, -1}, {start, 65536ul, 99}, {std::uint64_t{4096}, 65536ul, 0}}) {
        EXPECT_EQ(code(s.pool->config_dvpp_range(from, size, d, 7)), EINVAL);
    }
    EXPECT_EQ(code(s.pool->config_dvpp_range(start, 65536, 0, 9)), ENODEV);
    EXPECT_EQ(code(s.pool->config_dvpp_range(start, 65536, 0, 7)), 0);
    EXPECT_EQ(code(s.pool->config_dvpp_range(start, 65536, 0, 7)), EEXIST);
    EXPECT_EQ(reinterpret_cast<std::uint64_t>(must(s.pool->alloc(page, sp_dvpp, 7))), start);
    EXPECT_EQ(code(s.pool->alloc(page, sp_dvpp, 7)), EOVERFLOW);
}

/// 4.19's and later ones map an area in every member and give it 2 MiB of addresses: 65,530 mappings are all there are. Here a group is one.
TEST(share_pool_memory, ten_thousand_areas_are_no_mapping_more) {
    scene s;
    const auto lines = [] {
        std::size_t n = 0;
        for (const char c : must(sys::read_file(sys::real(), "/proc/self/maps"))) n += c == '\n';
        return n;
    };
    void* first = must(s.pool->alloc(page, 0, 7));
    const std::size_t before = lines();
    std::vector<void*> held;
    for (int i = 0; i < 10'000; ++i) held.push_back(must(s.pool->alloc(page, 0, 7)));
    EXPECT_LE(lines(), before + 8);
    for (void* p : held) EXPECT_EQ(code(s.pool->free(p)), 0);
    EXPECT_EQ(code(s.pool->free(first)), 0);
}

}  // namespace
}  // namespace cohort::sharepool
