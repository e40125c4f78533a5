// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for the lock of many readers and few writers, over percpu::rwsem.
///
///     struct percpu_rw_semaphore sem;
///     if (percpu_init_rwsem(&sem)) return -ENOMEM;
///     percpu_down_read(&sem);  look();    percpu_up_read(&sem);        // about a nanosecond
///     percpu_down_write(&sem); change();  percpu_up_write(&sem);
///     percpu_free_rwsem(&sem);
///
/// Kernel: include/linux/percpu-rwsem.h (v6.12). Differences: as percpu/rwsem.hpp says. A hold may end in another thread, so the calls that hand one over are not needed.
#pragma once

#include <cerrno>
#include <utility>

#include <cohort/base/check.hpp>
#include <cohort/kapi/detail/in_place.hpp>
#include <cohort/kapi/percpu.h>
#include <cohort/percpu/rwsem.hpp>

struct percpu_rw_semaphore {
    cohort::kapi::in_place<cohort::percpu::rwsem> sem;
};

/// 0 or -ENOMEM.
inline int percpu_init_rwsem(percpu_rw_semaphore* sem) {
    sem->sem.there = false;
    auto memory = cohort::percpu::make<cohort::percpu::rwsem::unit>();
    if (!memory) return -ENOMEM;
    sem->sem.make(std::move(*memory));
    return 0;
}
/// Nobody holds it or waits. One that was never initialised, but zeroed, is nothing.
inline void percpu_free_rwsem(percpu_rw_semaphore* sem) { sem->sem.end(); }

[[gnu::always_inline]] inline void percpu_down_read(percpu_rw_semaphore* sem) COHORT_NO_THREAD_SAFETY_ANALYSIS { sem->sem.get().lock_shared(); }
[[gnu::always_inline]] inline bool percpu_down_read_trylock(percpu_rw_semaphore* sem) COHORT_NO_THREAD_SAFETY_ANALYSIS {
    return sem->sem.get().try_lock_shared();
}
[[gnu::always_inline]] inline void percpu_up_read(percpu_rw_semaphore* sem) COHORT_NO_THREAD_SAFETY_ANALYSIS { sem->sem.get().unlock_shared(); }
inline void percpu_down_write(percpu_rw_semaphore* sem) COHORT_NO_THREAD_SAFETY_ANALYSIS { sem->sem.get().lock(); }
inline void percpu_up_write(percpu_rw_semaphore* sem) COHORT_NO_THREAD_SAFETY_ANALYSIS { sem->sem.get().unlock(); }
inline bool percpu_is_read_locked(const percpu_rw_semaphore* sem) { return sem->sem.get().is_read_locked(); }
inline bool percpu_is_write_locked(const percpu_rw_semaphore* sem) { return sem->sem.get().is_write_locked(); }
inline bool percpu_rwsem_is_held(const percpu_rw_semaphore* sem) { return percpu_is_read_locked(sem) || percpu_is_write_locked(sem); }
inline void percpu_rwsem_assert_held(const percpu_rw_semaphore* sem) { sem->sem.get().assert_held(); }

namespace cohort::kapi {

/// Initialises one of static duration, when the constructors of its file run; it is never freed.
struct static_rwsem {
    explicit static_rwsem(percpu_rw_semaphore& sem) { COHORT_CHECK(percpu_init_rwsem(&sem) == 0, "DEFINE_STATIC_PERCPU_RWSEM: no memory per CPU"); }
};

}  // namespace cohort::kapi

/// At namespace scope. DEFINE_PERCPU_RWSEM: to be seen by other files.
#define DEFINE_PERCPU_RWSEM(name) \
    percpu_rw_semaphore name;     \
    static const ::cohort::kapi::static_rwsem name##_is_initialised(name)
#define DEFINE_STATIC_PERCPU_RWSEM(name) static DEFINE_PERCPU_RWSEM(name)
