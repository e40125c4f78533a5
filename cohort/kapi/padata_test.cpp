// SPDX-License-Identifier: Apache-2.0
// Calling sequences as they stand in kernel code, over our ordered jobs.
#include <cohort/kapi/padata.h>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <cohort/machine/usable.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/thread.hpp>

namespace {

/// What a cipher's users submit: the job embedded in their own structure.
struct request {
    int number;
    int result;
    struct padata_priv padata;
    struct stream* to;
};

struct stream {
    int next = 0, wrong = 0, freed = 0;
    std::vector<int> infos, cpus;
    bool keep_cpus = false;
};

void request_parallel(struct padata_priv* padata) {
    struct request* req = container_of(padata, struct request, padata);
    req->result = req->number * 3;
    padata->info = req->number % 10 == 7 ? -EIO : 0;
    padata_do_serial(padata);
}

void request_serial(struct padata_priv* padata) {
    struct request* req = container_of(padata, struct request, padata);
    struct stream* to = req->to;
    if (req->number != to->next || req->result != req->number * 3 || padata->seq_nr != static_cast<unsigned>(req->number)) to->wrong++;
    to->next++;
    to->infos.push_back(padata->info);
    if (to->keep_cpus) to->cpus.push_back(cohort::sys::current_cpu());
    to->freed++;
    std::free(req);
}

struct request* request_alloc(struct stream* to, int number, void (*parallel)(struct padata_priv*) = request_parallel, void (*serial)(struct padata_priv*) = request_serial) {
    auto* req = static_cast<struct request*>(std::malloc(sizeof(struct request)));
    std::memset(req, 0, sizeof(*req));
    req->number = number;
    req->to = to;
    req->padata.parallel = parallel;
    req->padata.serial = serial;
    return req;
}

int last_usable_cpu() { return cohort::machine::usable(cohort::sys::real())->cpus.last(); }
int beyond_the_machine() { return cohort::machine::usable(cohort::sys::real())->possible.last() + 1; }

TEST(kapi_padata, requests_complete_in_the_order_of_submission_with_their_info) {
    struct padata_instance* pinst = padata_alloc("pencrypt");
    ASSERT_TRUE(pinst);
    struct padata_shell* ps = padata_alloc_shell(pinst);
    ASSERT_TRUE(ps);
    struct stream to;
    for (int i = 0; i < 20000; i++) {
        int cb_cpu = 0, err;
        struct request* req = request_alloc(&to, i);
        err = padata_do_parallel(ps, &req->padata, &cb_cpu);
        ASSERT_EQ(err, 0);
    }
    padata_free_shell(ps);  // waits for them
    EXPECT_EQ(to.next, 20000);
    EXPECT_EQ(to.wrong, 0);
    EXPECT_EQ(to.freed, 20000);
    for (int i = 0; i < 20000; i++) ASSERT_EQ(to.infos[static_cast<std::size_t>(i)], i % 10 == 7 ? -EIO : 0);
    padata_free(pinst);
}

TEST(kapi_padata, a_cb_cpu_outside_the_serial_mask_is_replaced_and_written_back) {
    struct padata_instance* pinst = padata_alloc("pinst");
    struct padata_shell* ps = padata_alloc_shell(pinst);
    struct stream to;
    to.keep_cpus = true;
    cpumask_var_t mask;
    ASSERT_TRUE(zalloc_cpumask_var(&mask, GFP_KERNEL));
    const int only = last_usable_cpu();
    cpumask_set_cpu(static_cast<unsigned>(only), mask);
    ASSERT_EQ(padata_set_cpumask(pinst, PADATA_CPU_SERIAL, mask), 0);
    for (int asked = 0; asked < beyond_the_machine(); asked++) {
        int cb_cpu = asked;
        struct request* req = request_alloc(&to, asked);
        ASSERT_EQ(padata_do_parallel(ps, &req->padata, &cb_cpu), 0);
        EXPECT_EQ(cb_cpu, only);
    }
    padata_free_shell(ps);
    for (int cpu : to.cpus) EXPECT_EQ(cpu, only);
    EXPECT_EQ(to.wrong, 0);
    free_cpumask_var(mask);
    padata_free(pinst);
}

TEST(kapi_padata, errors_are_negative_errnos_and_change_nothing) {
    struct padata_instance* pinst = padata_alloc("pinst");
    struct padata_shell* ps = padata_alloc_shell(pinst);
    struct stream to;
    struct request* req = request_alloc(&to, 0);
    for (int cb_cpu : {-1, beyond_the_machine(), 1 << 20}) EXPECT_EQ(padata_do_parallel(ps, &req->padata, &cb_cpu), -EINVAL);
    cpumask_var_t mask;
    ASSERT_TRUE(alloc_cpumask_var(&mask, GFP_KERNEL));
    EXPECT_EQ(padata_set_cpumask(pinst, PADATA_CPU_PARALLEL, mask), -EINVAL);  // empty
    cpumask_set_cpu(8191, mask);
    EXPECT_EQ(padata_set_cpumask(pinst, PADATA_CPU_PARALLEL, mask), -EINVAL);  // beyond the machine
    cpumask_clear(mask);
    cpumask_set_cpu(static_cast<unsigned>(last_usable_cpu()), mask);
    for (int type : {0, 4, PADATA_CPU_SERIAL | PADATA_CPU_PARALLEL}) EXPECT_EQ(padata_set_cpumask(pinst, type, mask), -EINVAL);
    EXPECT_EQ(padata_set_cpumask(pinst, PADATA_CPU_PARALLEL, mask), 0);
    int cb_cpu = last_usable_cpu();
    EXPECT_EQ(padata_do_parallel(ps, &req->padata, &cb_cpu), 0);  // the one that was refused above
    padata_free_shell(ps);
    EXPECT_EQ(to.next, 1);
    EXPECT_EQ(to.wrong, 0);
    free_cpumask_var(mask);
    padata_free(pinst);
    padata_free_shell(nullptr);
    padata_free(nullptr);
}

std::mutex device_lock;
std::vector<struct padata_priv*> device;  // what a device works on

void to_device(struct padata_priv* padata) {
    const std::lock_guard hold(device_lock);
    device.push_back(padata);
}

TEST(kapi_padata, a_device_may_finish_them_later_in_any_order) {
    struct padata_instance* pinst = padata_alloc("pdecrypt");
    struct padata_shell* ps = padata_alloc_shell(pinst);
    struct stream to;
    for (int i = 0; i < 100; i++) {
        int cb_cpu = 0;
        struct request* req = request_alloc(&to, i, to_device);
        req->result = i * 3;
        ASSERT_EQ(padata_do_parallel(ps, &req->padata, &cb_cpu), 0);
    }
    for (std::size_t done = 0; done < 100;) {
        std::vector<struct padata_priv*> some;
        {
            const std::lock_guard hold(device_lock);
            some.swap(device);
        }
        for (auto p = some.rbegin(); p != some.rend(); ++p) padata_do_serial(*p);  // the youngest first
        done += some.size();
        std::this_thread::yield();
    }
    padata_free_shell(ps);
    EXPECT_EQ(to.next, 100);
    EXPECT_EQ(to.wrong, 0);
    padata_free(pinst);
}

struct repeater {
    struct padata_priv padata;
    struct padata_shell* ps;
    int left;
    std::atomic<int>* runs;
};

void repeater_parallel(struct padata_priv* padata) {
    container_of(padata, struct repeater, padata)->runs->fetch_add(1);
    padata_do_serial(padata);
}
void repeater_serial(struct padata_priv* padata) {
    struct repeater* r = container_of(padata, struct repeater, padata);
    int cb_cpu = padata->cb_cpu;
    if (r->left-- > 0) {
        ASSERT_EQ(padata_do_parallel(r->ps, padata, &cb_cpu), 0);
    }
}

TEST(kapi_padata, serial_may_submit_its_own_job_again) {
    struct padata_instance* pinst = padata_alloc("again");
    struct padata_shell* ps = padata_alloc_shell(pinst);
    std::atomic<int> runs = 0;
    struct repeater r = {};
    r.ps = ps;
    r.left = 99;
    r.runs = &runs;
    r.padata.parallel = repeater_parallel;
    r.padata.serial = repeater_serial;
    int cb_cpu = last_usable_cpu();
    ASSERT_EQ(padata_do_parallel(ps, &r.padata, &cb_cpu), 0);
    while (runs < 100) std::this_thread::yield();
    padata_free_shell(ps);
    EXPECT_EQ(runs, 100);
    EXPECT_EQ(r.padata.cb_cpu, last_usable_cpu());
    padata_free(pinst);
}

TEST(kapi_padata, shells_are_ordered_each_for_itself_while_masks_change) {
    struct padata_instance* pinst = padata_alloc("many");
    struct padata_shell* shells[4];
    struct stream to[4];
    cpumask_var_t all, one;
    ASSERT_TRUE(zalloc_cpumask_var(&all, GFP_KERNEL) && zalloc_cpumask_var(&one, GFP_KERNEL));
    *all = cohort::machine::usable(cohort::sys::real())->cpus;
    cpumask_set_cpu(cpumask_first(all), one);
    for (auto& ps : shells) ASSERT_TRUE(ps = padata_alloc_shell(pinst));
    for (int i = 0; i < 2000; i++) {
        for (int s = 0; s < 4; s++) {
            int cb_cpu = s;
            cb_cpu = cb_cpu % beyond_the_machine();
            struct request* req = request_alloc(&to[s], i);
            ASSERT_EQ(padata_do_parallel(shells[s], &req->padata, &cb_cpu), 0);
        }
        if (i % 100 == 0) {
            ASSERT_EQ(padata_set_cpumask(pinst, i % 200 ? PADATA_CPU_PARALLEL : PADATA_CPU_SERIAL, i % 300 ? one : all), 0);
        }
    }
    for (auto& ps : shells) padata_free_shell(ps);
    for (const auto& s : to) {
        EXPECT_EQ(s.next, 2000);
        EXPECT_EQ(s.wrong, 0);
    }
    free_cpumask_var(all);
    free_cpumask_var(one);
    padata_free(pinst);
}

struct clear_args {
    std::vector<std::atomic<unsigned char>>* pages;
    std::atomic<unsigned long> calls{0};
    std::atomic<bool> ragged{false};
    unsigned long align = 1, end = 0;
};

void clear_pages(unsigned long start, unsigned long end, void* arg) {
    auto* args = static_cast<struct clear_args*>(arg);
    args->calls++;
    if (end != args->end && end % args->align) args->ragged = true;
    for (unsigned long i = start; i < end; i++) (*args->pages)[i]++;
}

TEST(kapi_padata, multithreaded_jobs_cover_their_range_once_in_aligned_chunks) {
    std::vector<std::atomic<unsigned char>> pages(100000);
    struct clear_args args = {};
    args.pages = &pages;
    args.align = 64;
    args.end = 99990;
    struct padata_mt_job job = {
        .thread_fn = clear_pages, .fn_arg = &args, .start = 10, .size = 99980, .align = 64, .min_chunk = 512, .max_threads = 4, .numa_aware = true,
    };
    padata_do_multithreaded(&job);
    EXPECT_GT(args.calls, 1u);
    EXPECT_FALSE(args.ragged);
    for (unsigned long i = 0; i < pages.size(); i++) ASSERT_EQ(pages[i], i >= 10 && i < 99990) << i;
    args.calls = 0;
    job.size = 0;
    padata_do_multithreaded(&job);
    EXPECT_EQ(args.calls, 0u);
    job = {.thread_fn = clear_pages, .fn_arg = &args, .start = 0, .size = 100, .align = 0, .min_chunk = 0, .max_threads = 0, .numa_aware = false};
    padata_do_multithreaded(&job);
    EXPECT_EQ(args.calls, 1u) << "one thread: one call";
}

TEST(kapi_padata, masks_of_cpus_answer_as_the_kernels_do) {
    cpumask_var_t a, b;
    ASSERT_TRUE(zalloc_cpumask_var(&a, GFP_KERNEL) && alloc_cpumask_var(&b, GFP_KERNEL));
    for (unsigned cpu : {1u, 3u, 70u}) cpumask_set_cpu(cpu, a);
    cpumask_copy(b, a);
    cpumask_clear_cpu(3, b);
    EXPECT_TRUE(cpumask_test_cpu(70, a) && !cpumask_test_cpu(2, a) && cpumask_subset(b, a) && !cpumask_equal(a, b) && cpumask_intersects(a, b));
    EXPECT_EQ(cpumask_weight(a), 3u);
    unsigned cpu, sum = 0;
    for_each_cpu(cpu, a) sum += cpu;
    EXPECT_EQ(sum, 74u);
    EXPECT_TRUE(cpumask_andnot(a, a, b));
    EXPECT_EQ(cpumask_first(a), 3u);
    EXPECT_FALSE(cpumask_and(a, a, b));
    EXPECT_TRUE(cpumask_empty(a));
    EXPECT_EQ(cpumask_first(a), static_cast<unsigned>(cohort::max_cpus));
    cpumask_or(a, a, b);
    EXPECT_TRUE(cpumask_equal(a, b));
    free_cpumask_var(a);
    free_cpumask_var(b);
}

TEST(kapi_padata, what_parallel_throws_becomes_eio) {
    struct padata_instance* pinst = padata_alloc("throws");
    struct padata_shell* ps = padata_alloc_shell(pinst);
    struct stream to;
    int cb_cpu = 0;
    struct request* req = request_alloc(&to, 0, [](struct padata_priv*) { throw std::runtime_error("C++ in kernel code"); });
    ASSERT_EQ(padata_do_parallel(ps, &req->padata, &cb_cpu), 0);
    padata_free_shell(ps);
    EXPECT_EQ(to.infos, std::vector<int>{-EIO});
    padata_free(pinst);
}

}  // namespace
