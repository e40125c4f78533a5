/* SPDX-License-Identifier: Apache-2.0 */
/* cohort.h from a C11 program's side. Each function is one claim; it returns 0, or the line of the first check that failed. */
#define _GNU_SOURCE
#include <cohort.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(claim) do { if (!(claim)) return __LINE__; } while (0)

enum { ITEMS = 20000 };

struct packet {
    int number, work, *next, *wrong, info;
};

static void work(void *arg) {
    struct packet *p = arg;
    p->work = p->number * 3;
}

static void deliver(void *arg, int info) {
    struct packet *p = arg;
    if (*p->next != p->number || p->work != p->number * 3 || info) ++*p->wrong;
    ++*p->next;
}

int c_delivers_in_submit_order(void) {
    static struct packet packets[ITEMS];
    int next = 0, wrong = 0;
    cohort_padata *pool;
    cohort_shell *shell;
    const struct cohort_padata_options options = {.struct_size = sizeof options, .name = "c"};
    struct cohort_shell_stats stats = {.struct_size = sizeof stats};
    CHECK(cohort_padata_alloc(&options, &pool) == 0);
    CHECK(cohort_shell_alloc(pool, NULL, &shell) == 0);
    for (int i = 0; i < ITEMS; ++i) {
        packets[i] = (struct packet){.number = i, .next = &next, .wrong = &wrong};
        CHECK(cohort_shell_submit(shell, work, deliver, &packets[i]) == 0);
    }
    CHECK(cohort_shell_drain(shell) == 0);
    CHECK(next == ITEMS && wrong == 0);
    CHECK(cohort_shell_stats_get(shell, &stats) == 0);
    CHECK(stats.submitted == ITEMS && stats.delivered == ITEMS);
    cohort_shell_free(shell);
    cohort_padata_free(pool);
    return 0;
}

/* Two jobs kept by parallel() and finished later, by another thread, the younger first. */
static _Atomic(cohort_job *) held[2];
static atomic_int delivered;
static int order[2], infos[2];

static void hold(cohort_job *job, void *arg) { atomic_store(&held[*(int *)arg], job); }
static void note(void *arg, int info) {
    const int at = atomic_fetch_add(&delivered, 1);
    order[at] = *(int *)arg;
    infos[at] = info;
}
static void *finish_both(void *unused) {
    cohort_job *young, *old;
    (void)unused;
    while (!(young = atomic_load(&held[1])) || !(old = atomic_load(&held[0]))) sched_yield();
    cohort_job_done(young, 0);
    if (atomic_load(&delivered) == 0) cohort_job_done(old, -EIO);
    return NULL;
}

int c_jobs_may_be_finished_later_from_another_thread(void) {
    static int names[2] = {0, 1};
    cohort_padata *pool;
    cohort_shell *shell;
    pthread_t other;
    atomic_store(&delivered, 0);
    atomic_store(&held[0], NULL), atomic_store(&held[1], NULL);
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_shell_alloc(pool, NULL, &shell) == 0);
    for (int i = 0; i < 2; ++i) {
        const struct cohort_job_options job = {.struct_size = sizeof job, .parallel = hold, .serial = note, .arg = &names[i], .bytes = 10};
        CHECK(cohort_shell_submit_job(shell, &job) == 0);
    }
    CHECK(pthread_create(&other, NULL, finish_both, NULL) == 0);
    CHECK(cohort_shell_drain(shell) == 0);
    pthread_join(other, NULL);
    CHECK(order[0] == 0 && order[1] == 1 && infos[0] == -EIO && infos[1] == 0);
    cohort_shell_free(shell);
    cohort_padata_free(pool);
    return 0;
}

