// SPDX-License-Identifier: Apache-2.0
// The C interface of percpu. Nothing is decided here.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include <cohort/kapi/c/cohort.h>
#include <cohort/kapi/detail/c_call.hpp>
#include <cohort/kapi/percpu.h>
#include <cohort/percpu/counter.hpp>
#include <cohort/percpu/rwsem.hpp>
#include <cohort/percpu/stats.hpp>

using namespace cohort;
using namespace cohort::kapi;

struct cohort_counter {
    std::unique_ptr<percpu::counter> counter;
};
struct cohort_rwsem {
    std::unique_ptr<percpu::rwsem> sem;
};

namespace {

constexpr unsigned known_flags = COHORT_PERCPU_NOWARN | COHORT_PERCPU_NORETRY | COHORT_PERCPU_POPULATE_NOW;
static_assert(COHORT_PERCPU_NOWARN == static_cast<unsigned>(percpu::alloc_flags::nowarn) && COHORT_PERCPU_NORETRY == static_cast<unsigned>(percpu::alloc_flags::noretry) &&
              COHORT_PERCPU_POPULATE_NOW == static_cast<unsigned>(percpu::alloc_flags::populate_now));

/// An lvalue that is named, not read: what percpu.h's operations take.
template <class T>
T& at(cohort_percpu_t object) { return *reinterpret_cast<T*>(object); }

template <class T>
T sum_of(cohort_percpu_t object) {
    return with_handle(at<T>(object), [](auto h) { return percpu::sum(h); });
}

}  // namespace

extern "C" {

unsigned cohort_possible_cpus(void) { return percpu::possible_cpus(); }

int cohort_percpu_alloc(size_t size, size_t align, unsigned flags, cohort_percpu_t* out) {
    return entry("percpu", "allocate", [&] {
        if (!out) return failed(EINVAL, "percpu", "allocate", "no place for the result");
        if (flags & ~known_flags) return failed(EINVAL, "percpu", "allocate", "a flag is none of enum cohort_percpu_flags");
        const auto got = percpu::default_allocator().alloc(size, align, static_cast<percpu::alloc_flags>(flags));
        if (!got) return failed(got.error());
        *out = *got;
        return 0;
    });
}

int cohort_percpu_alloc_atomic(size_t size, size_t align, unsigned flags, cohort_percpu_t* out) {
    if (!out || (flags & ~known_flags)) return -EINVAL;
    const percpu::attempt got = percpu::default_allocator().alloc_atomic(size, align, static_cast<percpu::alloc_flags>(flags));
    if (!got) return -percpu::errno_of(got.why);
    *out = got.value;
    return 0;
}

int cohort_percpu_free(cohort_percpu_t object) { return -percpu::free(object); }

void cohort_percpu_add_long(cohort_percpu_t object, long amount) { this_cpu_add(at<long>(object), amount); }
void cohort_percpu_add_u64(cohort_percpu_t object, uint64_t amount) { this_cpu_add(at<uint64_t>(object), amount); }
void cohort_percpu_add_u32(cohort_percpu_t object, uint32_t amount) { this_cpu_add(at<uint32_t>(object), amount); }
long cohort_percpu_sum_long(cohort_percpu_t object) { return sum_of<long>(object); }
uint64_t cohort_percpu_sum_u64(cohort_percpu_t object) { return sum_of<uint64_t>(object); }
void* cohort_percpu_ptr(cohort_percpu_t object, unsigned cpu) {
    return cpu < percpu::possible_cpus() ? per_cpu_ptr(reinterpret_cast<void*>(object), cpu) : nullptr;
}
void* cohort_percpu_this_ptr(cohort_percpu_t object) { return this_cpu_ptr(reinterpret_cast<void*>(object)); }

int cohort_percpu_stats_json(char* text, size_t size) {
    return entry("percpu", "stats", [&] { return write_text(percpu::default_allocator().stats().json(), text, size); });
}

int cohort_counter_alloc(int64_t value, int64_t batch, cohort_counter** out) {
    return entry("counter", "alloc", [&] {
        if (!out) return failed(EINVAL, "counter", "alloc", "no place for the result");
        if (batch < 0) return failed(EINVAL, "counter", "alloc", "batch is negative");
        auto made = percpu::counter::create(value, batch);
        if (!made) return failed(made.error());
        *out = new cohort_counter{std::move(*made)};
        return 0;
    });
}
void cohort_counter_free(cohort_counter* c) { delete c; }
void cohort_counter_add(cohort_counter* c, int64_t amount) { c->counter->add(amount); }
int64_t cohort_counter_read(const cohort_counter* c) { return c->counter->read(); }
int64_t cohort_counter_sum(const cohort_counter* c) { return c->counter->sum(); }
int cohort_counter_compare(const cohort_counter* c, int64_t value) { return c->counter->compare(value); }
int cohort_counter_limited_add(cohort_counter* c, int64_t limit, int64_t amount) { return c->counter->limited_add(limit, amount); }
void cohort_counter_set(cohort_counter* c, int64_t value) { c->counter->set(value); }

int cohort_rwsem_alloc(cohort_rwsem** out) {
    return entry("rwsem", "alloc", [&] {
        if (!out) return failed(EINVAL, "rwsem", "alloc", "no place for the result");
        auto made = percpu::rwsem::create();
        if (!made) return failed(made.error());
        *out = new cohort_rwsem{std::move(*made)};
        return 0;
    });
}
void cohort_rwsem_free(cohort_rwsem* s) { delete s; }
// A C program's holds are not seen by -Wthread-safety.
void cohort_rwsem_read_lock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { s->sem->lock_shared(); }
int cohort_rwsem_read_trylock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { return s->sem->try_lock_shared(); }
void cohort_rwsem_read_unlock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { s->sem->unlock_shared(); }
void cohort_rwsem_write_lock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { s->sem->lock(); }
int cohort_rwsem_write_trylock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { return s->sem->try_lock(); }
void cohort_rwsem_write_unlock(cohort_rwsem* s) COHORT_NO_THREAD_SAFETY_ANALYSIS { s->sem->unlock(); }

}  // extern "C"
