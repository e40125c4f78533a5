// SPDX-License-Identifier: Apache-2.0
/// percpu/rwsem: reading under a lock that is read all the time, and writing beside a busy reader. Each reader holds the lock around nothing.
#include <shared_mutex>

// Its readers inlined, as they are in programs that count nanoseconds; called, they take six times as long.
#define _LGPL_SOURCE
#include <urcu/urcu-memb.h>

#include <oneapi/tbb/rw_mutex.h>
#include <oneapi/tbb/spin_rw_mutex.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include <cohort/percpu/rwsem.hpp>

#include "team.hpp"

namespace cohort::bench {
namespace {

/// A thread that reads under RCU is known to it, for as long as it lives.
struct registered {
    registered() { urcu_memb_register_thread(); }
    ~registered() { urcu_memb_unregister_thread(); }
};
/// With the members of a shared mutex, to be run by the same loops. It has no writers of this kind.
struct urcu_reader {
    void lock_shared() { urcu_memb_read_lock(); }
    void unlock_shared() { urcu_memb_read_unlock(); }
};

template <class Lock>
void read_loop(Lock& lock, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        lock.lock_shared();
        asm volatile("" : : : "memory");
        lock.unlock_shared();
    }
}
void read_loop(urcu_reader& lock, std::uint32_t n) {
    static thread_local registered me;
    (void)me;
    for (std::uint32_t i = 0; i < n; ++i) {
        lock.lock_shared();
        asm volatile("" : : : "memory");
        lock.unlock_shared();
    }
}

template <class Lock>
variant reader(const char* side, const char* peer, const char* name, std::shared_ptr<Lock> lock, int threads, std::shared_ptr<team> both) {
    return {name, side, peer, [=](std::uint32_t n) {
                if (threads == 1) read_loop(*lock, n);
                else both->run([&](int) { read_loop(*lock, n); });
            }};
}

/// One writer on this CPU and one reader that never stops on the other; the second figure is the reader's.
struct contest {
    double reads_per_us = 0;
    std::uint64_t guarded[2] = {};  // equal whenever nobody writes
};

template <class Lock>
variant writer(const char* side, const char* peer, const char* name, std::shared_ptr<Lock> lock, std::shared_ptr<team> both) {
    const auto c = std::make_shared<contest>();
    variant v{name, side, peer, [=](std::uint32_t n) {
                  std::atomic<bool> over{false};
                  both->run([&](int who) {
                      if (who == 0) {
                          for (std::uint32_t i = 0; i < n; ++i) {
                              lock->lock();
                              ++c->guarded[0];
                              asm volatile("" : : : "memory");
                              ++c->guarded[1];
                              lock->unlock();
                          }
                          over.store(true, std::memory_order_relaxed);
                          return;
                      }
                      std::uint64_t reads = 0;
                      const auto began = std::chrono::steady_clock::now();
                      while (!over.load(std::memory_order_relaxed)) {
                          lock->lock_shared();
                          const bool good = *const_cast<volatile std::uint64_t*>(&c->guarded[0]) == *const_cast<volatile std::uint64_t*>(&c->guarded[1]);
                          lock->unlock_shared();
                          ++reads;
                          if (good) continue;
                          std::fprintf(stderr, "bench: percpu/rwsem_write_sticky: %s: a reader saw half a write\n", name);
                          std::exit(1);
                      }
                      c->reads_per_us = static_cast<double>(reads) / std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count();
                  });
              }};
    v.also_name = "reads/us";
    v.also = [c] { return c->reads_per_us; };
    return v;
}

}  // namespace

void run_percpu_rwsem(const settings& s) {
    if (std::string("percpu/rwsem_read/1t percpu/rwsem_read/2t percpu/rwsem_write_sticky").find(s.only) == std::string::npos) return;
    auto made = percpu::rwsem::create();
    if (!made) {
        std::fprintf(stderr, "bench: %s\n", made.error().line().c_str());
        std::exit(5);
    }
    const std::shared_ptr<percpu::rwsem> own = std::move(*made);
    const auto both = std::make_shared<team>(s);
    const auto standard = std::make_shared<std::shared_mutex>();
    const auto tbb_rw = std::make_shared<tbb::rw_mutex>();
    const auto tbb_spin = std::make_shared<tbb::spin_rw_mutex>();
    for (const int threads : {1, 2}) {
        measure_loops(s, "percpu/rwsem_read/" + std::to_string(threads) + "t", "ns", 1e9, 0.06,
                      {reader("ours", "", "cohort, rwsem", own, threads, both), reader("peer", "std::shared_mutex", "std::shared_mutex", standard, threads, both),
                       reader("peer", "tbb::rw_mutex", "tbb::rw_mutex", tbb_rw, threads, both),
                       reader("peer", "liburcu-memb", "liburcu-memb", std::make_shared<urcu_reader>(), threads, both),
                       reader("shown", "tbb::spin_rw_mutex", "tbb::spin_rw_mutex", tbb_spin, threads, both)});
    }
    measure_loops(s, "percpu/rwsem_write_sticky", "ns", 1e9, 0.06,
                  {writer("ours", "", "cohort, rwsem", own, both), writer("peer", "std::shared_mutex", "std::shared_mutex", standard, both),
                   writer("shown", "tbb::rw_mutex", "tbb::rw_mutex", tbb_rw, both), writer("shown", "tbb::spin_rw_mutex", "tbb::spin_rw_mutex", tbb_spin, both)});
}

}  // namespace cohort::bench