int c_errors_are_negative_errnos_with_a_sentence(void) {
    cohort_padata *pool = NULL;
    cohort_shell *shell = NULL;
    struct cohort_padata_options options = {.struct_size = sizeof options, .parallel_cpus = "no numbers"};
    struct cohort_shell_options window = {.struct_size = sizeof window, .window = 1u << 30};
    struct cohort_job_options job = {.struct_size = sizeof job};
    struct cohort_shell_stats stats = {.struct_size = sizeof stats + 1};
    CHECK(cohort_padata_alloc(&options, &pool) == -EINVAL && !pool);
    CHECK(strstr(cohort_last_error(), "EINVAL"));
    options.parallel_cpus = "8191";
    CHECK(cohort_padata_alloc(&options, &pool) == -EINVAL && !pool);
    options.struct_size = 3;
    CHECK(cohort_padata_alloc(&options, &pool) == -EINVAL && strstr(cohort_last_error(), "struct_size"));
    options.struct_size = sizeof options + 8; /* a newer program's */
    CHECK(cohort_padata_alloc(&options, &pool) == -EINVAL && strstr(cohort_last_error(), "struct_size"));
    CHECK(cohort_padata_alloc(NULL, NULL) == -EINVAL);
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_shell_alloc(pool, &window, &shell) == -EINVAL && !shell);
    window = (struct cohort_shell_options){.struct_size = sizeof window, .when_full = 9};
    CHECK(cohort_shell_alloc(pool, &window, &shell) == -EINVAL && strstr(cohort_last_error(), "when_full"));
    CHECK(cohort_shell_alloc(NULL, NULL, &shell) == -EINVAL);
    CHECK(cohort_shell_alloc(pool, NULL, &shell) == 0);
    CHECK(cohort_shell_submit(shell, NULL, deliver, NULL) == -EINVAL && strstr(cohort_last_error(), "callback"));
    CHECK(cohort_shell_submit_job(shell, &job) == -EINVAL);
    job.parallel = hold, job.serial = note, job.on_cpu = 1, job.cb_cpu = -1;
    CHECK(cohort_shell_submit_job(shell, &job) == -EINVAL && strstr(cohort_last_error(), "cb_cpu"));
    job.cb_cpu = 1 << 20;
    CHECK(cohort_shell_submit_job(shell, &job) == -EINVAL);
    CHECK(cohort_shell_stats_get(shell, &stats) == -EINVAL);
    CHECK(cohort_shell_drain(shell) == 0);
    cohort_shell_free(shell);
    cohort_padata_free(pool);
    return 0;
}

int c_masks_change_by_list_and_a_bad_one_leaves_the_old(void) {
    char before[64], after[64];
    cohort_padata *pool;
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_PARALLEL, before, sizeof before) > 0);
    CHECK(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, "") == -EINVAL);
    CHECK(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, "3-1") == -EINVAL);
    CHECK(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, NULL) == -EINVAL);
    CHECK(cohort_padata_set_cpumask(pool, 7, before) == -EINVAL);
    CHECK(cohort_padata_cpumask(pool, 7, after, sizeof after) == -EINVAL);
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_PARALLEL, after, sizeof after) > 0 && !strcmp(before, after));
    /* one CPU: the first number of the list; a text that does not fit is cut and its length told */
    before[strspn(before, "0123456789")] = '\0';
    CHECK(cohort_padata_set_cpumask(pool, COHORT_MASK_SERIAL, before) == 0);
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_SERIAL, after, sizeof after) == (int)strlen(before) && !strcmp(before, after));
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_SERIAL, after, 1) == (int)strlen(before) && after[0] == '\0');
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_SERIAL, NULL, 0) == (int)strlen(before));
    cohort_padata_free(pool);
    cohort_padata_free(NULL);
    cohort_shell_free(NULL);
    return 0;
}

int c_user_masks_keep_what_was_asked_for(void) {
    char usable[64], user[64], why[8] = "x";
    cohort_padata *pool;
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_padata_stopped(pool, why, sizeof why) == 0 && why[0] == '\0');
    CHECK(cohort_padata_stopped(pool, NULL, 0) == 0);
    CHECK(cohort_padata_user_cpumask(pool, 7, user, sizeof user) == -EINVAL);
    CHECK(cohort_padata_cpumask(pool, COHORT_MASK_PARALLEL, usable, sizeof usable) > 0);
    usable[strspn(usable, "0123456789")] = '\0';
    CHECK(cohort_padata_set_cpumask(pool, COHORT_MASK_PARALLEL, usable) == 0);
    CHECK(cohort_padata_user_cpumask(pool, COHORT_MASK_PARALLEL, user, sizeof user) == (int)strlen(usable) && !strcmp(user, usable));
    CHECK(cohort_padata_user_cpumask(pool, COHORT_MASK_SERIAL, NULL, 0) > 0);
    cohort_padata_free(pool);
    return 0;
}

