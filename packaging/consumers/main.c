/* SPDX-License-Identifier: Apache-2.0 */
/* The same from C. */
#include <cohort.h>
#include <stdio.h>

struct square {
    long number, value, *next;
    int *in_order;
};

static void square(void *arg) {
    struct square *s = arg;
    s->value = s->number * s->number;
}

static void take(void *arg, int info) {
    struct square *s = arg;
    if (info || *s->next != s->number || s->value != s->number * s->number) *s->in_order = 0;
    ++*s->next;
}

int main(void) {
    static struct square squares[1000];
    long next = 0;
    int in_order = 1;
    cohort_padata *pool;
    cohort_shell *stream;
    if (cohort_padata_alloc(NULL, &pool) || cohort_shell_alloc(pool, NULL, &stream)) return fprintf(stderr, "%s\n", cohort_last_error()), 5;
    for (long i = 0; i < 1000; ++i) {
        squares[i] = (struct square){.number = i, .next = &next, .in_order = &in_order};
        if (cohort_shell_submit(stream, square, take, &squares[i])) return fprintf(stderr, "%s\n", cohort_last_error()), 5;
    }
    if (cohort_shell_drain(stream)) return fprintf(stderr, "%s\n", cohort_last_error()), 5;
    cohort_shell_free(stream);
    cohort_padata_free(pool);
    printf("%ld squares, %s, cohort %s\n", next, in_order ? "in order" : "OUT OF ORDER", cohort_version());
    return in_order && next == 1000 ? 0 : 1;
}
