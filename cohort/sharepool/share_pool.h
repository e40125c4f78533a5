/* SPDX-License-Identifier: Apache-2.0 */
/* The share pool under openEuler's own names and signatures (include/linux/share_pool.h, 4.19 to 6.6), for C and C++ programs that were written for it.
 *
 *     int id = mg_sp_group_add_task(getpid(), PROT_READ | PROT_WRITE, SPG_ID_AUTO);
 *     char *p = mg_sp_alloc(4096, SP_HUGEPAGE, id);                       // zeroed, at the same address in every member
 *     if (IS_ERR(p)) die(PTR_ERR(p), sp_last_error());                    // -ENOMEM, ...
 *     mg_sp_free((unsigned long)p, id);
 *
 * The process attaches to the broker ($COHORT_SOCKET) at the first call; -EOPNOTSUPP: there is none. Functions answer 0, an id or a negative errno; those that answer a pointer, ERR_PTR(-errno).
 * Two generations stand side by side: sp_* knows one group for each process, mg_sp_* many.
 *
 * What the kernel takes and gives as the address of kernel memory is here a token for a piece of a file: sp_kva_of_file() makes one of a memfd or a dma-buf, sp_make_share_u2k() of the caller's memory. Tokens can
 * be added to, and cannot be followed. The same with more to say: share_pool.hpp.
 * Not here: what only the kernel calls (sp_group_exit, sp_area_drop): the broker and the members do it by themselves. */
#ifndef COHORT_SHARE_POOL_H
#define COHORT_SHARE_POOL_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SP_HUGEPAGE (1UL << 0)      /* huge pages, or small ones if there are none */
#define SP_HUGEPAGE_ONLY (1UL << 1) /* -ENOMEM if there are none */
#define SP_DVPP (1UL << 2)          /* in the window of the flags' device */
#define SP_SPEC_NODE_ID (1UL << 3)  /* on the flags' node; else on the one of the device's number */
#define SP_PROT_RO (1UL << 16)      /* for reading by all but the caller */
#define SP_PROT_FOCUS (1UL << 17)   /* with SP_PROT_RO alone */
#define DEVICE_ID_SHIFT 32UL
#define DEVICE_ID_BITS 4UL
#define DEVICE_ID_MASK ((1UL << DEVICE_ID_BITS) - 1UL)
#define NODE_ID_SHIFT (DEVICE_ID_SHIFT + DEVICE_ID_BITS)
#define NODE_ID_BITS 10UL
#define NODE_ID_MASK ((1UL << NODE_ID_BITS) - 1UL)

#define SPG_ID_NONE (-1)
#define SPG_ID_DEFAULT 0
#define SPG_ID_MIN 1
#define SPG_ID_MAX 99999
#define SPG_ID_AUTO_MIN 100000
#define SPG_ID_AUTO_MAX 199999
#define SPG_ID_AUTO 200000
#define SPG_ID_LOCAL_MIN 200001
#define SPG_ID_LOCAL_MAX 299999
#define SPG_ID_DVPP_PASS_THROUGH_MIN 800000
#define SPG_ID_DVPP_PASS_THROUGH_MAX 899999
#define SPG_ID_DVPP_PASS_THROUGH 900000

#define MAX_DEVID 8

#define SP_MAX_ERRNO 4095
#ifndef COHORT_HAS_ERR_PTR /* a program that has these three defines it */
static inline void *ERR_PTR(long code) { return (void *)code; }
static inline long PTR_ERR(const void *p) { return (long)p; }
static inline bool IS_ERR(const void *p) { return (unsigned long)p >= (unsigned long)-SP_MAX_ERRNO; }
#endif

#ifndef COHORT_HAS_NODEMASK /* likewise */
typedef struct {
    unsigned long bits[1024 / (8 * sizeof(unsigned long))];
} nodemask_t;
#endif

struct task_struct; /* the calling process alone: NULL */

/* A member, as sp_group_walk() shows it. */
struct mm_struct {
    int owner_pid;
    unsigned long prot; /* PROT_READ, PROT_WRITE */
};

/* What a notifier is called with. */
struct sp_group {
    int id;
};

#ifndef COHORT_HAS_NOTIFIER_BLOCK
struct notifier_block {
    int (*notifier_call)(struct notifier_block *nb, unsigned long action, void *data);
    struct notifier_block *next;
    int priority;
};
#endif

/* A page of memory that sp_walk_page_range() looked up: a piece of a file that can be mapped as long as the walk's pages are not freed. */
struct page {
    int fd;
    unsigned long offset;
};

struct sp_walk_data {
    struct page **pages;
    unsigned int page_count;
    unsigned long uva_aligned;
    unsigned long page_size;
    bool is_hugepage;
};

/* Groups. pid: any thread's. */
int sp_group_add_task(int pid, int spg_id);
int mg_sp_group_add_task(int pid, unsigned long prot, int spg_id);
int sp_group_del_task(int pid, int spg_id);
int mg_sp_group_del_task(int pid, int spg_id);
int sp_group_id_by_pid(int pid);
/* *num: how many ids have place; how many there are, after. -E2BIG: more than have place. */
int mg_sp_group_id_by_pid(int pid, int *spg_ids, int *num);
/* Until func answers something else than 0; that is the answer. */
int sp_group_walk(int spg_id, void *data, int (*func)(struct mm_struct *mm, void *data));
int mg_sp_id_of_current(void);

/* Memory. */
void *sp_alloc(unsigned long size, unsigned long sp_flags, int spg_id);
void *mg_sp_alloc(unsigned long size, unsigned long sp_flags, int spg_id);
void *mg_sp_alloc_nodemask(unsigned long size, unsigned long sp_flags, int spg_id, nodemask_t nodemask);
int sp_free(unsigned long addr);
int mg_sp_free(unsigned long addr, int id);

/* Memory of the "kernel" to users, and of users to the "kernel". */
unsigned long sp_kva_of_file(int fd, unsigned long offset, unsigned long size); /* an ERR_PTR's value on failure; sp_unshare() ends it */
int sp_file_of_kva(unsigned long kva, unsigned long *offset);                   /* the file of a token: a descriptor that stays the token's */
void *sp_make_share_k2u(unsigned long kva, unsigned long size, unsigned long sp_flags, int pid, int spg_id);
void *mg_sp_make_share_k2u(unsigned long kva, unsigned long size, unsigned long sp_flags, int pid, int spg_id);
void *sp_make_share_u2k(unsigned long uva, unsigned long size, int pid);
void *mg_sp_make_share_u2k(unsigned long uva, unsigned long size, int pid);
int sp_unshare(unsigned long va, unsigned long size, int pid, int spg_id);
int mg_sp_unshare(unsigned long va, unsigned long size, int id);
int sp_walk_page_range(unsigned long uva, unsigned long size, struct task_struct *tsk, struct sp_walk_data *data);
void sp_walk_page_free(struct sp_walk_data *data);

/* Devices. For the groups that the caller is in. */
bool sp_config_dvpp_range(size_t start, size_t size, int device_id, int pid);
bool is_sharepool_addr(unsigned long addr);

/* Called with the struct sp_group that has died, by a thread of the library. -EEXIST: registered already; -ENOENT: not registered. */
int sp_register_notifier(struct notifier_block *nb);
int sp_unregister_notifier(struct notifier_block *nb);

/* Why the last call of this thread that failed did so, in one line. Never NULL. */
const char *sp_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