int c_a_control_directory_goes_with_its_handle(void) {
    char place[] = "/tmp/cohort-c-abi-XXXXXX", path[64];
    cohort_padata *pool;
    cohort_control *control, *second;
    CHECK(mkdtemp(place) != NULL);
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_control_alloc(NULL, NULL, &control) == -EINVAL);
    CHECK(cohort_control_alloc(pool, place, NULL) == -EINVAL);
    CHECK(cohort_control_alloc(pool, place, &control) == 0);
    CHECK(!strcmp(cohort_control_directory(control), place));
    CHECK(cohort_control_alloc(pool, place, &second) == -EBUSY);
    CHECK(strstr(cohort_last_error(), place) != NULL);
    snprintf(path, sizeof path, "%s/parallel_cpumask", place);
    CHECK(access(path, W_OK) == 0);
    cohort_control_free(control);
    CHECK(access(path, F_OK) != 0);
    cohort_control_free(NULL);
    cohort_padata_free(pool);
    rmdir(place);
    return 0;
}

int c_without_threads_poll_runs_the_jobs(void) {
    static struct packet packets[100];
    int next = 0, wrong = 0;
    cohort_padata *pool;
    cohort_shell *shell;
    const struct cohort_padata_options options = {.struct_size = sizeof options, .no_threads = 1};
    const struct cohort_shell_options window = {.struct_size = sizeof window, .when_full = COHORT_FULL_EAGAIN, .window = 64, .no_inline = 1};
    CHECK(cohort_padata_alloc(&options, &pool) == 0);
    CHECK(cohort_shell_alloc(pool, &window, &shell) == 0);
    CHECK(cohort_padata_poll(pool) == 0);
    for (int i = 0; i < 65; ++i) {
        packets[i] = (struct packet){.number = i, .next = &next, .wrong = &wrong};
        CHECK(cohort_shell_submit(shell, work, deliver, &packets[i]) == (i < 64 ? 0 : -EAGAIN));
    }
    CHECK(next == 0);
    while (cohort_padata_poll(pool)) {}
    CHECK(next == 64 && wrong == 0);
    CHECK(cohort_shell_drain(shell) == 0);
    cohort_shell_free(shell);
    cohort_padata_free(pool);
    return 0;
}

static void drop(cohort_job *job, void *arg) {
    (void)arg;
    cohort_job_done(job, 1); /* was run: must not happen after a cancel */
}

int c_cancelled_jobs_are_delivered_with_ecanceled(void) {
    static int name = 0;
    cohort_padata *pool;
    cohort_shell *shell;
    const struct cohort_padata_options options = {.struct_size = sizeof options, .no_threads = 1};
    const struct cohort_shell_options window = {.struct_size = sizeof window, .no_inline = 1};
    const struct cohort_job_options job = {.struct_size = sizeof job, .parallel = drop, .serial = note, .arg = &name};
    atomic_store(&delivered, 0);
    CHECK(cohort_padata_alloc(&options, &pool) == 0);
    CHECK(cohort_shell_alloc(pool, &window, &shell) == 0);
    CHECK(cohort_shell_submit_job(shell, &job) == 0 && cohort_shell_submit_job(shell, &job) == 0);
    cohort_shell_cancel(shell);
    while (cohort_padata_poll(pool)) {}
    CHECK(atomic_load(&delivered) == 2 && infos[0] == -ECANCELED && infos[1] == -ECANCELED);
    cohort_shell_free(shell);
    cohort_padata_free(pool);
    return 0;
}

static atomic_size_t units, undone;
static int add_units(void *arg, size_t begin, size_t end) {
    (void)arg;
    atomic_fetch_add(&units, end - begin);
    return 0;
}
static int refuse_half(void *arg, size_t begin, size_t end) {
    if (begin >= *(size_t *)arg) return ENOSPC;
    return add_units(arg, begin, end);
}
static void undo_units(void *arg, size_t begin, size_t end) {
    (void)arg;
    atomic_fetch_add(&undone, end - begin);
}

