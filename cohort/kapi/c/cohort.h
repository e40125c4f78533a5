/* SPDX-License-Identifier: Apache-2.0 */
/* Cohort's C interface for programs that do not take C++23 headers: ordered parallel jobs, multithreaded jobs, memory, counters and locks per CPU.
 *
 *     cohort_padata *pool;
 *     cohort_shell *stream;
 *     if (cohort_padata_alloc(NULL, &pool) || cohort_shell_alloc(pool, NULL, &stream)) die(cohort_last_error());
 *     for (i = 0; i < n; i++)
 *         cohort_shell_submit(stream, encrypt, send, &packet[i]);     // encrypt() in parallel, send() in this order
 *     cohort_shell_drain(stream);
 *     cohort_shell_free(stream), cohort_padata_free(pool);
 *
 *     cohort_percpu_t hits;
 *     if (cohort_percpu_alloc(sizeof(uint64_t), 8, 0, &hits)) die(cohort_last_error());
 *     cohort_percpu_add_u64(hits, 1);                                 // a few nanoseconds, any thread, also in signal handlers
 *     total = cohort_percpu_sum_u64(hits);
 *     cohort_percpu_free(hits);
 *
 * Kernel: padata_alloc, padata_alloc_shell, padata_do_parallel, padata_do_multithreaded (kernel/padata.c, v6.12), alloc_percpu, this_cpu_add (mm/percpu.c),
 * percpu_counter, percpu_rw_semaphore. The same machinery, with all that it promises, as the headers of cohort/padata and cohort/percpu, where costs and
 * corner cases stand.
 *
 * Conventions: functions that can fail return 0 or a negative errno, and leave a sentence for cohort_last_error(). Option structures begin with
 * struct_size = sizeof the structure, so that later versions may add members; members left zero have their defaults; NULL options are all
 * defaults. Choices are passed as int, so that a wrong one can be refused. Objects are freed in the reverse order of allocation. Callbacks must not leave by longjmp or a C++ exception. */
#ifndef COHORT_H
#define COHORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COHORT_VERSION_MAJOR 0
#define COHORT_VERSION_MINOR 1
#define COHORT_VERSION_PATCH 0
#define COHORT_VERSION_NUMBER (COHORT_VERSION_MAJOR * 10000 + COHORT_VERSION_MINOR * 100 + COHORT_VERSION_PATCH)

#if defined(__GNUC__)
#define COHORT_API __attribute__((visibility("default")))
#else
#define COHORT_API
#endif

/* The library's version, to compare with the header's: "0.1.0", and major * 10000 + minor * 100 + patch. */
COHORT_API const char *cohort_version(void);
COHORT_API int cohort_version_number(void);

/* Why the last call of this thread that failed did so: one line, "padata \"net\": set parallel mask \"7\": EINVAL: ...". Never NULL; empty before the
 * first failure. Valid until the thread's next call of the library. */
COHORT_API const char *cohort_last_error(void);

/* --- padata: workers and two CPU masks -------------------------------------------------------------------------------------------------- */

typedef struct cohort_padata cohort_padata;

struct cohort_padata_options {
    size_t struct_size;
    const char *name;          /* for messages and thread names; NULL: "padata" */
    const char *parallel_cpus; /* where jobs run, in list form, "0-3,8"; NULL: every CPU this process may use */
    const char *serial_cpus;   /* where completions run; NULL: the same */
    int max_workers;           /* at most so many workers at once; 0: one for each CPU */
    int no_threads;            /* nonzero: start none; jobs run inline and in cohort_padata_poll() */
    struct cohort_tenant *tenant; /* its jobs run with this tenant's cookie (below); freed after the instance; NULL: of none */
};

enum cohort_mask { COHORT_MASK_PARALLEL = 0, COHORT_MASK_SERIAL = 1 };

/* Errors: -EINVAL (a mask is no list, is empty, beyond the machine, or without a CPU that may be used), -EAGAIN (no thread), -ENOMEM. */
COHORT_API int cohort_padata_alloc(const struct cohort_padata_options *options, cohort_padata **out);
/* NULL is allowed. All shells must be gone. */
COHORT_API void cohort_padata_free(cohort_padata *p);
/* which: enum cohort_mask. While jobs fly; their order is kept. Errors: -EINVAL as above; the old mask stays. Any thread. */
COHORT_API int cohort_padata_set_cpumask(cohort_padata *p, int which, const char *list);
/* Writes the mask that is in use (what was asked for & what this process may use) in list form. Returns its length, which may be size or more: then
 * the text was cut. Any thread. */
