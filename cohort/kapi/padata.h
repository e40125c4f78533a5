// SPDX-License-Identifier: Apache-2.0
/// The kernel's names for parallel jobs that complete in order, over cohort/padata: code that is written in them compiles as C++ and behaves as there.
///
///     struct request { struct padata_priv padata; char *text; };
///     static void encrypt(struct padata_priv *p) { work(container_of(p, struct request, padata)); p->info = 0; padata_do_serial(p); }
///     static void done(struct padata_priv *p) { struct request *r = container_of(p, struct request, padata); send(r->text, p->info); kfree(r); }
///
///     struct padata_instance *pinst = padata_alloc("pencrypt");            // NULL: errno says why
///     struct padata_shell *ps = padata_alloc_shell(pinst);
///     memset(&r->padata, 0, sizeof(r->padata)); r->padata.parallel = encrypt; r->padata.serial = done;
///     int cb_cpu = 1, err = padata_do_parallel(ps, &r->padata, &cb_cpu);   // cb_cpu: the CPU that it has become
///     padata_free_shell(ps); padata_free(pinst);
///
/// Kernel: include/linux/padata.h, kernel/padata.c (v6.12). Differences: order is total per shell, whatever the cb_cpus, and kept over mask changes, so there is no EBUSY; a shell
/// has at most 4096 jobs in flight, and padata_do_parallel() waits for room (callbacks of the same shell never do); callbacks run in threads, and may sleep.
#pragma once

#include <cerrno>
#include <cstddef>

#include <cohort/kapi/cpumask.h>

#ifndef container_of
#define container_of(ptr, type, member) (reinterpret_cast<type*>(reinterpret_cast<char*>(ptr) - offsetof(type, member)))
#endif

#define PADATA_CPU_SERIAL 0x01
#define PADATA_CPU_PARALLEL 0x02

/// Opaque, as users of the kernel's treat them.
struct padata_instance;
struct padata_shell;

/// One job, a member of the user's structure. All zero but the two callbacks when it is given to padata_do_parallel(); nobody's but the engine's from then until
/// serial() is called with it, which may free it or submit it again.
struct padata_priv {
    int cb_cpu;          ///< where serial() runs; set by padata_do_parallel()
    unsigned int seq_nr; ///< its place in the order of its shell, from 0; wraps. Set before parallel().
    int info;            ///< from parallel() to serial(): an errno, negative; 0 at first
    void (*parallel)(struct padata_priv* padata);
    void (*serial)(struct padata_priv* padata);
    alignas(void*) unsigned char engine[64];  ///< [the engine's]
};

/// A range that many threads work through.
struct padata_mt_job {
    void (*thread_fn)(unsigned long start, unsigned long end, void* arg);
    void* fn_arg;
    unsigned long start;
    unsigned long size;
    unsigned long align;      ///< of chunks' ends; 0 counts as 1
    unsigned long min_chunk;  ///< 0 counts as 1
    int max_threads;          ///< with the caller; below 1 counts as 1
    bool numa_aware;          ///< helpers on one memory node after another
};

/// Workers on every CPU this process may use. NULL: errno is EAGAIN (no thread), ENOMEM or EINVAL.
struct padata_instance* padata_alloc(const char* name);
/// Its shells are gone. NULL is nothing.
void padata_free(struct padata_instance* pinst);

/// An ordered stream. NULL: no memory.
struct padata_shell* padata_alloc_shell(struct padata_instance* pinst);
/// Waits for jobs in flight. Not from its callbacks. NULL is nothing.
void padata_free_shell(struct padata_shell* ps);

/// Queues a job. *cb_cpu: the CPU for serial(); one that the usable serial mask does not have is replaced by the (*cb_cpu % weight)-th of the mask and written back.
/// 0: accepted. -EINVAL: *cb_cpu is beyond the machine, or the instance is stopped; nothing happens then.
int padata_do_parallel(struct padata_shell* ps, struct padata_priv* padata, int* cb_cpu);
/// The job is done: once for each, by any thread, in parallel() or any time later. serial() is called after those of all jobs submitted earlier.
void padata_do_serial(struct padata_priv* padata);

/// cpumask_type: PADATA_CPU_SERIAL or PADATA_CPU_PARALLEL. Errors: -EINVAL (neither; what instance::set_cpumask refuses), -ENOMEM, -EAGAIN (no thread); the old mask stays.
int padata_set_cpumask(struct padata_instance* pinst, int cpumask_type, cpumask_var_t cpumask);

/// Calls thread_fn for chunks of [start, start + size), in the caller and in helpers that all callers of the program share. Returns when all is done. *job is not changed.
void padata_do_multithreaded(struct padata_mt_job* job);