int c_multithreaded_jobs_cover_the_range_or_undo_it(void) {
    size_t half = 500;
    cohort_padata *pool;
    struct cohort_mt_job job = {.struct_size = sizeof job, .run = add_units, .start = 7, .size = 1000, .min_chunk = 10, .max_chunk = 10};
    atomic_store(&units, 0), atomic_store(&undone, 0);
    CHECK(cohort_padata_alloc(NULL, &pool) == 0);
    CHECK(cohort_padata_do_multithreaded(pool, &job) == 0);
    CHECK(atomic_load(&units) == 1000);
    atomic_store(&units, 0);
    job.run = refuse_half, job.undo = undo_units, job.arg = &half;
    CHECK(cohort_padata_do_multithreaded(pool, &job) == -ENOSPC);
    CHECK(strstr(cohort_last_error(), "ENOSPC"));
    CHECK(atomic_load(&undone) == atomic_load(&units));
    job.run = NULL;
    CHECK(cohort_padata_do_multithreaded(pool, &job) == -EINVAL);
    job.run = add_units, job.start = (size_t)-1;
    CHECK(cohort_padata_do_multithreaded(pool, &job) == -EOVERFLOW);
    CHECK(cohort_padata_do_multithreaded(pool, NULL) == -EINVAL);
    cohort_padata_free(pool);
    return 0;
}

struct link_stats {
    uint64_t packets, bytes;
    uint32_t drops;
};
static cohort_percpu_t link_object;

static void *count_packets(void *arg) {
    (void)arg;
    for (int i = 0; i < ITEMS; ++i) {
        cohort_percpu_add_u64(link_object + offsetof(struct link_stats, packets), 1);
        cohort_percpu_add_u64(link_object + offsetof(struct link_stats, bytes), (uint64_t)i);
        if (i % 10 == 0) cohort_percpu_add_u32(link_object + offsetof(struct link_stats, drops), 1);
    }
    return NULL;
}

static int counted_exactly(size_t align) {
    pthread_t threads[4];
    struct link_stats sum = {0, 0, 0};
    CHECK(cohort_percpu_alloc(sizeof(struct link_stats), align, 0, &link_object) == 0 && link_object);
    for (int i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, count_packets, NULL) == 0);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
    CHECK(cohort_percpu_sum_u64(link_object) == 4 * ITEMS);
    CHECK(cohort_percpu_sum_long(link_object + offsetof(struct link_stats, bytes)) == 4l * ITEMS * (ITEMS - 1) / 2);
    for (unsigned cpu = 0; cpu < cohort_possible_cpus(); ++cpu) {
        const struct link_stats *s = cohort_percpu_ptr(link_object, cpu);
        CHECK(s && (uintptr_t)s % align == 0);
        sum.packets += s->packets, sum.bytes += s->bytes, sum.drops += s->drops;
    }
    CHECK(sum.packets == 4 * ITEMS && sum.drops == 4 * ITEMS / 10 && sum.bytes == (uint64_t)cohort_percpu_sum_long(link_object + 8));
    CHECK(cohort_percpu_ptr(link_object, cohort_possible_cpus()) == NULL);
    CHECK(cohort_percpu_this_ptr(link_object) != NULL);
    cohort_percpu_add_long(link_object, -4l * ITEMS);
    CHECK(cohort_percpu_sum_long(link_object) == 0);
    CHECK(cohort_percpu_free(link_object) == 0);
    return 0;
}

int c_percpu_objects_are_counted_exactly_whatever_their_alignment(void) {
    const int line = counted_exactly(8);
    return line ? line : counted_exactly(4096);
}