COHORT_API int cohort_padata_cpumask(cohort_padata *p, int which, char *text, size_t size);
/* The mask as it was asked for, CPUs that are not there now included; otherwise as cohort_padata_cpumask. */
COHORT_API int cohort_padata_user_cpumask(cohort_padata *p, int which, char *text, size_t size);
/* 1: a mask has no CPU that may be used, and submits answer -EINVAL until one returns; 0: it runs. `why` gets a sentence (empty: it runs), cut to size;
 * may be NULL. Any thread. */
COHORT_API int cohort_padata_stopped(cohort_padata *p, char *why, size_t size);
/* Lends the calling thread for one batch of work. Returns 1 if there was any, 0 if not. Never waits. */
COHORT_API int cohort_padata_poll(cohort_padata *p);

/* A directory of files through which others read and set the masks (parallel_cpumask, serial_cpulist, usable_*, state, last_error), and `cohort padata
 * ls|show|mask`. Freed before its instance; the directory goes with it. */
typedef struct cohort_control cohort_control;
/* directory: one that does not exist or is empty; NULL: the default place. Errors: -EBUSY (somebody else's), -ENOTEMPTY, -EPERM, and those of making files. */
COHORT_API int cohort_control_alloc(cohort_padata *p, const char *directory, cohort_control **out);
/* NULL is allowed. */
COHORT_API void cohort_control_free(cohort_control *c);
/* Its path. Valid as long as the control. */
COHORT_API const char *cohort_control_directory(const cohort_control *c);

/* --- shells: independent ordered streams ------------------------------------------------------------------------------------------------- */

typedef struct cohort_shell cohort_shell;
typedef struct cohort_job cohort_job;

enum cohort_full { COHORT_FULL_HELP = 0, COHORT_FULL_BLOCK = 1, COHORT_FULL_EAGAIN = 2, COHORT_FULL_HELP_ALL = 3 };

struct cohort_shell_options {
    size_t struct_size;
    uint32_t window;       /* jobs in flight, 1 .. 2^20, rounded up to a power of two; 0: 1024 */
    uint64_t window_bytes; /* sum of their bytes; 0: no limit */
    int when_full; /* enum cohort_full */
    int no_inline; /* nonzero: callbacks never run inside a submit (for submitters that hold a lock which the callbacks take) */
};

struct cohort_shell_stats {
    size_t struct_size;
    uint64_t submitted, delivered, ran_inline, handovers, waits, failed, batches;
    double job_ns;
};

/* Errors: -EINVAL (window out of range), -ENOMEM. */
COHORT_API int cohort_shell_alloc(cohort_padata *p, const struct cohort_shell_options *options, cohort_shell **out);
/* Waits for the jobs in flight. NULL is allowed. Not from a callback of this shell. */
COHORT_API void cohort_shell_free(cohort_shell *s);

/* parallel(arg) runs on any worker; when it has returned, serial(arg, 0) runs after serial() of every job submitted earlier has returned. serial's
 * second argument is 0, or -ECANCELED where parallel() was not run because of cohort_shell_cancel. Any thread, also from callbacks.
 * Errors: -EAGAIN (the window is full, COHORT_FULL_EAGAIN; nothing changed), -ENOMEM. Cost: one allocation beside do_parallel. */
COHORT_API int cohort_shell_submit(cohort_shell *s, void (*parallel)(void *arg), void (*serial)(void *arg, int info), void *arg);

/* The form with all that a job can have. parallel() gets the job, and someone must call cohort_job_done(job, info) once: parallel() itself, or any
 * thread at any later time. */
