// SPDX-License-Identifier: Apache-2.0
/// The C header with openEuler's signatures: what it answers, against a broker in this process. A whole program of it: examples/sharepool/kapi.c.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include <cohort/sharepool/share_pool.h>
#include <cohort/sharepool/testing/broker.hpp>
#include <cohort/percpu/testing/respawn.hpp>

namespace cohort::sharepool {
namespace {

using percpu::testing::in_forked_child;
using testing::running_broker;

constexpr unsigned long rw = PROT_READ | PROT_WRITE;

/// What a process that was attached by nothing but these calls answers: the line where it failed, or 0.
#define COHORT_MUST(what) \
    if (!(what)) return std::fprintf(stderr, "line %d: %s\n", __LINE__, sp_last_error()), __LINE__ & 127

/// f in a child that is attached to nothing yet, with a broker in this process: its thread begins after the fork (start_program() says why).
template <class F>
int beside_a_broker(F f) {
    const sys::testing::scratch_dir dir;
    const std::string socket = dir / "pool.sock";
    int begun[2];
    EXPECT_EQ(::pipe2(begun, O_CLOEXEC), 0);
    sys::testing::child_process child(::fork());
    if (child.pid() == 0) {
        ::close(begun[1]);
        char none;
        (void)!::read(begun[0], &none, 1);
        ::setenv("COHORT_SOCKET", socket.c_str(), 1);
        ::_exit(f());
    }
    const running_broker b({.socket = socket, .patience = std::chrono::seconds(30)});
    ::close(begun[0]), ::close(begun[1]);
    const int status = child.wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(share_pool_c, without_a_broker_everything_is_refused) {
    EXPECT_EQ(in_forked_child([] {
                  ::setenv("COHORT_SOCKET", "/nowhere/pool.sock", 1);
                  COHORT_MUST(mg_sp_group_add_task(::getpid(), rw, 7) == -EOPNOTSUPP);
                  COHORT_MUST(PTR_ERR(sp_alloc(4096, 0, 7)) == -EOPNOTSUPP);
                  COHORT_MUST(sp_free(4096) == -EOPNOTSUPP);
                  COHORT_MUST(std::strlen(sp_last_error()) > 0);
                  return 0;
              }), 0);
}

TEST(share_pool_c, groups_of_both_generations) {
    EXPECT_EQ(beside_a_broker([] {
                  const int me = ::getpid();
                  int ids[2] = {}, num = 2;
                  COHORT_MUST(mg_sp_group_id_by_pid(me, ids, &num) == -ENODEV);
                  COHORT_MUST(mg_sp_group_add_task(me, PROT_WRITE, 7) == -EINVAL);
                  COHORT_MUST(mg_sp_group_add_task(me, rw | PROT_EXEC, 7) == -EINVAL);
                  COHORT_MUST(mg_sp_group_add_task(me, rw, 0) == -EINVAL);
                  COHORT_MUST(mg_sp_group_add_task(me, rw, 150'000) == -EINVAL);
                  COHORT_MUST(mg_sp_group_add_task(0x7ffffff0, rw, 7) == -ESRCH);
                  COHORT_MUST(sp_group_add_task(me, 7) == 7);
                  COHORT_MUST(sp_group_add_task(me, 8) == -EEXIST);
                  COHORT_MUST(mg_sp_group_add_task(me, PROT_READ, 8) == 8);
                  COHORT_MUST(mg_sp_group_add_task(me, rw, 9) == 9);
                  COHORT_MUST(sp_group_id_by_pid(me) == 7);
                  COHORT_MUST(mg_sp_group_id_by_pid(me, ids, &num) == -E2BIG && num == 3);
                  COHORT_MUST(mg_sp_group_id_by_pid(me, nullptr, &num) == -EINVAL);
                  num = 0;
                  COHORT_MUST(mg_sp_group_id_by_pid(me, ids, &num) == -EINVAL);
                  COHORT_MUST(mg_sp_group_id_by_pid(me, ids, nullptr) == -EINVAL);
                  COHORT_MUST(sp_group_walk(7, nullptr, nullptr) == -EINVAL);
                  COHORT_MUST(sp_group_walk(8, nullptr, [](mm_struct* mm, void*) { return mm->prot == PROT_READ ? 42 : 0; }) == 42);
                  COHORT_MUST(mg_sp_id_of_current() >= SPG_ID_LOCAL_MIN && mg_sp_id_of_current() <= SPG_ID_LOCAL_MAX);
                  COHORT_MUST(PTR_ERR(mg_sp_alloc(4096, 0, 8)) == -EPERM);
                  void* p = mg_sp_alloc(4096, 0, 9);
                  COHORT_MUST(!IS_ERR(p));
                  COHORT_MUST(mg_sp_group_del_task(me, 9) == -EINVAL);
                  COHORT_MUST(mg_sp_free(reinterpret_cast<unsigned long>(p), 7) == -EINVAL);
                  COHORT_MUST(mg_sp_free(reinterpret_cast<unsigned long>(p), 9) == 0);
                  COHORT_MUST(mg_sp_group_del_task(me, 9) == 0);
                  COHORT_MUST(sp_group_del_task(me, 9) == -EINVAL);
                  return 0;
              }), 0);
}

TEST(share_pool_c, memory_of_the_kernel_is_a_token) {
    EXPECT_EQ(beside_a_broker([] {
                  const int me = ::getpid(), fd = ::memfd_create("kernel", MFD_CLOEXEC);
                  COHORT_MUST(mg_sp_group_add_task(me, rw, 7) == 7);
                  COHORT_MUST(::ftruncate(fd, 3 * 4096) == 0 && ::pwrite(fd, "second", 7, 4096) == 7);
                  COHORT_MUST(static_cast<long>(sp_kva_of_file(fd, 0, 0)) == -EINVAL);
                  COHORT_MUST(static_cast<long>(sp_kva_of_file(-1, 0, 4096)) == -EBADF);
                  const unsigned long kva = sp_kva_of_file(fd, 0, 3 * 4096), other = sp_kva_of_file(fd, 4096, 4096);
                  unsigned long offset = 0;
                  COHORT_MUST(sp_file_of_kva(kva + 4100, &offset) >= 0 && offset == 4100);
                  COHORT_MUST(sp_file_of_kva(kva + 3 * 4096, &offset) == -EINVAL);
                  COHORT_MUST(PTR_ERR(sp_make_share_k2u(kva, 4 * 4096, 0, me, 7)) == -EINVAL);
                  COHORT_MUST(PTR_ERR(sp_make_share_k2u(12345, 4096, 0, me, 7)) == -EINVAL);
                  COHORT_MUST(PTR_ERR(sp_make_share_k2u(kva, 4096, SP_HUGEPAGE, me, 7)) == -EINVAL);
                  COHORT_MUST(PTR_ERR(sp_make_share_k2u(kva, 4096, 0, me, 8)) == -ENODEV);
                  auto* to_group = static_cast<char*>(sp_make_share_k2u(kva + 4096, 100, 0, me, 7));
                  auto* to_me = static_cast<char*>(mg_sp_make_share_k2u(other, 4096, SP_DVPP, me, SPG_ID_DEFAULT));
                  COHORT_MUST(!IS_ERR(to_group) && std::strcmp(to_group, "second") == 0);
                  COHORT_MUST(!IS_ERR(to_me) && std::strcmp(to_me, "second") == 0);
                  COHORT_MUST(sp_unshare(reinterpret_cast<unsigned long>(to_group), 100, me, 7) == 0);
                  COHORT_MUST(mg_sp_unshare(reinterpret_cast<unsigned long>(to_me), 4096, SPG_ID_DEFAULT) == 0);
                  COHORT_MUST(mg_sp_unshare(kva, 0, 0) == 0 && mg_sp_unshare(other, 0, 0) == 0);
                  COHORT_MUST(mg_sp_unshare(kva, 0, 0) == -EINVAL);
                  COHORT_MUST(mg_sp_unshare(4096, 10, 7) == -EFAULT);
                  COHORT_MUST(PTR_ERR(sp_make_share_u2k(4096, 10, me)) == -EFAULT);
                  COHORT_MUST(PTR_ERR(sp_make_share_u2k(4096, 10, 1)) == -ESRCH);
                  sp_walk_data w;
                  COHORT_MUST(sp_walk_page_range(4096, 10, nullptr, nullptr) == -EINVAL);
                  COHORT_MUST(sp_walk_page_range(4096, 0, nullptr, &w) == -EINVAL);
                  COHORT_MUST(sp_walk_page_range(4096, 10, nullptr, &w) == -EFAULT);
                  COHORT_MUST(sp_walk_page_range(4096, 10, reinterpret_cast<task_struct*>(&w), &w) == -ESRCH);
                  auto* p = static_cast<char*>(sp_alloc(3 * 4096, 0, 7));
                  COHORT_MUST(sp_walk_page_range(reinterpret_cast<unsigned long>(p) + 4000, 200, nullptr, &w) == 0 && w.page_count == 2 && w.uva_aligned == reinterpret_cast<unsigned long>(p));
                  std::strcpy(p + 4096, "page 1");
                  char text[7] = {};
                  COHORT_MUST(::pread(w.pages[1]->fd, text, 7, static_cast<off_t>(w.pages[1]->offset)) == 7 && std::strcmp(text, "page 1") == 0);
                  sp_walk_page_free(&w);
                  sp_walk_page_free(&w);
                  COHORT_MUST(sp_free(reinterpret_cast<unsigned long>(p)) == 0);
                  COHORT_MUST(sp_free(reinterpret_cast<unsigned long>(p)) == -EINVAL);
                  COHORT_MUST(!is_sharepool_addr(4096) && is_sharepool_addr(reinterpret_cast<unsigned long>(p)));
                  nodemask_t nodes{};
                  COHORT_MUST(PTR_ERR(mg_sp_alloc_nodemask(4096, 0, 7, nodes)) == -EINVAL);
                  nodes.bits[0] = 1;
                  COHORT_MUST(!IS_ERR(mg_sp_alloc_nodemask(4096, 0, 7, nodes)));
                  COHORT_MUST(!sp_config_dvpp_range(4096, 65536, 0, me) && !sp_config_dvpp_range(4096, 65536, 0, 1));
                  const auto window = reinterpret_cast<unsigned long>(sp_alloc(4096, SP_DVPP, 7));
                  COHORT_MUST(sp_config_dvpp_range(window, 65536, 0, me) && !sp_config_dvpp_range(window, 65536, 0, me));
                  return 0;
              }), 0);
}

TEST(share_pool_c, notifiers_are_told_of_a_group_that_died) {
    EXPECT_EQ(beside_a_broker([] {
                  static std::atomic<int> died{0};
                  notifier_block nb{.notifier_call = [](notifier_block*, unsigned long, void* g) { return died = static_cast<sp_group*>(g)->id, 0; }, .next = nullptr, .priority = 0};
                  COHORT_MUST(sp_register_notifier(nullptr) == -EINVAL);
                  COHORT_MUST(sp_unregister_notifier(&nb) == -ENOENT);
                  COHORT_MUST(sp_register_notifier(&nb) == 0);
                  COHORT_MUST(sp_register_notifier(&nb) == -EEXIST);
                  COHORT_MUST(mg_sp_group_add_task(::getpid(), rw, 7) == 7);
                  COHORT_MUST(mg_sp_group_del_task(::getpid(), 7) == 0);
                  for (int i = 0; i < 60'000 && died == 0; ++i) ::usleep(1000);
                  COHORT_MUST(died == 7);
                  COHORT_MUST(sp_unregister_notifier(&nb) == 0);
                  return 0;
              }), 0);
}

}  // namespace
}  // namespace cohort::sharepool