int c_percpu_refuses_by_negative_errno(void) {
    cohort_percpu_t object = 0;
    char text[4096];
    CHECK(cohort_percpu_alloc(0, 8, COHORT_PERCPU_NOWARN, &object) == -EINVAL && strstr(cohort_last_error(), "illegal size or align"));
    CHECK(cohort_percpu_alloc(32769, 8, COHORT_PERCPU_NOWARN, &object) == -EINVAL);
    CHECK(cohort_percpu_alloc(8, 12, COHORT_PERCPU_NOWARN, &object) == -EINVAL);
    CHECK(cohort_percpu_alloc(8, 8192, COHORT_PERCPU_NOWARN, &object) == -EINVAL);
    CHECK(cohort_percpu_alloc(8, 8, 1u << 20, &object) == -EINVAL && strstr(cohort_last_error(), "flag"));
    CHECK(cohort_percpu_alloc(8, 8, 0, NULL) == -EINVAL);
    CHECK(cohort_percpu_alloc_atomic(0, 8, COHORT_PERCPU_NOWARN, &object) == -EINVAL);
    CHECK(cohort_percpu_alloc_atomic(8, 8, 1u << 20, &object) == -EINVAL);
    CHECK(cohort_percpu_alloc_atomic(8, 8, 0, NULL) == -EINVAL);
    CHECK(object == 0);
    CHECK(cohort_percpu_free(0) == 0 && cohort_percpu_free(0x1234) == -EINVAL);
    CHECK(cohort_percpu_alloc(64, 8, COHORT_PERCPU_POPULATE_NOW | COHORT_PERCPU_NORETRY, &object) == 0);
    CHECK(cohort_percpu_free(object + 4) == -EINVAL);
    CHECK(cohort_percpu_free(object) == 0 && cohort_percpu_free(object) == -EINVAL);
    CHECK(cohort_percpu_alloc_atomic(64, 8, 0, &object) == 0 && object && cohort_percpu_free(object) == 0);
    CHECK(cohort_percpu_stats_json(text, sizeof text) > 100 && strstr(text, "\"schema_version\":"));
    CHECK(cohort_percpu_stats_json(text, 2) > 100 && !strcmp(text, "{"));
    return 0;
}

static cohort_counter *counter;
static void *count(void *arg) {
    (void)arg;
    for (int i = 0; i < ITEMS; ++i) cohort_counter_add(counter, 2);
    return NULL;
}

int c_counters_sum_exactly_and_keep_to_limits(void) {
    pthread_t threads[2];
    CHECK(cohort_counter_alloc(5, 16, &counter) == 0);
    for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, count, NULL) == 0);
    for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
    CHECK(cohort_counter_sum(counter) == 5 + 4 * ITEMS);
    CHECK(cohort_counter_sum(counter) - cohort_counter_read(counter) < 16 * (int64_t)cohort_possible_cpus());
    CHECK(cohort_counter_compare(counter, 5 + 4 * ITEMS) == 0 && cohort_counter_compare(counter, 6 + 4 * ITEMS) == -1 && cohort_counter_compare(counter, 4) == 1);
    cohort_counter_set(counter, 0);
    CHECK(cohort_counter_limited_add(counter, 10, 10) == 1 && cohort_counter_limited_add(counter, 10, 1) == 0 && cohort_counter_sum(counter) == 10);
    cohort_counter_free(counter);
    cohort_counter_free(NULL);
    CHECK(cohort_counter_alloc(0, -1, &counter) == -EINVAL && strstr(cohort_last_error(), "batch"));
    CHECK(cohort_counter_alloc(0, 0, NULL) == -EINVAL);
    return 0;
}

static cohort_rwsem *sem;
static int first, second;
static atomic_int torn;
static void *read_or_write(void *arg) {
    for (int i = 0; i < 3000; ++i) {
        if (arg && i % 8 == 0) {
            cohort_rwsem_write_lock(sem);
            ++first, ++second;
            cohort_rwsem_write_unlock(sem);
        } else {
            cohort_rwsem_read_lock(sem);
            if (first != second) atomic_fetch_add(&torn, 1);
            cohort_rwsem_read_unlock(sem);
        }
    }
    return NULL;
}

int c_rwsem_keeps_writers_from_readers(void) {
    pthread_t threads[4];
    first = second = 0;
    CHECK(cohort_rwsem_alloc(&sem) == 0);
    for (int i = 0; i < 4; ++i) CHECK(pthread_create(&threads[i], NULL, read_or_write, i < 2 ? &first : NULL) == 0);
    for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
    CHECK(atomic_load(&torn) == 0 && first == 750 && second == 750);
    CHECK(cohort_rwsem_read_trylock(sem) == 1 && cohort_rwsem_write_trylock(sem) == 0);
    cohort_rwsem_read_unlock(sem);
    CHECK(cohort_rwsem_write_trylock(sem) == 1 && cohort_rwsem_read_trylock(sem) == 0);
    cohort_rwsem_write_unlock(sem);
    cohort_rwsem_free(sem);
    cohort_rwsem_free(NULL);
    CHECK(cohort_rwsem_alloc(NULL) == -EINVAL);
    return 0;
}