struct cohort_job_options {
    size_t struct_size;
    void (*parallel)(cohort_job *job, void *arg);
    void (*serial)(void *arg, int info);
    void *arg;
    int on_cpu;     /* nonzero: serial() shall run on cb_cpu */
    int cb_cpu;     /* a CPU outside the serial mask is replaced by the (cb_cpu % weight)-th of the mask, as the kernel does */
    uint32_t bytes; /* what counts against window_bytes */
};
/* Errors: as cohort_shell_submit; -EINVAL (a callback is missing, cb_cpu beyond the machine). */
COHORT_API int cohort_shell_submit_job(cohort_shell *s, const struct cohort_job_options *job);
/* Kernel: padata_do_serial. `info` reaches serial(). The job is gone after the call; it never waits for other jobs. */
COHORT_API void cohort_job_done(cohort_job *job, int info);

/* Waits until every job submitted before is through serial(). Not from a callback of this shell. */
COHORT_API int cohort_shell_drain(cohort_shell *s);
/* Jobs not yet started are delivered, in order, with info -ECANCELED and without parallel(). */
COHORT_API void cohort_shell_cancel(cohort_shell *s);
/* Errors: -EINVAL (struct_size). */
COHORT_API int cohort_shell_stats_get(cohort_shell *s, struct cohort_shell_stats *out);

/* --- multithreaded jobs ------------------------------------------------------------------------------------------------------------------- */

struct cohort_mt_job {
    size_t struct_size;
    int (*run)(void *arg, size_t begin, size_t end);   /* 0, or an errno (of either sign) that stops the job; from several threads at once */
    void (*undo)(void *arg, size_t begin, size_t end); /* may be NULL; after an error, for each range that was finished */
    void *arg;
    size_t start, size; /* units */
    size_t align, min_chunk, max_chunk;
    int max_threads; /* 0: as many as the parallel mask has CPUs */
    int numa_aware;
};
/* Kernel: padata_do_multithreaded. Returns when no thread works on the job any more. Errors: what run() returned first, negative; -EOVERFLOW
 * (start + size), -EINVAL (no run, max_threads < 0). */
COHORT_API int cohort_padata_do_multithreaded(cohort_padata *p, const struct cohort_mt_job *job);

/* --- percpu: memory with a copy for each CPU ---------------------------------------------------------------------------------------------- */

/* The name of an object, not an address. 0 is none. */
typedef uint64_t cohort_percpu_t;

enum cohort_percpu_flags {
    COHORT_PERCPU_NOWARN = 1,        /* a refusal is not told on stderr (the first 10 of a program are) */
    COHORT_PERCPU_NORETRY = 4,       /* no new chunk: what is there has to do */
    COHORT_PERCPU_POPULATE_NOW = 16  /* every copy has its page when the call returns */
};

/* CPUs that this machine can have: 1 .. 8192. Their numbers are below it. */
COHORT_API unsigned cohort_possible_cpus(void);
/* size: 1 .. 32768 bytes; align: a power of two, 1 .. 4096; flags: enum cohort_percpu_flags, or-ed. Zero on every CPU.
 * Errors: -EINVAL (size, align or flags), -ENOMEM. Kernel: __alloc_percpu_gfp. Cost: 5 to 10 ns as a rule. */
COHORT_API int cohort_percpu_alloc(size_t size, size_t align, unsigned flags, cohort_percpu_t *out);
/* From populated pages only; also for signal handlers, whatever they interrupted. Leaves no sentence. Errors: as above; -EAGAIN where a handler interrupted
 * the allocator itself. */
COHORT_API int cohort_percpu_alloc_atomic(size_t size, size_t align, unsigned flags, cohort_percpu_t *out);
/* 0 is nothing. Also for signal handlers; leaves no sentence. Errors: -EINVAL (no live object; nothing changed). */
COHORT_API int cohort_percpu_free(cohort_percpu_t object);

/* Adds to this CPU's copy, as one step for this CPU; `object` may be a sum of an object and an offset in it. The member is aligned to its size. Wraps. Any thread, also in
 * signal handlers. Kernel: this_cpu_add. */
