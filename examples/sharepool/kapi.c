/* SPDX-License-Identifier: Apache-2.0 */
/* A program as one writes it against openEuler's share_pool.h: a parent and its child meet in a group, and pass a list by raw pointers.
 *
 *     cohortd & ; COHORT_SOCKET=... build/examples/kapi          (or: build/examples/kapi_run, which brings a broker with it) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cohort/sharepool/share_pool.h>

struct node {
    struct node *next;
    char text[56];
};

static void must(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "%s: %s\n", what, sp_last_error());
    exit(1);
}

static int count(struct mm_struct *mm, void *n) {
    (void)mm;
    ++*(int *)n;
    return 0;
}

int main(void) {
    int to_parent[2], to_child[2], id, members = 0, ids[4], num = 4, status = 0;
    struct node *list = NULL, *n;
    must(pipe(to_parent) == 0 && pipe(to_child) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) { /* attaches by itself, is added by its parent, and follows the pointer that it is given */
        must(mg_sp_id_of_current() > 0, "local group");
        must(write(to_parent[1], "a", 1) == 1, "write");
        must(read(to_child[0], &list, sizeof list) == (ssize_t)sizeof list, "read");
        for (n = list; n; n = n->next) printf("%s\n", n->text);
        must(mg_sp_free((unsigned long)list->next, SPG_ID_DEFAULT) == 0, "free by the child");
        must(mg_sp_free((unsigned long)list->next, SPG_ID_DEFAULT) < 0, "a second free is refused");
        exit(0);
    }
    id = mg_sp_group_add_task(getpid(), PROT_READ | PROT_WRITE, SPG_ID_AUTO);
    must(id >= SPG_ID_AUTO_MIN && id <= SPG_ID_AUTO_MAX, "add myself");
    must(read(to_parent[0], ids, 1) == 1, "the child is attached");
    must(mg_sp_group_add_task(child, PROT_READ | PROT_WRITE, id) == id, "add the child");
    must(mg_sp_group_add_task(child, PROT_READ | PROT_WRITE, id) < 0, "only once");
    must(sp_group_walk(id, &members, count) == 0 && members == 2, "walk");
    must(mg_sp_group_id_by_pid(child, ids, &num) == 0 && num == 1 && ids[0] == id, "its groups");
    for (int i = 0; i < 3; i++) {
        n = mg_sp_alloc(sizeof *n, SP_HUGEPAGE, id);
        must(!IS_ERR(n), "alloc");
        must(is_sharepool_addr((unsigned long)n), "an address of the pool");
        n->next = list, list = n;
        snprintf(n->text, sizeof n->text, "record %d", i);
    }
    must(PTR_ERR(mg_sp_alloc(0, 0, id)) == -22, "no size is EINVAL");
    must(write(to_child[1], &list, sizeof list) == (ssize_t)sizeof list, "write");
    must(waitpid(child, &status, 0) == child && status == 0, "the child");

    /* A file's memory to the group, and this program's to a file. */
    char *buffer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(buffer, "from a user");
    void *kva = sp_make_share_u2k((unsigned long)buffer, 4096, getpid());
    must(!IS_ERR(kva), "u2k");
    char *uva = mg_sp_make_share_k2u((unsigned long)kva, 4096, 0, getpid(), id);
    must(!IS_ERR(uva) && strcmp(uva, "from a user") == 0, "k2u");
    must(mg_sp_unshare((unsigned long)uva, 4096, id) == 0 && mg_sp_unshare((unsigned long)kva, 4096, id) == 0, "unshare");
    struct sp_walk_data pages;
    must(sp_walk_page_range((unsigned long)list, 100, NULL, &pages) == 0 && pages.page_count == 1, "walk over pages");
    sp_walk_page_free(&pages);
    sp_walk_page_free(&pages);
    printf("group %d\n", id);
    return 0;
}