int c_a_model_of_cpusets_answers_as_the_kernel(void) {
    cohort_cpuset *c = NULL;
    char text[64];
    CHECK(cohort_cpuset_alloc("synthetic:pack:2 numa:1 core:2 pu:2", NULL, 0, &c) == 0);
    CHECK(cohort_cpuset_perform(c, "mkdir a", NULL, 0) == 0);
    CHECK(cohort_cpuset_perform(c, "write a cpuset.cpus 2-3", NULL, 0) == 0);
    CHECK(cohort_cpuset_perform(c, "write a cpuset.cpus.partition isolated", NULL, 0) == 0);
    CHECK(cohort_cpuset_perform(c, "read . cpuset.cpus.effective", text, sizeof text) == 7 && !strcmp(text, "0-1,4-7"));
    CHECK(cohort_cpuset_perform(c, "domains", text, sizeof text) == 7 && !strcmp(text, "0-1,4-7"));
    CHECK(cohort_cpuset_perform(c, "write a cpuset.cpus 99", NULL, 0) == -ERANGE && strlen(cohort_last_error()) > 10);
    CHECK(cohort_cpuset_perform(c, "dance a", NULL, 0) == -EBADMSG && strstr(cohort_last_error(), "column 1"));
    CHECK(cohort_cpuset_perform(NULL, "domains", NULL, 0) == -EINVAL && cohort_cpuset_perform(c, NULL, NULL, 0) == -EINVAL);
    cohort_cpuset_free(c);
    cohort_cpuset_free(NULL);
    CHECK(cohort_cpuset_alloc(NULL, "2.4", 0, &c) == -EINVAL && cohort_cpuset_alloc(NULL, NULL, 0, NULL) == -EINVAL);
    CHECK(cohort_cpuset_alloc("synthetic:nonsense", NULL, 1, &c) == -EINVAL);
    return 0;
}


struct side {
    cohort_tenant *tenant;
    cohort_padata *pool;
    cohort_shell *shell;
    atomic_int delivered;
};

static void spin_a_little(void *arg) {
    volatile int sink = 0;
    for (int i = 0; i < 2000; ++i) sink += i;
    cohort_core_safepoint();
    (void)arg;
}
static void count_one(void *arg, int info) { atomic_fetch_add(&((struct side *)arg)->delivered, info == 0); }

/* All CPUs of this process as one core. */
static int all_as_one(char *text, size_t size) {
    cpu_set_t may;
    size_t used = 0;
    if (sched_getaffinity(0, sizeof may, &may)) return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE && used + 8 < size; ++cpu) {
        if (CPU_ISSET(cpu, &may)) used += (size_t)snprintf(text + used, size - used, used ? ",%d" : "%d", cpu);
    }
    return CPU_COUNT(&may);
}