COHORT_API void cohort_percpu_add_long(cohort_percpu_t object, long amount);
COHORT_API void cohort_percpu_add_u64(cohort_percpu_t object, uint64_t amount);
COHORT_API void cohort_percpu_add_u32(cohort_percpu_t object, uint32_t amount);
/* Over all CPUs; exact when nobody adds meanwhile. */
COHORT_API long cohort_percpu_sum_long(cohort_percpu_t object);
COHORT_API uint64_t cohort_percpu_sum_u64(cohort_percpu_t object);
/* A CPU's copy; NULL: there is no such CPU. Others may be changing it. Kernel: per_cpu_ptr, this_cpu_ptr. */
COHORT_API void *cohort_percpu_ptr(cohort_percpu_t object, unsigned cpu);
/* That of the CPU the thread was on. */
COHORT_API void *cohort_percpu_this_ptr(cohort_percpu_t object);
/* The allocator's statistics as JSON (schema_version 1). Returns the length, which may be size or more: then the text was cut. Errors: -ENOMEM. */
COHORT_API int cohort_percpu_stats_json(char *text, size_t size);

/* --- counters that many CPUs add to and few read ------------------------------------------------------------------------------------------- */

typedef struct cohort_counter cohort_counter;

/* batch: what a CPU may keep to itself, 1 or more; 0: max(32, twice the CPUs online). Errors: -EINVAL (batch), -ENOMEM. Kernel: percpu_counter_init. */
COHORT_API int cohort_counter_alloc(int64_t value, int64_t batch, cohort_counter **out);
/* NULL is allowed. */
COHORT_API void cohort_counter_free(cohort_counter *c);
/* Any thread, also in signal handlers. */
COHORT_API void cohort_counter_add(cohort_counter *c, int64_t amount);
/* A load; off by less than batch for each CPU. */
COHORT_API int64_t cohort_counter_read(const cohort_counter *c);
/* Exact when nobody adds meanwhile. */
COHORT_API int64_t cohort_counter_sum(const cohort_counter *c);
/* -1, 0, 1: it is less than, equal to, more than value. */
COHORT_API int cohort_counter_compare(const cohort_counter *c, int64_t value);
/* 1: added. 0: the value would be above the limit (amount > 0), or below it (amount < 0); nothing changed. */
COHORT_API int cohort_counter_limited_add(cohort_counter *c, int64_t limit, int64_t amount);
COHORT_API void cohort_counter_set(cohort_counter *c, int64_t value);

/* --- a lock for many readers and few writers ------------------------------------------------------------------------------------------------ */

typedef struct cohort_rwsem cohort_rwsem;

/* Errors: -ENOMEM. Kernel: percpu_init_rwsem. */
COHORT_API int cohort_rwsem_alloc(cohort_rwsem **out);
/* Nobody holds it. NULL is allowed. */
COHORT_API void cohort_rwsem_free(cohort_rwsem *s);
/* Not recursive. A hold may end in another thread than it began in. Of these only the read_trylock and read_unlock are for signal handlers. */
COHORT_API void cohort_rwsem_read_lock(cohort_rwsem *s);
COHORT_API int cohort_rwsem_read_trylock(cohort_rwsem *s); /* 1: locked; 0: a writer holds it or waits */
COHORT_API void cohort_rwsem_read_unlock(cohort_rwsem *s);
COHORT_API void cohort_rwsem_write_lock(cohort_rwsem *s);
COHORT_API int cohort_rwsem_write_trylock(cohort_rwsem *s); /* 1: locked; 0: somebody holds it or waits */
COHORT_API void cohort_rwsem_write_unlock(cohort_rwsem *s);

/* --- cpusets: a model of the kernel's, to ask what a write will do -------------------------------------------------------------------------- */

typedef struct cohort_cpuset cohort_cpuset;

/* machine: "live", "synthetic:pack:2 core:4 pu:2" or a file of hwloc's XML, NULL is "live"; kernel: "6.1", "6.12" or "7.0", NULL is "6.12"; v1: not 0, a version 1 hierarchy.
 * Errors: -EINVAL (kernel, machine), -ENOENT (the file), -ENOMEM. */
COHORT_API int cohort_cpuset_alloc(const char *machine, const char *kernel, int v1, cohort_cpuset **out);
/* NULL is allowed. */
COHORT_API void cohort_cpuset_free(cohort_cpuset *c);
/* One command of `cohort cpuset simulate`, such as "write a/b cpuset.cpus 0-3". Any thread. text: the answer's value, if any; lists have blanks between. Returns its length, which
 * may be size or more: then it was cut; or the kernel's answer as a negative errno, with the reason as the sentence. A line outside of the grammar is -EBADMSG. */
