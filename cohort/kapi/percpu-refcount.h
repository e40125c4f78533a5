// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for reference counts that all CPUs use, over percpu::ref.
///
///     if (percpu_ref_init(&queue->users, queue_release, 0, GFP_KERNEL)) return -ENOMEM;   // count 1: the owner's
///     if (percpu_ref_tryget_live(&queue->users)) { ...; percpu_ref_put(&queue->users); }
///     percpu_ref_kill(&queue->users);                         // the last put calls queue_release(&queue->users)
///
///     void queue_release(struct percpu_ref *ref) { percpu_ref_exit(ref); free(container_of(...)); }
///
/// Kernel: include/linux/percpu-refcount.h (v6.12). Differences: as percpu/ref.hpp says: switches wait for their grace period, so confirm callbacks have run when the call
/// returns; and misuse (killed twice, reinit of one that is not zero) ends the program.
#pragma once

#include <cerrno>
#include <cstdint>
#include <utility>

#include <cohort/kapi/detail/in_place.hpp>
#include <cohort/kapi/percpu.h>
#include <cohort/percpu/ref.hpp>

struct percpu_ref {
    cohort::kapi::in_place<cohort::percpu::ref> ref;
    void __percpu* unit;  // [const between init and exit]
};
using percpu_ref_func_t = void(percpu_ref*);

inline constexpr unsigned PERCPU_REF_INIT_ATOMIC = static_cast<unsigned>(cohort::percpu::ref_flags::init_atomic);
inline constexpr unsigned PERCPU_REF_INIT_DEAD = static_cast<unsigned>(cohort::percpu::ref_flags::init_dead);
inline constexpr unsigned PERCPU_REF_ALLOW_REINIT = static_cast<unsigned>(cohort::percpu::ref_flags::allow_reinit);

/// 0 or -ENOMEM. release may call percpu_ref_exit() and free what holds the reference count.
inline int percpu_ref_init(percpu_ref* ref, percpu_ref_func_t* release, unsigned flags, gfp_t gfp) {
    using unit = cohort::percpu::ref::unit;
    ref->ref.there = false;
    ref->unit = __alloc_percpu_gfp(sizeof(unit), alignof(unit), gfp);
    if (!ref->unit) return -ENOMEM;
    ref->ref.make(cohort::percpu::handle<unit>(reinterpret_cast<std::uintptr_t>(ref->unit)), [ref, release] { release(ref); },
                  static_cast<cohort::percpu::ref_flags>(flags));
    return 0;
}
/// One that was never initialised, but zeroed, is nothing.
inline void percpu_ref_exit(percpu_ref* ref) {
    ref->ref.end();
    free_percpu(std::exchange(ref->unit, nullptr));
}

[[gnu::always_inline]] inline void percpu_ref_get_many(percpu_ref* ref, unsigned long n) { ref->ref.get().get_many(n); }
[[gnu::always_inline]] inline void percpu_ref_get(percpu_ref* ref) { ref->ref.get().get(); }
[[gnu::always_inline]] inline bool percpu_ref_tryget_many(percpu_ref* ref, unsigned long n) { return ref->ref.get().tryget_many(n); }
[[gnu::always_inline]] inline bool percpu_ref_tryget(percpu_ref* ref) { return ref->ref.get().tryget(); }
[[gnu::always_inline]] inline bool percpu_ref_tryget_live(percpu_ref* ref) { return ref->ref.get().tryget_live(); }
[[gnu::always_inline]] inline void percpu_ref_put_many(percpu_ref* ref, unsigned long n) { ref->ref.get().put_many(n); }
[[gnu::always_inline]] inline void percpu_ref_put(percpu_ref* ref) { ref->ref.get().put(); }

namespace cohort::kapi {
inline percpu::ref::function confirmation(percpu_ref* ref, percpu_ref_func_t* confirm) {
    if (!confirm) return {};
    return [ref, confirm] { confirm(ref); };
}
}  // namespace cohort::kapi

inline void percpu_ref_kill(percpu_ref* ref) { ref->ref.get().kill(); }
inline void percpu_ref_kill_and_confirm(percpu_ref* ref, percpu_ref_func_t* confirm_kill) {
    ref->ref.get().kill_and_confirm(cohort::kapi::confirmation(ref, confirm_kill));
}
inline void percpu_ref_switch_to_atomic(percpu_ref* ref, percpu_ref_func_t* confirm_switch) {
    ref->ref.get().switch_to_atomic(cohort::kapi::confirmation(ref, confirm_switch));
}
inline void percpu_ref_switch_to_atomic_sync(percpu_ref* ref) { ref->ref.get().switch_to_atomic_sync(); }
inline void percpu_ref_switch_to_percpu(percpu_ref* ref) { ref->ref.get().switch_to_percpu(); }
inline void percpu_ref_reinit(percpu_ref* ref) { ref->ref.get().reinit(); }
inline void percpu_ref_resurrect(percpu_ref* ref) { ref->ref.get().resurrect(); }
inline bool percpu_ref_is_zero(const percpu_ref* ref) { return ref->ref.get().is_zero(); }
inline bool percpu_ref_is_dying(const percpu_ref* ref) { return ref->ref.get().is_dying(); }