int c_tenants_of_an_executor_never_share_a_core(void) {
    char cores[1024];
    const int cpus = all_as_one(cores, sizeof cores);
    struct cohort_executor_options o = {.struct_size = sizeof o, .cores = cores, .slice_ns = 20000};
    struct cohort_executor_stats stats = {.struct_size = sizeof stats};
    struct side sides[2] = {{0}};
    uint64_t a = 0, b = 0;
    cohort_executor *ex = NULL;
    CHECK(cohort_executor_alloc(&o, &ex) == 0);
    for (int i = 0; i < 2; ++i) {
        struct cohort_padata_options p = {.struct_size = sizeof p};
        CHECK(cohort_tenant_alloc(ex, i ? "b" : NULL, &sides[i].tenant) == 0 && cohort_tenant_id(sides[i].tenant) == i + 1);
        if (cpus > 1) CHECK(cohort_core_create(ex, i + 1, COHORT_SCOPE_THREAD) == 0);
        p.tenant = sides[i].tenant;
        CHECK(cohort_padata_alloc(&p, &sides[i].pool) == 0 && cohort_shell_alloc(sides[i].pool, NULL, &sides[i].shell) == 0);
    }
    if (cpus > 1) {
        CHECK(cohort_core_get(ex, 1, &a) == 0 && cohort_core_get(ex, 2, &b) == 0 && a && b && a != b);
        CHECK(cohort_core_share_from(ex, 1) == 0 && cohort_core_share_to(ex, 2, COHORT_SCOPE_THREAD) == 0 && cohort_core_get(ex, 2, &b) == 0 && a == b);
        CHECK(cohort_core_clear(ex, 2, COHORT_SCOPE_THREAD) == 0 && cohort_core_get(ex, 2, &b) == 0 && b == 0);
        CHECK(cohort_core_create(ex, 3, COHORT_SCOPE_THREAD) == -ESRCH);
    }
    for (int k = 0; k < 4000; ++k) CHECK(cohort_shell_submit(sides[k % 2].shell, spin_a_little, count_one, &sides[k % 2]) == 0);
    for (int i = 0; i < 2; ++i) CHECK(cohort_shell_drain(sides[i].shell) == 0 && atomic_load(&sides[i].delivered) == 2000);
    CHECK(cohort_executor_stats_get(ex, &stats) == 0 && stats.overlap_ns == 0 && stats.astray == 0 && (cpus < 2 || (stats.turns > 0 && stats.stretches > 0)));
    stats.struct_size = 8;
    CHECK(cohort_executor_stats_get(ex, &stats) == -EINVAL);
    CHECK(cohort_core_create(ex, 1, 3) == -EINVAL && strstr(cohort_last_error(), "COHORT_SCOPE_THREAD") && cohort_core_get(ex, 1, NULL) == -EINVAL);
    for (int i = 0; i < 2; ++i) cohort_shell_free(sides[i].shell), cohort_padata_free(sides[i].pool), cohort_tenant_free(sides[i].tenant);
    cohort_executor_free(ex);
    o.cores = "0-1 1-2";
    CHECK(cohort_executor_alloc(&o, &ex) == -EINVAL && strstr(cohort_last_error(), "two cores"));
    o.cores = "0-x";
    CHECK(cohort_executor_alloc(&o, &ex) == -EINVAL && cohort_executor_alloc(NULL, NULL) == -EINVAL && cohort_tenant_alloc(NULL, NULL, NULL) == -EINVAL);
    o.struct_size = 1;
    CHECK(cohort_executor_alloc(&o, &ex) == -EINVAL);
    CHECK(cohort_executor_alloc(NULL, &ex) == 0); /* the machine's own cores */
    cohort_executor_free(ex), cohort_executor_free(NULL), cohort_tenant_free(NULL);
    return 0;
}

/* Two kinds of kernels run the same claim: one has it, the other says why not. */
int c_the_kernels_core_scheduling_is_there_or_says_why_not(void) {
    char why[200] = "x";
    uint64_t mine = 1;
    const int here = cohort_core_facility(why, sizeof why);
    CHECK(cohort_core_facility(NULL, 0) == here);
    if (here == 0) {
        CHECK(why[0] == 0 && cohort_core_create(NULL, 0, COHORT_SCOPE_THREAD) == 0 && cohort_core_get(NULL, 0, &mine) == 0 && mine);
        CHECK(cohort_core_clear(NULL, 0, COHORT_SCOPE_THREAD) == 0 && cohort_core_get(NULL, 0, &mine) == 0 && mine == 0);
        return 0;
    }
    CHECK(strlen(why) > 10 && strstr(cohort_last_error(), why));
    CHECK(cohort_core_get(NULL, 0, &mine) == here && mine == 1 && cohort_core_create(NULL, 0, COHORT_SCOPE_THREAD) == here);
    CHECK(cohort_core_share_to(NULL, 0, COHORT_SCOPE_PROCESS) == here && cohort_core_share_from(NULL, 0) == here && cohort_core_clear(NULL, 0, COHORT_SCOPE_THREAD) < 0);
    return 0;
}

int c_the_library_is_of_the_header_s_version(void) {
    CHECK(cohort_version_number() == COHORT_VERSION_NUMBER);
    CHECK(!strcmp(cohort_version(), "0.1.0"));
    return 0;
}