COHORT_API int cohort_cpuset_perform(cohort_cpuset *c, const char *command, char *text, size_t size);

/* --- core scheduling: who may share a core ------------------------------------------------------------------------------------------------ */

/* Where the kernel has none: of the jobs of an executor's tenants, only those with equal cookies run on a core at the same time.
 *
 *     cohort_executor_alloc(NULL, &ex);
 *     cohort_tenant_alloc(ex, "web", &web);
 *     cohort_core_create(ex, cohort_tenant_id(web), COHORT_SCOPE_THREAD);
 *     options.tenant = web;                                                    // of cohort_padata_alloc
 */
typedef struct cohort_executor cohort_executor;
typedef struct cohort_tenant cohort_tenant;

/* 0: the kernel has it (PR_SCHED_CORE); -EINVAL: it is built without; -ENODEV: no core has two CPUs online; others: it is kept from us. `why` gets the sentence (empty: it is there), cut to
 * size; may be NULL. Changes nothing. */
COHORT_API int cohort_core_facility(char *why, size_t size);

enum cohort_scope { COHORT_SCOPE_THREAD = 0, COHORT_SCOPE_PROCESS = 1, COHORT_SCOPE_PROCESS_GROUP = 2 };

/* The verbs. on: NULL, the running kernel, and id is a thread's number, 0 the calling thread; an executor, and id is a tenant's, 0 the one whose job the calling thread runs, else the outside.
 * scope: enum cohort_scope. create: a cookie that nobody else has. share_to: the caller's, to others. share_from: another's, to the caller. clear: none; the caller keeps its own.
 * Errors: -EINVAL (a kernel without it; scope), -ENODEV, -ESRCH, -EPERM (of many none was changed), -ENOMEM. Any thread. */
COHORT_API int cohort_core_get(cohort_executor *on, int id, uint64_t *out); /* equal for equal cookies, 0 for none */
COHORT_API int cohort_core_create(cohort_executor *on, int id, int scope);
COHORT_API int cohort_core_share_to(cohort_executor *on, int id, int scope);
COHORT_API int cohort_core_share_from(cohort_executor *on, int id);
COHORT_API int cohort_core_clear(cohort_executor *on, int id, int scope);
/* In a job that runs long: it makes way here if its turn is over, and comes back. Elsewhere: nothing. No lock may be held. */
COHORT_API void cohort_core_safepoint(void);

struct cohort_executor_options {
    size_t struct_size;
    const char *cores; /* the CPUs of each core, as lists with blanks between: "0,4 1,5"; NULL: those of this machine */
    uint64_t slice_ns; /* a cookie that others wait for gives its core up after so long; 0: 3 ms */
    int hold;          /* nonzero: a CPU that is forced idle is kept by a spinning thread */
};
struct cohort_executor_stats {
    size_t struct_size;
    uint64_t overlap_ns; /* unequal cookies on one core at once: 0, or something is broken */
    uint64_t stretches, turns, forced_idle_ns, changing_ns, longest_wait_ns, astray;
};
/* Errors: -EINVAL (no core, a CPU in two, a list that is none), -ENOMEM. */
COHORT_API int cohort_executor_alloc(const struct cohort_executor_options *options, cohort_executor **out);
/* NULL is allowed. Its tenants must be gone. */
COHORT_API void cohort_executor_free(cohort_executor *e);
/* Errors: -EINVAL (struct_size). */
COHORT_API int cohort_executor_stats_get(cohort_executor *e, struct cohort_executor_stats *out);
/* name: for reports; NULL: "tenant". Errors: -EINVAL, -ENOMEM. */
COHORT_API int cohort_tenant_alloc(cohort_executor *e, const char *name, cohort_tenant **out);
/* NULL is allowed. The instances that were given it must be gone. */
COHORT_API void cohort_tenant_free(cohort_tenant *t);
/* Its number for the verbs: 1, 2, ... */
COHORT_API int cohort_tenant_id(const cohort_tenant *t);

#ifdef __cplusplus
}
#endif
#endif
